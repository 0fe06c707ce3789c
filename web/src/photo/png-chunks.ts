/** The chunks of a PNG file ("Portable Network Graphics, Third Edition", W3C 2025, 5.3), and its compression. */
import { PhotoError } from "../types.ts";

export const SIGNATURE = Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

export interface Chunk { readonly kind: string; readonly content: Uint8Array; readonly end: number }

export function brokenPng(what: string): PhotoError {
  return new PhotoError(`the PNG is truncated or damaged: ${what}`, "Copy it again from where it came.");
}

/** Up to the last, whose checksums are compared where the chunk matters to the pixels. */
export function chunksOf(data: Uint8Array): Chunk[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const chunks: Chunk[] = [];
  for (let at = SIGNATURE.length; at + 12 <= data.length; ) {
    const size = view.getUint32(at);
    const end = at + 12 + size;
    if (end > data.length) throw brokenPng("a chunk is cut");
    const kind = String.fromCharCode(...data.subarray(at + 4, at + 8));
    const critical = kind[0] >= "A" && kind[0] <= "Z";
    if (critical && view.getUint32(end - 4) !== crc(data.subarray(at + 4, end - 4))) throw brokenPng(`the checksum of ${kind} is wrong`);
    chunks.push({ kind, content: data.subarray(at + 8, end - 4), end });
    if (kind === "IEND") return chunks;
    at = end;
  }
  throw brokenPng("its end is missing");
}

export function chunk(kind: string, content: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  for (let i = 0; i < 4; i++) bytes[4 + i] = kind.charCodeAt(i);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, crc(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

export function crc(bytes: Uint8Array): number {
  let value = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) value = TABLE[(value ^ bytes[i]) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** Exactly `size` bytes out of zlib data; what goes on beyond them is not read. Raises PhotoError by `failed`. */
export async function inflated(parts: readonly Uint8Array[], size: number, failed: () => PhotoError): Promise<Uint8Array> {
  const result = new Uint8Array(size);
  let at = 0;
  const reader = new Blob([...parts] as BlobPart[]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const taken = value.subarray(0, size - at);
      result.set(taken, at);
      at += taken.length;
      if (at === size && taken.length < value.length) break;
    }
  } catch {
    throw failed();
  } finally {
    reader.cancel().catch(() => undefined);
  }
  if (at < size) throw failed();
  return result;
}

export async function deflated(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes as BlobPart]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
