/** Whether something is held or worn before nose and mouth (SPEC 8.7). */
import { CROP } from "./align.ts";
import { RULE } from "./covered-rule.ts";
import { blurred, kernel } from "./gaussian.ts";

const [LEFT, TOP, WINDOW, SIDE, CELLS, BINS] = [64, 116, 128, 64, 8, 9];
const [BLUR, FLAT, MARGIN] = [0.7, 2e-5, 1.5];
const CELL = SIDE / CELLS;

/** `crop`: [1, 3, 256, 256], RGB 0 to 1. */
export function isCovered(crop: Float32Array): boolean {
  const weights = rule();
  const features = coveredFeatures(crop);
  let sum = weights[BINS * CELLS * CELLS];
  for (let i = 0; i < features.length; i++) sum += features[i] * weights[i];
  return sum > MARGIN;
}

/** 577 numbers, the bias last. */
export function rule(): Float32Array {
  const bytes = Uint8Array.from(atob(RULE), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

/** Histograms [9, 8, 8] of directions. */
export function coveredFeatures(crop: Float32Array): Float32Array {
  const bins = histogram(blurred(halved(crop), SIDE, SIDE, kernel(BLUR, 7)));
  const around = contrast(bins);
  return bins.map((value, i) => Math.sqrt(value / Math.sqrt(around[i % (CELLS * CELLS)] + FLAT)));
}

/** The luma of the window, averaged to [64 * 64]. */
function halved(crop: Float32Array): Float32Array {
  const size = CROP * CROP;
  const step = WINDOW / SIDE;
  const small = new Float32Array(SIDE * SIDE);
  for (let y = 0; y < WINDOW; y++) {
    for (let x = 0; x < WINDOW; x++) {
      const at = (TOP + y) * CROP + LEFT + x;
      const luma = Math.fround(0.299 * crop[at] + 0.587 * crop[size + at] + 0.114 * crop[2 * size + at]);
      small[Math.floor(y / step) * SIDE + Math.floor(x / step)] += luma / (step * step);
    }
  }
  return small;
}

/** Slopes by direction, averaged over cells: [9, 8, 8]. */
function histogram(grey: Float32Array): Float32Array {
  const bins = new Float32Array(BINS * CELLS * CELLS);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const at = y * SIDE + x;
      const across = x > 0 && x < SIDE - 1 ? grey[at + 1] - grey[at - 1] : 0;
      const down = y > 0 && y < SIDE - 1 ? grey[at + SIDE] - grey[at - SIDE] : 0;
      const length = Math.hypot(across, down) / (CELL * CELL);
      const angle = Math.atan2(down, across);
      const place = ((angle < 0 ? angle + Math.PI : angle) / Math.PI) * BINS;
      const low = Math.floor(place);
      const cell = Math.floor(y / CELL) * CELLS + Math.floor(x / CELL);
      bins[(low % BINS) * CELLS * CELLS + cell] += length * (1 - (place - low));
      bins[((low + 1) % BINS) * CELLS * CELLS + cell] += length * (place - low);
    }
  }
  return bins;
}

/** Mean over 3 x 3 cells, the border repeated, of the squares of all bins: [8, 8]. */
function contrast(bins: Float32Array): Float64Array {
  const squares = new Float64Array(CELLS * CELLS);
  bins.forEach((value, i) => (squares[i % squares.length] += value * value));
  const inside = (at: number) => Math.min(Math.max(at, 0), CELLS - 1);
  return squares.map((_, i) => {
    const [row, col] = [Math.floor(i / CELLS), i % CELLS];
    let sum = 0;
    for (let y = -1; y <= 1; y++) for (let x = -1; x <= 1; x++) sum += squares[inside(row + y) * CELLS + inside(col + x)];
    return sum / 9;
  });
}
