/** Where a method may change the canonical crop (SPEC 7.4). */
import { clip } from "./affine.ts";
import { CROP } from "./align.ts";

export interface Region {
  readonly centre: readonly [number, number];
  readonly radii: readonly [number, number];
  readonly feather: number;
  /** Features to go easy on: x, y, width, height, and the share that is taken away there. */
  readonly spared: readonly (readonly [number, number, number, number, number])[];
}

const ordinary: Region = { centre: [128, 146], radii: [88, 106], feather: 0.25, spared: [] };

/** [256 * 256] of 0 to 1: one inside an ellipse, exactly zero from its rim on, less at spared features. */
export function faceMask(region: Partial<Region> = {}): Float32Array {
  const { centre, radii, feather, spared } = { ...ordinary, ...region };
  const mask = new Float32Array(CROP * CROP);
  for (let y = 0; y < CROP; y++) {
    for (let x = 0; x < CROP; x++) {
      const radius = Math.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1]);
      const ramp = clip((1 - radius) / feather, 0, 1);
      let value = ramp * ramp * (3 - 2 * ramp);
      for (const [sx, sy, width, height, share] of spared) {
        value *= 1 - share * Math.exp(-0.5 * (((x - sx) / width) ** 2 + ((y - sy) / height) ** 2));
      }
      mask[y * CROP + x] = value;
    }
  }
  return mask;
}
