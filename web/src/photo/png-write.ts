/** PNG files, exact: 8 or 16 bits, grey or colour, with or without alpha (SPEC 9). */
import { chunk, deflated, SIGNATURE } from "./png-chunks.ts";
import { paeth } from "./png-read.ts";
import { lumaRounded } from "./luma.ts";
import { topOf, type Raster } from "./raster.ts";

export interface PngParts {
  readonly grey: boolean;
  readonly alpha: boolean;
  readonly icc: Uint8Array | null;
  readonly exif: Uint8Array | null;
  readonly chunks: readonly (readonly [string, Uint8Array])[];
}

/** `raster`: as it is to be stored. */
export async function writePng(raster: Raster, { grey, alpha, icc, exif, chunks }: PngParts): Promise<Uint8Array> {
  const deep = topOf(raster) > 255;
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, raster.width);
  view.setUint32(4, raster.height);
  header[8] = deep ? 16 : 8;
  header[9] = (grey ? 0 : 2) + (alpha ? 4 : 0);
  const parts = [SIGNATURE, chunk("IHDR", header)];
  for (const [kind, content] of chunks) parts.push(chunk(kind, content));
  if (icc !== null) parts.push(chunk("iCCP", joined([new TextEncoder().encode("ICC profile\0\0"), await deflated(icc)])));
  if (exif !== null) parts.push(chunk("eXIf", exif));
  parts.push(chunk("IDAT", await deflated(filtered(raster, grey, alpha, deep))), chunk("IEND", new Uint8Array(0)));
  return joined(parts);
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

/** Rows, each behind the filter that leaves the least (W3C PNG, 12.7). */
function filtered(raster: Raster, grey: boolean, alpha: boolean, deep: boolean): Uint8Array {
  const step = ((grey ? 1 : 3) + (alpha ? 1 : 0)) * (deep ? 2 : 1);
  const bytes = raster.width * step;
  const result = new Uint8Array(raster.height * (bytes + 1));
  let [line, above] = [new Uint8Array(bytes), new Uint8Array(bytes)];
  const tries = Array.from({ length: 5 }, () => new Uint8Array(bytes));
  for (let y = 0; y < raster.height; y++) {
    packed(raster, y, line, grey, alpha, deep);
    const best = bestFilter(line, above, step, tries);
    result[y * (bytes + 1)] = best;
    result.set(tries[best], y * (bytes + 1) + 1);
    [line, above] = [above, line];
  }
  return result;
}

function packed(raster: Raster, y: number, line: Uint8Array, grey: boolean, alpha: boolean, deep: boolean): void {
  const { data, width } = raster;
  let place = 0;
  const put = (value: number) => {
    if (deep) line[place++] = value >> 8;
    line[place++] = value & 255;
  };
  for (let x = 0, at = 4 * y * width; x < width; x++, at += 4) {
    if (grey) put(lumaRounded(data, at));
    else for (let c = 0; c < 3; c++) put(data[at + c]);
    if (alpha) put(data[at + 3]);
  }
}

function bestFilter(line: Uint8Array, above: Uint8Array, step: number, tries: readonly Uint8Array[]): number {
  const costs = [0, 0, 0, 0, 0];
  for (let i = 0; i < line.length; i++) {
    const left = i >= step ? line[i - step] : 0;
    const corner = i >= step ? above[i - step] : 0;
    const value = line[i];
    tries[0][i] = value;
    tries[1][i] = value - left;
    tries[2][i] = value - above[i];
    tries[3][i] = value - ((left + above[i]) >> 1);
    tries[4][i] = value - paeth(left, above[i], corner);
    for (let k = 0; k < 5; k++) costs[k] += tries[k][i] < 128 ? tries[k][i] : 256 - tries[k][i];
  }
  return costs.indexOf(Math.min(...costs));
}
