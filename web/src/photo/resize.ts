/**
 * How the detector's image is made (SPEC 6.1): by area where the photo shrinks, else bilinear. Both round as OpenCV does on 8 bits,
 * for the detector's points move by a tenth of a pixel with less.
 */
import { clip, rint } from "./affine.ts";
import type { Raster } from "./raster.ts";

interface Tap { readonly at: number; readonly weight: number }

/** Planes [3, height, width] of 0 to 255. `photo`: 8 bits. `shrinks`: by area. */
export function resized(photo: Raster, width: number, height: number, shrinks: boolean): Float32Array {
  if (width === photo.width && height === photo.height) return planes(photo);
  if (shrinks && width <= photo.width && height <= photo.height) return byArea(photo, width, height);
  return bilinear(photo, width, height, shrinks);
}

function planes(photo: Raster): Float32Array {
  const size = photo.width * photo.height;
  const result = new Float32Array(3 * size);
  for (let i = 0; i < size; i++) for (let c = 0; c < 3; c++) result[c * size + i] = photo.data[4 * i + c];
  return result;
}

/** The cells of a line that each of `target` cells covers, with shares that sum up to 1. */
export function areaTaps(source: number, target: number): Tap[][] {
  const scale = source / target;
  return Array.from({ length: target }, (_, i) => {
    const [low, high] = [i * scale, Math.min((i + 1) * scale, source)];
    const taps: Tap[] = [];
    for (let at = Math.floor(low); at < Math.min(Math.ceil(high), source); at++) {
      const share = (Math.min(high, at + 1) - Math.max(low, at)) / (high - low);
      if (share > 1e-3 / scale) taps.push({ at, weight: Math.fround(share) });
    }
    return taps;
  });
}

function byArea(photo: Raster, width: number, height: number): Float32Array {
  const [across, down] = [areaTaps(photo.width, width), areaTaps(photo.height, height)];
  const size = width * height;
  const result = new Float32Array(3 * size);
  const sums = new Float32Array(3 * width);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (const { at, weight } of down[y]) addRow(photo, at, across, weight, sums);
    for (let x = 0; x < width; x++) for (let c = 0; c < 3; c++) result[c * size + y * width + x] = rint(sums[3 * x + c]);
  }
  return result;
}

function addRow(photo: Raster, row: number, across: readonly Tap[][], share: number, sums: Float32Array): void {
  const start = row * photo.width * 4;
  for (let x = 0; x < across.length; x++) {
    let r = 0, g = 0, b = 0;
    for (const { at, weight } of across[x]) {
      const index = start + 4 * at;
      r += photo.data[index] * weight;
      g += photo.data[index + 1] * weight;
      b += photo.data[index + 2] * weight;
    }
    sums[3 * x] += Math.fround(r) * share;
    sums[3 * x + 1] += Math.fround(g) * share;
    sums[3 * x + 2] += Math.fround(b) * share;
  }
}

/** Two neighbours of each target cell with whole-number weights that sum up to 2048. Only columns lose the weight beyond the border. */
function linearTaps(source: number, target: number, area: boolean, clips: boolean): { low: Int32Array; high: Int32Array; weights: Int32Array } {
  const scale = source / target;
  const [low, high, weights] = [new Int32Array(target), new Int32Array(target), new Int32Array(2 * target)];
  for (let i = 0; i < target; i++) {
    let at = Math.floor(area ? i * scale : Math.fround((i + 0.5) * scale - 0.5));
    let rest = area ? i + 1 - (at + 1) / scale : Math.fround(Math.fround((i + 0.5) * scale - 0.5) - at);
    if (area) rest = Math.fround(rest <= 0 ? 0 : rest - Math.floor(rest));
    if (clips && at < 0) [at, rest] = [0, 0];
    if (clips && at >= source - 1) [at, rest] = [source - 1, 0];
    low[i] = clip(at, 0, source - 1);
    high[i] = clip(at + 1, 0, source - 1);
    weights[2 * i] = rint(Math.fround(Math.fround(1 - rest) * 2048));
    weights[2 * i + 1] = rint(Math.fround(rest * 2048));
  }
  return { low, high, weights };
}

/** `area`: the coordinates that OpenCV takes where it is asked for areas and a side grows all the same. */
function bilinear(photo: Raster, width: number, height: number, area: boolean): Float32Array {
  const [across, down] = [linearTaps(photo.width, width, area, true), linearTaps(photo.height, height, area, false)];
  const size = width * height;
  const result = new Float32Array(3 * size);
  const row = (at: number): Int32Array => {
    const line = new Int32Array(3 * width);
    for (let x = 0; x < width; x++) {
      const [a, b] = [(at * photo.width + across.low[x]) * 4, (at * photo.width + across.high[x]) * 4];
      for (let c = 0; c < 3; c++) {
        line[3 * x + c] = photo.data[a + c] * across.weights[2 * x] + photo.data[b + c] * across.weights[2 * x + 1];
      }
    }
    return line;
  };
  const lines = new Map<number, Int32Array>();
  for (let y = 0; y < height; y++) {
    const pair = [down.low[y], down.high[y]].map((at) => {
      if (!lines.has(at)) lines.set(at, row(at));
      return lines.get(at)!;
    });
    for (const at of lines.keys()) if (at < down.low[y]) lines.delete(at);
    const [u, v] = [down.weights[2 * y], down.weights[2 * y + 1]];
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) {
        const i = 3 * x + c;
        result[c * size + y * width + x] = (((u * (pair[0][i] >> 4)) >> 16) + ((v * (pair[1][i] >> 4)) >> 16) + 2) >> 2;
      }
    }
  }
  return result;
}
