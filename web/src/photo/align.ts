/** The similarity from photo to canonical crop, and the crop (SPEC 7.1, 7.2). */
import type { Float } from "../core/tensors.ts";
import { PhotoError } from "../types.ts";
import { carry, clip, compose, invert, rint, scaleOf, type Affine, type Point } from "./affine.ts";
import { levels, type Raster } from "./raster.ts";

export const CROP = 256;
const TEMPLATE: readonly Point[] = [
  [38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041],
];
/** Where the five points belong in the canonical crop (SPEC 1). */
export const CANONICAL: readonly Point[] = TEMPLATE.map(([x, y]) => [(x - 55.9133) * 1.816 + 128, (y - 51.59885) * 1.816 + 118]);

/** The least squares similarity that carries five points of a photo to the canonical ones. */
export function cropTransform(points: readonly Point[]): Affine {
  if (points.length !== 5) throw new PhotoError(`a face has five points, got ${points.length}`, "Pass left eye, right eye, nose, mouth corners.");
  const [zx, zy] = mean(points);
  const [cx, cy] = mean(CANONICAL);
  let re = 0, im = 0, spread = 0;
  for (let k = 0; k < 5; k++) {
    const [x, y] = [points[k][0] - zx, points[k][1] - zy];
    const [u, v] = [CANONICAL[k][0] - cx, CANONICAL[k][1] - cy];
    re += x * u + y * v;
    im += x * v - y * u;
    spread += x * x + y * y;
  }
  if (!(spread / 5 >= 1e-12)) throw new PhotoError("the five points coincide", "Pass the points of one face, in pixels of the photo.");
  re /= spread;
  im /= spread;
  return [re, -im, cx - re * zx + im * zy, im, re, cy - im * zx - re * zy];
}

/** Degrees by which five points are turned against the clock in the photo; 0 for an upright face. */
export function tilt(points: readonly Point[]): number {
  const transform = cropTransform(points);
  return (Math.atan2(transform[3], transform[0]) * 180) / Math.PI;
}

/** How often (0..3) a quarter against the clock brings an upright face to how these points lie. */
export function quarterTurns(points: readonly Point[]): number {
  return ((rint(tilt(points) / 90) % 4) + 4) % 4;
}

/** Root mean square distance of the points, carried to the crop, from the canonical ones; in pixels of the crop. */
export function misfit(points: readonly Point[]): number {
  const transform = cropTransform(points);
  let sum = 0;
  points.forEach((point, k) => {
    const [x, y] = carry(transform, point);
    sum += (x - CANONICAL[k][0]) ** 2 + (y - CANONICAL[k][1]) ** 2;
  });
  return Math.sqrt(sum / 5);
}

/**
 * The canonical crop [1, 3, 256, 256], RGB 0 to 1. A large face is rendered at a whole multiple of the size and averaged down, so
 * that fine texture does not alias. Levels are rounded before the average, as 8-bit pixels (SPEC 7.2).
 */
export function alignedCrop(photo: Raster, points: readonly Point[]): Float {
  const transform = cropTransform(points);
  const shrink = Math.max(Math.floor(1 / Math.max(scaleOf(transform), 1e-6) + 1e-6), 1);
  const up: Affine = [shrink, 0, (shrink - 1) / 2, 0, shrink, (shrink - 1) / 2];
  const data = new Float32Array(3 * CROP * CROP);
  const sample = sampler(photo, invert(compose(up, transform)));
  const sums = new Float64Array(CROP * 3);
  for (let row = 0; row < CROP; row++) {
    sums.fill(0);
    for (let y = row * shrink; y < (row + 1) * shrink; y++) sample(y, CROP * shrink, shrink, sums);
    for (let x = 0; x < CROP; x++) {
      for (let c = 0; c < 3; c++) data[(c * CROP + row) * CROP + x] = Math.fround(sums[3 * x + c]) / 255 / (shrink * shrink);
    }
  }
  return { data, shape: [1, 3, CROP, CROP] };
}

/** Adds a rendered row to the sums of the crop's columns. Positions and weights are float32, as OpenCV's: a level may hang on it. */
function sampler(photo: Raster, back: Affine) {
  const { width, height } = photo;
  const seen = levels(photo);
  const f = Math.fround;
  const [ax, ay] = [f(back[0]), f(back[3])];
  return (y: number, count: number, shrink: number, sums: Float64Array) => {
    const [ox, oy] = [f(y * back[1] + back[2]), f(y * back[4] + back[5])];
    for (let x = 0; x < count; x++) {
      const [px, py] = [f(ax * x + ox), f(ay * x + oy)];
      const [left, top] = [Math.floor(px), Math.floor(py)];
      const [u, v] = [f(px - left), f(py - top)];
      const [x0, x1] = [clip(left, 0, width - 1), clip(left + 1, 0, width - 1)];
      const [y0, y1] = [clip(top, 0, height - 1) * width, clip(top + 1, 0, height - 1) * width];
      const at = 3 * Math.floor(x / shrink);
      for (let c = 0; c < 3; c++) {
        const [a, b] = [seen((y0 + x0) * 4 + c), seen((y0 + x1) * 4 + c)];
        const [p, q] = [seen((y1 + x0) * 4 + c), seen((y1 + x1) * 4 + c)];
        const above = f(u * (b - a) + a);
        const below = f(u * (q - p) + p);
        sums[at + c] += rint(f(v * f(below - above) + above));
      }
    }
  };
}

function mean(points: readonly Point[]): [number, number] {
  const sum = points.reduce(([x, y], [u, v]) => [x + u, y + v], [0, 0] as [number, number]);
  return [sum[0] / points.length, sum[1] / points.length];
}
