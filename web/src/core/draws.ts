import { between, made, mirrored, product, transposed, type Banded } from "./banded.ts";
import { PURPOSE, type Stream } from "./philox.ts";
import { zeros, type Float } from "./tensors.ts";

type Pair = readonly [number, number];

/** How far a draw may go (section 4.3). */
export interface DrawSettings {
  readonly probability: number;
  readonly resize: Pair;
  readonly zoom: Pair;
  readonly shift: number;
  readonly blur: Pair;
  readonly noise_std: number;
  readonly flip: number;
}

export const DRAW_DEFAULTS: DrawSettings = { probability: 0.5, resize: [1, 1], zoom: [1, 1], shift: 0, blur: [0, 0], noise_std: 0, flip: 0 };

/** `rows` and `cols` [1, S, S] and `noise` [1, C, S, S]; what is seen is `rows @ image @ cols + noise`. `clean`: nothing changes. */
export interface Draw {
  readonly rows: Float;
  readonly cols: Float;
  readonly noise: Float;
  readonly clean: boolean;
  /** What is seen of an image [1, C, S, S]. */
  apply(image: Float): Float;
  /** The gradient at the image, given that at what is seen of it. */
  pullBack(gradient: Float): Float;
}

/** The draw that changes nothing. */
export function identityDraw(size: number, channels: number): Draw {
  const eye = { data: blurMatrix(size, 0).data, shape: [1, size, size] };
  return { rows: eye, cols: eye, noise: zeros([1, channels, size, size]), clean: true, apply: (image) => image, pullBack: (gradient) => gradient };
}

/** The draw of a step for images [1, channels, size, size]; the same stream and step give the same draw. */
export function drawOf(settings: DrawSettings, size: number, channels: number, stream: Stream, step: number): Draw {
  const [chance, resize, blur, down, across, zoom, flip, level] = stream.uniform(8, step, PURPOSE.draw);
  if (chance >= settings.probability) return identityDraw(size, channels);
  const smooth = smoothing(size, mix(settings.resize, resize), mix(settings.blur, blur));
  const reach: Pair = [-settings.shift, settings.shift], magnified = mix(settings.zoom, zoom);
  const rows = product(smooth, moveMatrix(size, mix(reach, down), magnified));
  const unflipped = transposed(product(smooth, moveMatrix(size, mix(reach, across), magnified)));
  const cols = flip < settings.flip ? mirrored(unflipped) : unflipped;
  const deviation = Math.fround(settings.noise_std * level);
  const noise = stream.normal(channels * size * size, step, PURPOSE.noise).map((value) => value * deviation);
  return drawn(rows, cols, { data: noise, shape: [1, channels, size, size] });
}

function drawn(rows: Banded, cols: Banded, noise: Float): Draw {
  return {
    rows: { data: rows.data, shape: [1, rows.rows, rows.columns] },
    cols: { data: cols.data, shape: [1, cols.rows, cols.columns] },
    noise,
    clean: false,
    apply: (image) => ({ data: between(rows, image.data, cols).map((value, index) => value + noise.data[index]), shape: image.shape }),
    pullBack: (gradient) => ({ data: between(transposed(rows), gradient.data, transposed(cols)), shape: gradient.shape }),
  };
}

function smoothing(size: number, factor: number, sigma: number): Banded {
  const small = Math.max(1, rint(size * factor));
  const blurred = blurMatrix(size, sigma);
  return small < size ? product(product(blurred, resizeMatrix(small, size)), resizeMatrix(size, small)) : blurred;
}

/** [target, source] matrix of a bilinear resize with half-pixel centres, widened when shrinking. */
export function resizeMatrix(source: number, target: number): Banded {
  const scale = source / target, width = Math.max(scale, 1);
  return made(target, source, (row, column) => Math.max(0, 1 - Math.abs((row + 0.5) * scale - 0.5 - column) / width), true);
}

/** [size, size] matrix of a magnification about the centre, then a move; linear between pixels, the edge repeated. */
export function moveMatrix(size: number, pixels: number, zoom: number): Banded {
  const centre = (size - 1) / 2;
  const place = (row: number) => Math.min(Math.max((row - pixels - centre) / zoom + centre, 0), size - 1);
  return made(size, size, (row, column) => Math.max(0, 1 - Math.abs(place(row) - column)));
}

/** [size, size] matrix of a Gaussian blur, each row divided by its sum; the identity below a sigma of 0.001. */
export function blurMatrix(size: number, sigma: number): Banded {
  if (sigma < 1e-3) return made(size, size, (row, column) => Number(row === column));
  return made(size, size, (row, column) => Math.exp((-0.5 * (row - column) * (row - column)) / (sigma * sigma)), true);
}

function mix([low, high]: Pair, part: number): number {
  return low + (high - low) * part;
}

/** To the nearest integer, halves to the even one (section 1). */
function rint(value: number): number {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
