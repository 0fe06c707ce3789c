/** The container of a WebP file (RFC 9649, 2): size, kind, profile and EXIF in it. */
import { PhotoError } from "../types.ts";
import { readExif } from "./exif.ts";
import type { Photo } from "./photo.ts";
import { joined } from "./png-write.ts";
import type { Raster } from "./raster.ts";
import { decodeWebpPixels, encodeWebpPixels } from "./webp-codec.ts";

interface Part { readonly kind: string; readonly content: Uint8Array }

const [ICC, ALPHA, EXIF, ANIMATION] = [0x20, 0x10, 0x08, 0x02];

function broken(what: string): PhotoError {
  return new PhotoError(`the WebP is truncated or damaged: ${what}`, "Copy it again from where it came.");
}

/** The chunks of the file, as far as it says it goes. */
function partsOf(data: Uint8Array): { parts: Part[]; end: number } {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const end = 8 + view.getUint32(4, true);
  if (end > data.length) throw broken("its end is missing");
  const parts: Part[] = [];
  for (let at = 12; at + 8 <= end; ) {
    const size = view.getUint32(at + 4, true);
    if (at + 8 + size > end) throw broken("a chunk is cut");
    parts.push({ kind: String.fromCharCode(...data.subarray(at, at + 4)), content: data.subarray(at + 8, at + 8 + size) });
    at += 8 + size + (size % 2);
  }
  return { parts, end };
}

/** Width and height as the picture's own chunk says. */
export function webpSize(data: Uint8Array): [number, number] {
  const picture = partsOf(data).parts.find(({ kind }) => kind === "VP8 " || kind === "VP8L");
  if (picture === undefined) throw animatedOr(data);
  const { kind, content } = picture;
  if (content.length < 10) throw broken("its picture is cut");
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  if (kind === "VP8 ") return [view.getUint16(6, true) & 0x3fff, view.getUint16(8, true) & 0x3fff];
  const bits = view.getUint32(1, true);
  return [(bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1];
}

function animatedOr(data: Uint8Array): PhotoError {
  const flags = partsOf(data).parts.find(({ kind }) => kind === "VP8X")?.content[0] ?? 0;
  return flags & ANIMATION ? new PhotoError("the WebP is animated", "Save one frame as a still image first.") : broken("it holds no picture");
}

/** The photo as it is stored: not turned yet. */
export async function readWebp(data: Uint8Array): Promise<Photo> {
  const { parts, end } = partsOf(data);
  const find = (wanted: string) => parts.find(({ kind }) => kind === wanted)?.content ?? null;
  const lossless = find("VP8L");
  const raster = await decodeWebpPixels(data).catch(() => null);
  if (raster === null) throw broken("its picture cannot be decoded");
  // Of a lossless picture, the bit behind the two sizes says whether there is alpha.
  const alpha = lossless !== null ? (lossless[4] & 0x10) !== 0 : find("ALPH") !== null;
  return {
    container: "webp", raster, grey: false, alpha, lossless: lossless !== null,
    exif: readExif(find("EXIF")), icc: find("ICCP")?.slice() ?? null, chunks: [], density: null,
    notes: data.length > end ? [`something of ${data.length - end} bytes after the picture was left out`] : [],
  };
}

/** `raster`: as it is to be stored. */
export async function writeWebp(
  raster: Raster, quality: number, lossless: boolean, alpha: boolean, icc: Uint8Array | null, exif: Uint8Array | null,
): Promise<Uint8Array> {
  const simple = await encodeWebpPixels(raster, quality, lossless);
  const pictures = partsOf(simple).parts.filter(({ kind }) => ["VP8 ", "VP8L", "ALPH"].includes(kind));
  if (icc === null && exif === null) return simple;
  const header = new Uint8Array(10);
  header[0] = (icc ? ICC : 0) | (exif ? EXIF : 0) | (alpha ? ALPHA : 0);
  [raster.width - 1, raster.height - 1].forEach((size, i) => {
    for (let byte = 0; byte < 3; byte++) header[4 + 3 * i + byte] = (size >> (8 * byte)) & 255;
  });
  const all: Part[] = [{ kind: "VP8X", content: header }];
  if (icc !== null) all.push({ kind: "ICCP", content: icc });
  all.push(...pictures);
  if (exif !== null) all.push({ kind: "EXIF", content: exif });
  const body = joined([new TextEncoder().encode("WEBP"), ...all.map(chunk)]);
  return joined([head("RIFF", body.length), body]);
}

function chunk({ kind, content }: Part): Uint8Array {
  return joined([head(kind, content.length), content, new Uint8Array(content.length % 2)]);
}

function head(kind: string, size: number): Uint8Array {
  const bytes = new Uint8Array(8);
  bytes.set(new TextEncoder().encode(kind));
  new DataView(bytes.buffer).setUint32(4, size, true);
  return bytes;
}

