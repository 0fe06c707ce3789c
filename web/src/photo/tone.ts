/** Whether a patch of a photo is black and white, or toned in one hue (SPEC 7.5). */
import type { Box } from "./paste.ts";
import { topOf, type Raster } from "./raster.ts";

const [SAMPLES, FEWEST, LEFT] = [96, 64, 5];

/** Whether its colour follows from its brightness: 98 of 100 samples come within 5 levels of 255 of a cubic function of the luma. */
export function isMonochrome(photo: Raster, box: Box): boolean {
  const samples = sampled(photo, box);
  const count = samples.length / 3;
  if (count < FEWEST) return allEqual(photo, box);
  const powers = new Float64Array(4 * count);
  const [red, blue] = [new Float64Array(count), new Float64Array(count)];
  for (let i = 0; i < count; i++) {
    const [r, g, b] = [samples[3 * i], samples[3 * i + 1], samples[3 * i + 2]];
    const luma = (0.299 * r + 0.587 * g + 0.114 * b) / 127.5 - 1;
    for (let k = 0, power = 1; k < 4; k++, power *= luma) powers[4 * i + k] = power;
    red[i] = r - g;
    blue[i] = b - g;
  }
  return [red, blue].every((chroma) => percentile98(unexplained(powers, chroma)) <= LEFT);
}

/** RGB samples of 0 to 255, so many a side at most (nearly). */
function sampled(photo: Raster, { left, top, right, bottom }: Box): Float64Array {
  const stepY = Math.max(Math.floor((bottom - top) / SAMPLES), 1);
  const stepX = Math.max(Math.floor((right - left) / SAMPLES), 1);
  const scale = 255 / topOf(photo);
  const found: number[] = [];
  for (let y = top; y < bottom; y += stepY) {
    for (let x = left; x < right; x += stepX) {
      const at = 4 * (y * photo.width + x);
      found.push(photo.data[at] * scale, photo.data[at + 1] * scale, photo.data[at + 2] * scale);
    }
  }
  return Float64Array.from(found);
}

function allEqual(photo: Raster, { left, top, right, bottom }: Box): boolean {
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const at = 4 * (y * photo.width + x);
      if (photo.data[at] !== photo.data[at + 1] || photo.data[at] !== photo.data[at + 2]) return false;
    }
  }
  return true;
}

/** What a least squares fit of the columns of `powers` [n, 4] leaves of `values` [n], without sign. */
function unexplained(powers: Float64Array, values: Float64Array): Float64Array {
  const basis = orthonormal(powers, values.length);
  const rest = Float64Array.from(values);
  for (const column of basis) {
    let along = 0;
    for (let i = 0; i < rest.length; i++) along += column[i] * rest[i];
    for (let i = 0; i < rest.length; i++) rest[i] -= along * column[i];
  }
  return rest.map(Math.abs);
}

/** An orthonormal basis of the columns [n, 4], by Gram-Schmidt done twice; a column that depends on the others adds none. */
function orthonormal(powers: Float64Array, count: number): Float64Array[] {
  const basis: Float64Array[] = [];
  for (let k = 0; k < 4; k++) {
    const column = Float64Array.from({ length: count }, (_, i) => powers[4 * i + k]);
    const length = Math.sqrt(column.reduce((sum, x) => sum + x * x, 0));
    for (let pass = 0; pass < 2; pass++) {
      for (const other of basis) {
        const along = other.reduce((sum, x, i) => sum + x * column[i], 0);
        for (let i = 0; i < count; i++) column[i] -= along * other[i];
      }
    }
    const left = Math.sqrt(column.reduce((sum, x) => sum + x * x, 0));
    if (left > 1e-12 * length && left > 0) basis.push(column.map((x) => x / left));
  }
  return basis;
}

function percentile98(values: Float64Array): number {
  const sorted = Float64Array.from(values).sort();
  const place = 0.98 * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
}
