import { BundleError } from "../types.ts";
import { count as sizeOf, type Float } from "./tensors.ts";

const READERS: Record<string, (view: DataView, at: number) => number> = {
  "<f4": (view, at) => view.getFloat32(at, true),
  "<f8": (view, at) => view.getFloat64(at, true),
  "<i4": (view, at) => view.getInt32(at, true),
  "|u1": (view, at) => view.getUint8(at),
};

/**
 * The array of a `.npy` file (format versions 1 to 3), in C order, as float32: little-endian float32 and float64, int32 and uint8 are read.
 * `name` is for messages. Raises `BundleError` for anything else.
 */
export function readNpy(bytes: Uint8Array, name: string): Float {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { header, start } = readHeader(bytes, view, name);
  const kind = /'descr':\s*'([^']+)'/.exec(header)?.[1] ?? "";
  const sizes = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  const read = READERS[kind];
  if (!read || sizes === undefined || !/'fortran_order':\s*False/.test(header)) {
    throw new BundleError(`${name}: an array in C order of ${Object.keys(READERS).join(", ")} was expected, found ${header.trim()}`);
  }
  const shape = sizes.split(",").map((size) => size.trim()).filter(Boolean).map(Number);
  const count = sizeOf(shape);
  const width = Number(kind.slice(2));
  if (bytes.byteLength - start !== count * width) {
    throw new BundleError(`${name}: ${count * width} bytes of numbers were expected, found ${bytes.byteLength - start}`, "The file is cut short");
  }
  return { data: Float32Array.from({ length: count }, (_, index) => read(view, start + index * width)), shape };
}

function readHeader(bytes: Uint8Array, view: DataView, name: string): { header: string; start: number } {
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
  if (bytes.byteLength < 12 || magic.some((byte, index) => bytes[index] !== byte)) {
    throw new BundleError(`${name} is no .npy file`, "Pack the method again");
  }
  const old = bytes[6] === 1;
  const start = old ? 10 : 12;
  const end = start + (old ? view.getUint16(8, true) : view.getUint32(8, true));
  if (end > bytes.byteLength) throw new BundleError(`${name}: the header ends behind the file`, "The file is cut short");
  return { header: new TextDecoder("latin1").decode(bytes.subarray(start, end)), start: end };
}
