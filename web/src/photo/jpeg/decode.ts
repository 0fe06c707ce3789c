/** A JPEG file's pixels as libjpeg gives them: accurate transform, smooth chroma, no colour profile applied (SPEC 9). */
import type { Raster } from "../raster.ts";
import { colourOf, type Colour } from "./colour.ts";
import { isFrame, readFrame, readHuffman, readQuantisers, type Component, type Frame, type Tables } from "./frame.ts";
import { inverse } from "./idct.ts";
import { broken, nextSegment, word } from "./markers.ts";
import { readScan } from "./scan.ts";
import { upsampled } from "./upsample.ts";

export interface JpegPicture {
  readonly raster: Raster;
  /** The file has one channel. */
  readonly grey: boolean;
  readonly cmyk: boolean;
  /** Where the picture ends in the file. */
  readonly end: number;
}

/** The size has been checked by the caller. Raises PhotoError for what is truncated, damaged, or coded in a way that is not read. */
export function decodeJpeg(data: Uint8Array): JpegPicture {
  const tables: Tables = { quantisers: [], dc: [], ac: [], restart: 0 };
  const facts = { jfif: false, adobe: -1 };
  let frame: Frame | null = null;
  for (let at = 2; ; ) {
    const segment = nextSegment(data, at);
    const { marker, start, end } = segment;
    at = end;
    if (marker === 0xd9) return { ...picture(frame, colourOf(frame, facts.jfif, facts.adobe)), end };
    if (marker === 0xdb) readQuantisers(data, segment, tables);
    else if (marker === 0xc4) readHuffman(data, segment, tables);
    else if (marker === 0xdd) tables.restart = word(data, start);
    else if (marker === 0xe0 && starts(data, start, "JFIF")) facts.jfif = true;
    else if (marker === 0xee && starts(data, start, "Adobe") && end - start >= 12) facts.adobe = data[start + 11];
    else if (isFrame(marker)) {
      if (frame !== null) throw broken("it has two frame headers");
      frame = readFrame(data, segment);
    } else if (marker === 0xda) {
      if (frame === null) throw broken("a scan comes before the frame header");
      at = readScan(data, segment, frame, tables);
    }
  }
}

function starts(data: Uint8Array, at: number, text: string): boolean {
  return [...text].every((letter, i) => data[at + i] === letter.charCodeAt(0));
}

function picture(frame: Frame | null, colour: Colour): Omit<JpegPicture, "end"> {
  if (frame === null) throw broken("it holds no picture");
  frame.components.forEach((component) => samples(component));
  const { width, height } = frame;
  const data = new Uint8ClampedArray(width * height * 4);
  const rows = frame.components.map((component) => upsampled(component, frame));
  for (let y = 0; y < height; y++) colour.convert(rows.map((row) => row(y)), data, y * width * 4, width);
  frame.components.forEach((component) => (component.plane = null));
  return { raster: { data, width, height }, grey: colour.grey, cmyk: colour.cmyk };
}

/** The plane of a progressive component; a sequential one has it already. */
function samples(component: Component): void {
  const { cols, rows, coefficients, table } = component;
  if (component.plane !== null) return;
  if (coefficients === null || table === null) throw broken("a component has no scan");
  component.plane = new Uint8ClampedArray(cols * rows * 64);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      inverse(coefficients, 64 * (row * cols + col), table, component.plane, (row * cols * 8 + col) * 8, cols * 8);
    }
  }
  component.coefficients = null;
}
