/** A JPEG file as a photo: the picture with the segments that are kept (SPEC 9). */
import { readExif } from "../exif.ts";
import { lumaRounded } from "../luma.ts";
import type { Photo } from "../photo.ts";
import { joined } from "../png-write.ts";
import type { Raster } from "../raster.ts";
import { decodeJpeg } from "./decode.ts";
import { encodeJpeg } from "./encode.ts";
import { frameSize, isFrame } from "./frame.ts";
import { broken, headSegments } from "./markers.ts";

const PROFILE = "ICC_PROFILE\0";
/** What fits into a segment behind its length. */
const ROOM = 65533;

/** Width and height as the frame header says. */
export function jpegSize(data: Uint8Array): [number, number] {
  for (const segment of headSegments(data)) if (isFrame(segment.marker)) return frameSize(data, segment);
  throw broken("it holds no picture");
}

/** The photo as it is stored: not turned yet. */
export function readJpeg(data: Uint8Array): Photo {
  let exif: Uint8Array | null = null;
  let density: Uint8Array | null = null;
  const profile: Uint8Array[] = [];
  for (const { marker, start, end } of headSegments(data)) {
    const content = data.subarray(start, end);
    if (marker === 0xe1 && exif === null && begins(content, "Exif\0")) exif = content.subarray(6);
    if (marker === 0xe2 && begins(content, PROFILE) && content.length > 14) profile.push(content.subarray(12));
    if (marker === 0xe0 && begins(content, "JFIF\0") && content.length >= 12) density = content.slice(7, 12);
  }
  const picture = decodeJpeg(data);
  const notes: string[] = [];
  if (picture.cmyk) notes.push("CMYK was converted to RGB; its ICC profile was left out");
  return {
    container: "jpeg", raster: picture.raster, grey: picture.grey, alpha: false, lossless: false,
    exif: readExif(exif), icc: picture.cmyk ? null : assembled(profile), chunks: [], density,
    notes: [...notes, ...leftOut(data, picture.end)],
  };
}

/** `raster`: as it is to be stored. `exif`: without "Exif\0\0". */
export function writeJpeg(
  raster: Raster, quality: number, grey: boolean, icc: Uint8Array | null, exif: Uint8Array | null, density: Uint8Array | null,
): Uint8Array {
  const segments = [segment(0xe0, joined([text("JFIF\0"), Uint8Array.of(1, 1), density ?? Uint8Array.of(0, 0, 1, 0, 1), Uint8Array.of(0, 0)]))];
  if (exif !== null) segments.push(segment(0xe1, joined([text("Exif\0\0"), exif])));
  const part = ROOM - PROFILE.length - 2;
  const count = Math.ceil((icc?.length ?? 0) / part);
  for (let i = 0; i < count; i++) {
    segments.push(segment(0xe2, joined([text(PROFILE), Uint8Array.of(i + 1, count), icc!.subarray(i * part, (i + 1) * part)])));
  }
  return encodeJpeg(grey ? inLuma(raster) : raster, quality, grey, segments);
}

function inLuma(raster: Raster): Raster {
  const data = new Uint8ClampedArray(raster.data.length);
  for (let at = 0; at < data.length; at += 4) data[at] = lumaRounded(raster.data, at);
  return { ...raster, data };
}

function begins(content: Uint8Array, name: string): boolean {
  return [...name].every((letter, i) => content[i] === letter.charCodeAt(0));
}

function text(letters: string): Uint8Array {
  return Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
}

function segment(marker: number, content: Uint8Array): Uint8Array {
  return joined([Uint8Array.of(0xff, marker, (content.length + 2) >> 8, (content.length + 2) & 255), content]);
}

/** The parts of a profile in their order; null where one is missing. Each begins with its number and their count. */
function assembled(parts: readonly Uint8Array[]): Uint8Array | null {
  const sorted = [...parts].sort((one, other) => one[0] - other[0]);
  const whole = sorted.length > 0 && sorted.length <= 255 && sorted.every((part, i) => part[0] === i + 1 && part[1] === sorted.length);
  return whole ? joined(sorted.map((part) => part.subarray(2))) : null;
}

/** What follows the picture, or belongs to it elsewhere, and will not be written. */
function leftOut(data: Uint8Array, end: number): string[] {
  let [first, last] = [end, data.length];
  while (first < last && data[first] === 0) first++;
  while (last > first && data[last - 1] === 0) last--;
  const name = new TextDecoder("latin1").decode(data.subarray(0, Math.min(end, 1 << 17)));
  const rest = new TextDecoder("latin1").decode(data.subarray(first, last));
  if (/hdrgm:|HDRGainMap|aux:hdrgainmap|urn:iso:std:iso:ts:21496/.test(name + rest)) {
    return ["the HDR gain map was left out: the photo is written in its standard range"];
  }
  if (rest.length === 0) return [];
  if (rest.includes("\xff\xd8\xff")) return [`the file holds more than one picture: only the first was kept, ${rest.length} bytes after it were left out`];
  const what = rest.slice(0, 4096).includes("ftyp") ? "a motion clip" : "something";
  return [`${what} of ${rest.length} bytes after the picture was left out`];
}
