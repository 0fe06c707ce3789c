/** From the channels of a JPEG file to RGB, and back (JFIF 1.02, page 3), in the whole numbers that libjpeg uses. */
import type { Frame } from "./frame.ts";

type Rows = readonly Uint8ClampedArray[];

export interface Colour {
  readonly grey: boolean;
  readonly cmyk: boolean;
  /** A row of each channel to RGBA at `at`. */
  readonly convert: (rows: Rows, data: Uint8ClampedArray, at: number, width: number) => void;
}

const fixed = (value: number) => Math.floor(value * 65536 + 0.5);
const [RED, BLUE, GREEN_RED, GREEN_BLUE] = [fixed(1.402), fixed(1.772), fixed(0.71414), fixed(0.34414)];
const HALF = 1 << 15;

/** What the channels mean: by the JFIF and Adobe segments, else by the components' names. `adobe`: its transform, -1 for none. */
export function colourOf(frame: Frame | null, jfif: boolean, adobe: number): Colour {
  const ids = frame?.components.map(({ id }) => id) ?? [];
  if (ids.length === 1) return { grey: true, cmyk: false, convert: fromGrey };
  if (ids.length === 4) return { grey: false, cmyk: true, convert: adobe === 2 ? fromYcck : fromCmyk };
  const named = String.fromCharCode(...ids) === "RGB";
  const plain = !jfif && (adobe >= 0 ? adobe === 0 : named);
  return { grey: false, cmyk: false, convert: plain ? fromRgb : fromYcc };
}

function fromGrey([grey]: Rows, data: Uint8ClampedArray, at: number, width: number): void {
  for (let x = 0; x < width; x++, at += 4) {
    data[at] = data[at + 1] = data[at + 2] = grey[x];
    data[at + 3] = 255;
  }
}

function fromRgb([red, green, blue]: Rows, data: Uint8ClampedArray, at: number, width: number): void {
  for (let x = 0; x < width; x++, at += 4) {
    data[at] = red[x];
    data[at + 1] = green[x];
    data[at + 2] = blue[x];
    data[at + 3] = 255;
  }
}

function fromYcc([luma, cb, cr]: Rows, data: Uint8ClampedArray, at: number, width: number): void {
  for (let x = 0; x < width; x++, at += 4) {
    const [y, u, v] = [luma[x], cb[x] - 128, cr[x] - 128];
    data[at] = y + ((RED * v + HALF) >> 16);
    data[at + 1] = y + ((HALF - GREEN_BLUE * u - GREEN_RED * v) >> 16);
    data[at + 2] = y + ((BLUE * u + HALF) >> 16);
    data[at + 3] = 255;
  }
}

/** Inks are stored the other way round, 255 for none. */
function fromCmyk(rows: Rows, data: Uint8ClampedArray, at: number, width: number): void {
  for (let x = 0; x < width; x++) {
    const paper = rows[3][x];
    for (let c = 0; c < 3; c++) {
      const product = (255 - rows[c][x]) * paper + 128;
      data[at + 4 * x + c] = paper - ((product + (product >> 8)) >> 8);
    }
    data[at + 4 * x + 3] = 255;
  }
}

function fromYcck(rows: Rows, data: Uint8ClampedArray, at: number, width: number): void {
  const rgb = new Uint8ClampedArray(4 * width);
  fromYcc(rows, rgb, 0, width);
  const inks = [0, 1, 2].map((c) => Uint8ClampedArray.from({ length: width }, (_, x) => 255 - rgb[4 * x + c]));
  fromCmyk([...inks, rows[3]], data, at, width);
}

const [YR, YG, YB] = [fixed(0.299), fixed(0.587), fixed(0.114)];
const [UR, UG, VG, VB, CHROMA] = [fixed(0.16874), fixed(0.33126), fixed(0.41869), fixed(0.08131), fixed(0.5)];
const OFFSET = (128 << 16) + HALF - 1;

export function lumaOf(r: number, g: number, b: number): number {
  return (YR * r + YG * g + YB * b + HALF) >> 16;
}

export function blueOf(r: number, g: number, b: number): number {
  return (CHROMA * b - UR * r - UG * g + OFFSET) >> 16;
}

export function redOf(r: number, g: number, b: number): number {
  return (CHROMA * r - VG * g - VB * b + OFFSET) >> 16;
}
