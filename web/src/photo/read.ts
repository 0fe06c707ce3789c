/** A photo's file, by its signature, as upright pixels (SPEC 9). Nothing converts its colours. */
import { PhotoError } from "../types.ts";
import { jpegSize, readJpeg } from "./jpeg/file.ts";
import type { Photo } from "./photo.ts";
import { pngSize, readPng } from "./png-read.ts";
import { upright } from "./turns.ts";
import { readWebp, webpSize } from "./webp.ts";

/** A larger picture is a bomb, or takes more memory than a page may have. */
export const MAX_PIXELS = 64_000_000;
export const MAX_BYTES = 256 * 1024 * 1024;

interface Format {
  readonly is: (data: Uint8Array) => boolean;
  readonly size: (data: Uint8Array) => [number, number];
  readonly read: (data: Uint8Array) => Photo | Promise<Photo>;
}

const FORMATS: readonly Format[] = [
  { is: (data) => has(data, 0, "\xff\xd8\xff"), size: jpegSize, read: readJpeg },
  { is: (data) => has(data, 0, "\x89PNG\r\n\x1a\n"), size: pngSize, read: readPng },
  { is: (data) => has(data, 0, "RIFF") && has(data, 8, "WEBP"), size: webpSize, read: readWebp },
];

/** What else people have; by signature, with what to call it. */
const OTHERS: readonly (readonly [string, (data: Uint8Array) => boolean])[] = [
  ["AVIF or HEIC", (data) => has(data, 4, "ftyp")],
  ["GIF", (data) => has(data, 0, "GIF8")],
  ["TIFF", (data) => has(data, 0, "II*\0") || has(data, 0, "MM\0*")],
  ["BMP", (data) => has(data, 0, "BM")],
  ["JPEG XL", (data) => has(data, 0, "\xff\x0a") || has(data, 4, "JXL ")],
  ["PDF", (data) => has(data, 0, "%PDF")],
];

/**
 * Decodes a file. Raises PhotoError for what is empty, truncated, damaged, animated, of another kind, or larger than 64 megapixels;
 * the size is looked at before anything is decoded.
 */
export async function readPhoto(data: Uint8Array): Promise<Photo> {
  if (data.length === 0) throw new PhotoError("the file is empty", "Copy it again from where it came.");
  if (data.length > MAX_BYTES) {
    throw new PhotoError(`the file has ${Math.round(data.length / 2 ** 20)} MB; the limit is ${MAX_BYTES / 2 ** 20}`, "Scale the photo down first.");
  }
  const format = FORMATS.find(({ is }) => is(data));
  if (format === undefined) {
    const name = OTHERS.find(([, is]) => is(data))?.[0];
    throw new PhotoError(name ? `${name} is not read here` : "the file is no JPEG, PNG or WebP photo", "Convert it to JPEG, PNG or WebP first.");
  }
  checkSize(...format.size(data));
  const photo = await format.read(data);
  return { ...photo, raster: upright(photo.raster, photo.exif.orientation) };
}

function checkSize(width: number, height: number): void {
  if (width < 1 || height < 1) throw new PhotoError(`the image has no pixels (${width} x ${height})`, "Copy it again from where it came.");
  if (width * height > MAX_PIXELS) {
    const said = `${width} x ${height} is ${Math.round((width * height) / 1e6)} megapixels; the limit is ${MAX_PIXELS / 1e6}`;
    throw new PhotoError(said, "Scale the photo down first, or use the command line, which takes more.");
  }
}

function has(data: Uint8Array, at: number, text: string): boolean {
  return data.length >= at + text.length && [...text].every((letter, i) => data[at + i] === letter.charCodeAt(0));
}
