/** PNG files: every colour type and depth, interlaced or not (W3C PNG, 7 to 10). */
import { PhotoError } from "../types.ts";
import { readExif } from "./exif.ts";
import type { Photo } from "./photo.ts";
import { brokenPng, chunksOf, inflated, type Chunk } from "./png-chunks.ts";
import type { Raster } from "./raster.ts";

/** Chunks that say how colours are to be shown, and the resolution, with their only size: no room for anything else. */
const COLOUR: Readonly<Record<string, number>> = {
  gAMA: 4, cHRM: 32, sRGB: 1, cICP: 4, mDCV: 24, mDCv: 24, cLLI: 8, cLLi: 8, pHYs: 9,
};
/** The largest ICC profile that is read. */
const LARGEST_PROFILE = 16 << 20;

interface Header { readonly width: number; readonly height: number; readonly depth: number; readonly type: number; readonly interlaced: boolean }

const CHANNELS: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const DEPTHS: Readonly<Record<number, readonly number[]>> = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };
/** First column and row, and steps, of Adam7's passes. */
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]] as const;

/** Width and height as the header says; the signature has been seen. */
export function pngSize(data: Uint8Array): [number, number] {
  if (data.length < 24) throw brokenPng("its header is cut");
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return [view.getUint32(16), view.getUint32(20)];
}

/** The photo as it is stored: not turned yet. */
export async function readPng(data: Uint8Array): Promise<Photo> {
  const chunks = chunksOf(data);
  const header = headerOf(chunks[0]);
  const animation = find(chunks, "acTL");
  if (animation && new DataView(animation.buffer, animation.byteOffset).getUint32(0) > 1) {
    throw new PhotoError("the PNG is animated", "Save one frame as a still image first.");
  }
  const palette = find(chunks, "PLTE");
  if (header.type === 3 && palette === null) throw brokenPng("its palette is missing");
  const hidden = find(chunks, "tRNS");
  const passes = passesOf(header);
  const size = passes.reduce((sum, pass) => sum + pass.rows * (1 + pass.bytes), 0);
  const parts = chunks.filter(({ kind }) => kind === "IDAT").map(({ content }) => content);
  const rows = await inflated(parts, size, () => brokenPng("its pixels end too early"));
  const raster = pixels(header, passes, rows, palette, hidden);
  const alpha = header.type >= 4 || hidden !== null;
  return {
    container: "png", raster, grey: header.type === 0 || header.type === 4, alpha, lossless: true,
    exif: readExif(find(chunks, "eXIf")),
    icc: await profile(find(chunks, "iCCP")),
    chunks: chunks.filter(({ kind, content }) => COLOUR[kind] === content.length).map(({ kind, content }) => [kind, content.slice()] as const),
    density: null,
    notes: notesOf(header, hidden !== null, data.length - chunks[chunks.length - 1].end),
  };
}

function find(chunks: readonly Chunk[], kind: string): Uint8Array | null {
  return chunks.find((one) => one.kind === kind)?.content ?? null;
}

function notesOf({ type }: Header, hidden: boolean, behind: number): string[] {
  const notes: string[] = [];
  if (type === 3) notes.push("the palette became true colour");
  else if (hidden) notes.push("the transparent colour became an alpha channel");
  if (behind > 0) notes.push(`something of ${behind} bytes after the picture was left out`);
  return notes;
}

function headerOf({ kind, content }: Chunk): Header {
  if (kind !== "IHDR" || content.length !== 13) throw brokenPng("its header is missing");
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const [depth, type, interlace] = [content[8], content[9], content[12]];
  if (!DEPTHS[type]?.includes(depth) || content[10] !== 0 || content[11] !== 0 || interlace > 1) throw brokenPng("its header makes no sense");
  return { width: view.getUint32(0), height: view.getUint32(4), depth, type, interlaced: interlace === 1 };
}

async function profile(chunk: Uint8Array | null): Promise<Uint8Array | null> {
  if (chunk === null) return null;
  const name = chunk.indexOf(0);
  if (name < 0 || chunk[name + 1] !== 0) return null;
  const packed = chunk.subarray(name + 2);
  const failed = () => brokenPng("its colour profile cannot be read");
  try {
    const start = await inflated([packed], 4, failed);
    const size = new DataView(start.buffer).getUint32(0);
    return size > 128 && size <= LARGEST_PROFILE ? await inflated([packed], size, failed) : null;
  } catch {
    return null;
  }
}

interface Pass { readonly x: number; readonly y: number; readonly dx: number; readonly dy: number; readonly cols: number; readonly rows: number; readonly bytes: number }

function passesOf({ width, height, depth, type, interlaced }: Header): Pass[] {
  const steps = interlaced ? PASSES : ([[0, 0, 1, 1]] as const);
  const passes = steps.map(([x, y, dx, dy]) => {
    const [cols, rows] = [Math.ceil((width - x) / dx), Math.ceil((height - y) / dy)];
    return { x, y, dx, dy, cols, rows, bytes: Math.ceil((cols * depth * CHANNELS[type]) / 8) };
  });
  return passes.filter(({ cols, rows }) => cols > 0 && rows > 0);
}

function pixels(header: Header, passes: readonly Pass[], rows: Uint8Array, palette: Uint8Array | null, hidden: Uint8Array | null): Raster {
  const { width, height, depth, type } = header;
  const data = depth === 16 ? new Uint16Array(width * height * 4) : new Uint8ClampedArray(width * height * 4);
  const put = painter(header, data, palette, hidden);
  const step = Math.max((depth * CHANNELS[type]) >> 3, 1);
  let at = 0;
  for (const { x, y, dx, dy, cols, rows: count, bytes } of passes) {
    let above: Uint8Array = new Uint8Array(bytes);
    for (let row = 0; row < count; row++, at += bytes + 1) {
      const line = rows.subarray(at + 1, at + 1 + bytes);
      unfilter(rows[at], line, above, step);
      const start = (y + row * dy) * width + x;
      for (let col = 0; col < cols; col++) put(line, col, 4 * (start + col * dx));
      above = line;
    }
  }
  return { data, width, height };
}

/** Undoes a row's filter, in place (W3C PNG, 9.2). */
function unfilter(filter: number, line: Uint8Array, above: Uint8Array, step: number): void {
  if (filter > 4) throw brokenPng("a row has an unknown filter");
  for (let i = 0; i < line.length && filter > 0; i++) {
    const left = i >= step ? line[i - step] : 0;
    if (filter === 1) line[i] += left;
    else if (filter === 2) line[i] += above[i];
    else if (filter === 3) line[i] += (left + above[i]) >> 1;
    else line[i] += paeth(left, above[i], i >= step ? above[i - step] : 0);
  }
}

export function paeth(left: number, above: number, corner: number): number {
  const guess = left + above - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - above), Math.abs(guess - corner)];
  return a <= b && a <= c ? left : b <= c ? above : corner;
}

type Put = (line: Uint8Array, col: number, at: number) => void;

/** Writes a sample as RGBA. Depths below 8 are stretched to 0..255. `hidden`: the colour that means transparent, or a palette's alphas. */
function painter({ depth, type }: Header, data: Uint8ClampedArray | Uint16Array, palette: Uint8Array | null, hidden: Uint8Array | null): Put {
  const channels = CHANNELS[type];
  const top = depth === 16 ? 65535 : 255;
  const read = (line: Uint8Array, index: number): number => {
    if (depth === 8) return line[index];
    if (depth === 16) return (line[2 * index] << 8) | line[2 * index + 1];
    return (line[(index * depth) >> 3] >> (8 - depth - ((index * depth) & 7))) & ((1 << depth) - 1);
  };
  if (type === 3) {
    return (line, col, at) => {
      const entry = read(line, col);
      if (3 * entry + 2 >= palette!.length) throw brokenPng("a pixel is not in its palette");
      for (let c = 0; c < 3; c++) data[at + c] = palette![3 * entry + c];
      data[at + 3] = hidden?.[entry] ?? 255;
    };
  }
  const colours = channels < 3 ? 1 : 3;
  const scale = depth < 8 ? 255 / ((1 << depth) - 1) : 1;
  const key = hidden === null || type > 2 || hidden.length < 2 * colours ? null
    : Array.from({ length: colours }, (_, c) => (hidden[2 * c] << 8) | hidden[2 * c + 1]);
  return (line, col, at) => {
    let clear = key !== null;
    for (let c = 0; c < colours; c++) {
      const value = read(line, col * channels + c);
      clear &&= value === key![c];
      data[at + c] = value * scale;
    }
    if (colours === 1) data[at + 1] = data[at + 2] = data[at];
    data[at + 3] = type >= 4 ? read(line, col * channels + channels - 1) : clear ? 0 : top;
  };
}
