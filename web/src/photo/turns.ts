/** EXIF's eight orientations, and quarter turns, as turns of a raster. */
import { blank, type Raster } from "./raster.ts";

/** Stored rows and columns as upright ones. `orientation`: 1 to 8. */
export function upright(stored: Raster, orientation: number): Raster {
  if (orientation === 1) return stored;
  const swapped = orientation >= 5;
  const result = blank(stored, swapped ? stored.height : stored.width, swapped ? stored.width : stored.height);
  const mirrored = [2, 3, 6, 7].includes(orientation);
  const flipped = [3, 4, 7, 8].includes(orientation);
  // From the place of an upright pixel to that of the stored one.
  const [alongX, alongY] = swapped ? [stored.width, 1] : [1, stored.width];
  const start = (mirrored ? (result.width - 1) * alongX : 0) + (flipped ? (result.height - 1) * alongY : 0);
  copy(stored, result, start, mirrored ? -alongX : alongX, flipped ? -alongY : alongY);
  return result;
}

/** The inverse of `upright`: only 6 and 8 are not their own inverse. */
export function stored(raster: Raster, orientation: number): Raster {
  return upright(raster, { 6: 8, 8: 6 }[orientation] ?? orientation);
}

/** Turned by so many quarters against the clock (SPEC 6.3). */
export function quarters(raster: Raster, turns: number): Raster {
  return upright(raster, [1, 8, 3, 6][((turns % 4) + 4) % 4]);
}

function copy(from: Raster, to: Raster, start: number, stepX: number, stepY: number): void {
  const { width, height } = to;
  if (from.data instanceof Uint8ClampedArray && to.data instanceof Uint8ClampedArray) {
    const source = new Uint32Array(from.data.buffer, from.data.byteOffset, from.data.length / 4);
    const target = new Uint32Array(to.data.buffer, to.data.byteOffset, to.data.length / 4);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0, place = start + y * stepY; x < width; x++, place += stepX) target[at++] = source[place];
    }
    return;
  }
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      const place = (start + y * stepY + x * stepX) * 4;
      for (let c = 0; c < 4; c++) to.data[at + c] = from.data[place + c];
    }
  }
}
