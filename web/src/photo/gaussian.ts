/** Gaussian blurs of float maps, with the kernels and borders of OpenCV's (SPEC 8.6, 8.7). */
import { rint } from "./affine.ts";

/** Weights of a kernel that sum up to 1. `taps`: an odd number, or as many as OpenCV takes for a float image: 8 sigma and one. */
export function kernel(sigma: number, taps = rint(sigma * 4 * 2 + 1) | 1): Float64Array {
  const half = (taps - 1) / 2;
  const weights = Float64Array.from({ length: taps }, (_, i) => Math.exp(-((i - half) ** 2) / (2 * sigma * sigma)));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

/** A map [height * width], mirrored about the border pixel. */
export function blurred(map: Float32Array, width: number, height: number, weights: Float64Array): Float32Array {
  const across = lines(map, width, height, weights, 1, width);
  return lines(across, height, width, weights, width, 1);
}

function lines(map: Float32Array, length: number, count: number, weights: Float64Array, step: number, next: number): Float32Array {
  const half = (weights.length - 1) / 2;
  const result = new Float32Array(map.length);
  const places = Int32Array.from({ length: length + 2 * half }, (_, i) => mirrored(i - half, length) * step);
  for (let line = 0; line < count; line++) {
    for (let at = 0; at < length; at++) {
      let sum = 0;
      for (let tap = 0; tap < weights.length; tap++) sum += weights[tap] * map[line * next + places[at + tap]];
      result[line * next + at * step] = sum;
    }
  }
  return result;
}

function mirrored(at: number, length: number): number {
  if (length === 1) return 0;
  let place = at;
  while (place < 0 || place >= length) place = place < 0 ? -place : 2 * length - 2 - place;
  return place;
}
