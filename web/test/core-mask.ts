import type { Region } from "../src/core/method.ts";
import type { Float } from "../src/core/tensors.ts";

/** The mask of section 7.4, for tests of the engine floor alone. */
export function maskOf({ centre: [cx, cy], radii: [rx, ry], feather, spared }: Region, size = 256): Float {
  const data = new Float32Array(size * size);
  for (let index = 0; index < data.length; index++) {
    const x = index % size, y = Math.floor(index / size);
    const q = Math.min(Math.max((1 - Math.hypot((x - cx) / rx, (y - cy) / ry)) / feather, 0), 1);
    data[index] = spared.reduce(
      (kept, [sx, sy, width, height, share]) => kept * (1 - share * Math.exp(-(((x - sx) / width) ** 2 + ((y - sy) / height) ** 2) / 2)),
      q * q * (3 - 2 * q),
    );
  }
  return { data, shape: [1, 1, size, size] };
}
