/** Pasting a difference into the photo at the photo's own resolution (SPEC 7.5). */
import { carry, clip, invert, rint, scaleOf, type Affine, type Point } from "./affine.ts";
import { CROP, cropTransform } from "./align.ts";
import { topOf, type Raster } from "./raster.ts";
import { areaTaps } from "./resize.ts";
import { isMonochrome } from "./tone.ts";

/** The upright box of a crop in a photo, right and bottom not included. */
export interface Box { readonly left: number; readonly top: number; readonly right: number; readonly bottom: number }

/** Where the canonical crop lies in a photo; null where they do not meet. */
export function regionOf(points: readonly Point[], width: number, height: number): Box | null {
  const back = invert(cropTransform(points));
  const edge = CROP - 1;
  const corners = ([[0, 0], [edge, 0], [0, edge], [edge, edge]] as Point[]).map((corner) => carry(back, corner));
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  const box = {
    left: Math.max(Math.floor(Math.min(...xs)) - 2, 0),
    top: Math.max(Math.floor(Math.min(...ys)) - 2, 0),
    right: Math.min(Math.ceil(Math.max(...xs)) + 3, width),
    bottom: Math.min(Math.ceil(Math.max(...ys)) + 3, height),
  };
  return box.right > box.left && box.bottom > box.top ? box : null;
}

/**
 * Adds `difference` [3, 256, 256] to the photo, in place. `mask` [256 * 256] only says where: the difference holds its weight
 * already, and pixels where it is 0 keep their bits. `grey`: the file has one channel, so all three change alike.
 */
export function pasteInto(photo: Raster, difference: Float32Array, mask: Float32Array, points: readonly Point[], grey = false): void {
  const region = regionOf(points, photo.width, photo.height);
  if (region === null) return;
  const change = grey || isMonochrome(photo, middle(region)) ? lumaOf(difference) : difference;
  const size = CROP * CROP;
  const maps = [mask, ...[0, 1, 2].map((c) => change.subarray(c * size, (c + 1) * size))];
  const sample = carriedBack(maps, points);
  const top = topOf(photo);
  const { data } = photo;
  const values = new Float64Array(4);
  for (let y = region.top; y < region.bottom; y++) {
    for (let x = region.left; x < region.right; x++) {
      sample(x, y, values);
      if (!(values[0] > 0)) continue;
      const at = 4 * (y * photo.width + x);
      for (let c = 0; c < 3; c++) {
        const sum = Math.fround(data[at + c] + Math.fround(Math.fround(values[c + 1]) * top));
        data[at + c] = clip(rint(sum), 0, top);
      }
    }
  }
}

/** The inner half in both directions: the face without what is around it. */
function middle({ left, top, right, bottom }: Box): Box {
  const [x, y] = [Math.floor((right - left) / 4), Math.floor((bottom - top) / 4)];
  return { left: left + x, top: top + y, right: right - x, bottom: bottom - y };
}

function lumaOf(difference: Float32Array): Float32Array {
  const size = CROP * CROP;
  const luma = new Float32Array(size);
  for (let i = 0; i < size; i++) luma[i] = 0.299 * difference[i] + 0.587 * difference[size + i] + 0.114 * difference[2 * size + i];
  const result = new Float32Array(3 * size);
  for (let c = 0; c < 3; c++) result.set(luma, c * size);
  return result;
}

type Sample = (x: number, y: number, values: Float64Array) => void;

/** Samples maps [256 * 256] of the crop at a pixel of the photo; 0 beyond the crop. */
export function carriedBack(maps: readonly Float32Array[], points: readonly Point[]): Sample {
  const transform = cropTransform(points);
  const scale = scaleOf(invert(transform));
  if (scale >= 1) return bicubic(maps, transform);
  const side = Math.max(rint(CROP * scale), 1);
  const ratio = CROP / side;
  const shift = (ratio - 1) / 2;
  const [a, b, c, d, e, f] = transform;
  const small: Affine = [a / ratio, b / ratio, (c - shift) / ratio, d / ratio, e / ratio, (f - shift) / ratio];
  return bilinear(maps.map((map) => averaged(map, side)), side, small);
}

/** A map [256 * 256] averaged by exact area to [side * side]. */
function averaged(map: Float32Array, side: number): Float32Array {
  if (side === CROP) return map;
  const taps = areaTaps(CROP, side);
  const result = new Float32Array(side * side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      let sum = 0;
      for (const row of taps[y]) for (const col of taps[x]) sum += row.weight * col.weight * map[row.at * CROP + col.at];
      result[y * side + x] = sum;
    }
  }
  return result;
}

function bilinear(maps: readonly Float32Array[], side: number, transform: Affine): Sample {
  return (x, y, values) => {
    values.fill(0);
    const u = transform[0] * x + transform[1] * y + transform[2];
    const v = transform[3] * x + transform[4] * y + transform[5];
    const left = Math.floor(u);
    const top = Math.floor(v);
    for (let row = top; row <= top + 1; row++) {
      for (let col = left; col <= left + 1; col++) {
        if (row < 0 || col < 0 || row >= side || col >= side) continue;
        const weight = (1 - Math.abs(u - col)) * (1 - Math.abs(v - row));
        for (let k = 0; k < maps.length; k++) values[k] += weight * maps[k][row * side + col];
      }
    }
  };
}

const A = -0.75;

/** The four weights of the bicubic kernel for a place `t` of 0 to 1 behind the second sample. */
function cubic(t: number, weights: Float64Array): void {
  const far = t + 1;
  weights[0] = ((A * far - 5 * A) * far + 8 * A) * far - 4 * A;
  weights[1] = ((A + 2) * t - (A + 3)) * t * t + 1;
  const rest = 1 - t;
  weights[2] = ((A + 2) * rest - (A + 3)) * rest * rest + 1;
  weights[3] = 1 - weights[0] - weights[1] - weights[2];
}

function bicubic(maps: readonly Float32Array[], transform: Affine): Sample {
  const [across, down] = [new Float64Array(4), new Float64Array(4)];
  return (x, y, values) => {
    values.fill(0);
    const u = transform[0] * x + transform[1] * y + transform[2];
    const v = transform[3] * x + transform[4] * y + transform[5];
    const left = Math.floor(u);
    const top = Math.floor(v);
    if (left < -2 || top < -2 || left > CROP || top > CROP) return;
    cubic(u - left, across);
    cubic(v - top, down);
    for (let j = 0; j < 4; j++) {
      const row = top - 1 + j;
      if (row < 0 || row >= CROP) continue;
      for (let i = 0; i < 4; i++) {
        const col = left - 1 + i;
        if (col < 0 || col >= CROP) continue;
        const weight = down[j] * across[i];
        for (let k = 0; k < maps.length; k++) values[k] += weight * maps[k][row * CROP + col];
      }
    }
  };
}
