/** Chroma at the picture's full size: a triangle filter where it has half the samples, as libjpeg's "fancy upsampling"; else repeated. */
import type { Component, Frame } from "./frame.ts";
import { broken } from "./markers.ts";

type Row = (y: number) => Uint8ClampedArray;

/** Gives the component's row `y` of the picture; the array is used again for the next. */
export function upsampled(component: Component, frame: Frame): Row {
  const [across, down] = [frame.hMax / component.h, frame.vMax / component.v];
  const { width, height, cols } = component;
  const plane = component.plane!;
  const own = (y: number) => plane.subarray(Math.min(Math.max(y, 0), height - 1) * cols * 8, Math.min(Math.max(y, 0), height - 1) * cols * 8 + width);
  if (!Number.isInteger(across) || !Number.isInteger(down)) throw broken("its chroma is sampled in a way that is not read");
  const line = new Uint8ClampedArray(width * across);
  if (across === 1 && down === 1) return own;
  if (across === 2 && down === 1 && width > 2) return (y) => doubled(own(y), line);
  if (across === 1 && down === 2) return (y) => between(own(y >> 1), own((y >> 1) + (y % 2 ? 1 : -1)), y % 2 ? 2 : 1, line);
  if (across === 2 && down === 2 && width > 2) {
    const sums = new Uint16Array(width);
    return (y) => doubledBetween(own(y >> 1), own((y >> 1) + (y % 2 ? 1 : -1)), sums, line);
  }
  return (y) => {
    const row = own(Math.floor(y / down));
    for (let x = 0; x < line.length; x++) line[x] = row[Math.floor(x / across)];
    return line;
  };
}

function doubled(row: Uint8ClampedArray, line: Uint8ClampedArray): Uint8ClampedArray {
  const last = row.length - 1;
  for (let x = 0; x <= last; x++) {
    line[2 * x] = x === 0 ? row[0] : (3 * row[x] + row[x - 1] + 1) >> 2;
    line[2 * x + 1] = x === last ? row[last] : (3 * row[x] + row[x + 1] + 2) >> 2;
  }
  return line;
}

function between(near: Uint8ClampedArray, far: Uint8ClampedArray, bias: number, line: Uint8ClampedArray): Uint8ClampedArray {
  for (let x = 0; x < line.length; x++) line[x] = (3 * near[x] + far[x] + bias) >> 2;
  return line;
}

function doubledBetween(near: Uint8ClampedArray, far: Uint8ClampedArray, sums: Uint16Array, line: Uint8ClampedArray): Uint8ClampedArray {
  const last = near.length - 1;
  for (let x = 0; x <= last; x++) sums[x] = 3 * near[x] + far[x];
  for (let x = 0; x <= last; x++) {
    line[2 * x] = x === 0 ? (4 * sums[0] + 8) >> 4 : (3 * sums[x] + sums[x - 1] + 8) >> 4;
    line[2 * x + 1] = x === last ? (4 * sums[last] + 7) >> 4 : (3 * sums[x] + sums[x + 1] + 7) >> 4;
  }
  return line;
}
