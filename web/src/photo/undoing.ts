/** Whether a change takes away what an earlier protection has put into a face (SPEC 8.6). */
import { CROP } from "./align.ts";
import { blurred, kernel } from "./gaussian.ts";

const SIZE = CROP * CROP;
const [FINE, AROUND] = [2, 6];

/** The share of `difference` [3, 256, 256] that stands in `crop` [1, 3, 256, 256] with the opposite sign; 0 for no change. */
export function undoingShare(crop: Float32Array, difference: Float32Array, mask: Float32Array): number {
  const [photo, change] = [fine(crop), fine(difference)];
  const [theirs, ours] = [strength(photo), strength(change)];
  let [along, power] = [0, 0];
  for (let i = 0; i < 3 * SIZE; i++) {
    const at = i % SIZE;
    const weight = mask[at] * Math.min(1, ((2 * ours[at]) / Math.max(theirs[at], 1e-6)) ** 2);
    along += weight * photo[i] * change[i];
    power += weight * change[i] * change[i];
  }
  return power > 0 ? -along / power : 0;
}

/** What is finer than 2 px of three planes. */
function fine(image: Float32Array): Float32Array {
  const weights = kernel(FINE);
  const result = new Float32Array(3 * SIZE);
  for (let c = 0; c < 3; c++) {
    const plane = image.subarray(c * SIZE, (c + 1) * SIZE);
    const smooth = blurred(plane, CROP, CROP, weights);
    for (let i = 0; i < SIZE; i++) result[c * SIZE + i] = plane[i] - smooth[i];
  }
  return result;
}

/** Root of the mean square around each pixel. */
function strength(image: Float32Array): Float32Array {
  const power = new Float32Array(SIZE);
  for (let i = 0; i < SIZE; i++) power[i] = (image[i] ** 2 + image[SIZE + i] ** 2 + image[2 * SIZE + i] ** 2) / 3;
  return blurred(power, CROP, CROP, kernel(AROUND)).map((value) => Math.sqrt(Math.max(value, 0)) + 1e-5);
}
