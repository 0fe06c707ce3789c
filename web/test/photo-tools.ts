/** What the tests of web/src/photo share. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Raster } from "../src/photo/raster.ts";
import { useWasmFiles } from "../src/photo/webp-codec.ts";
import { sha256 } from "../src/core/digest.ts";

const here = import.meta.dirname;

/** What golden/photo.py has written. */
export const golden = JSON.parse(readFileSync(join(here, "golden/photo.json"), "utf8"));

useWasmFiles(async (name) => readFileSync(join(here, `../node_modules/@jsquash/webp/codec/${name === "webp_dec.wasm" ? "dec" : "enc"}/${name}`)));

/** The picture that golden/photo.py draws. */
export function picture(width: number, height: number): Raster & { readonly data: Uint8ClampedArray } {
  const data = new Uint8ClampedArray(width * height * 4);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      for (let c = 0; c < 3; c++) data[at + c] = ((x * (3 + c) + y * (5 - c)) ^ ((x * y) >> 5)) & 255;
      data[at + 3] = 255;
    }
  }
  return { data, width, height };
}

/** A smooth picture in colour: JPEG keeps it nearly as it is. */
export function smooth(width: number, height: number): Raster & { readonly data: Uint8ClampedArray } {
  const data = new Uint8ClampedArray(width * height * 4);
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [i % width, Math.floor(i / width)];
    data.set([60 + (150 * x) / width, 200 - (120 * y) / height, 90 + 60 * Math.sin((x + 2 * y) / 17), 255], 4 * i);
  }
  return { data, width, height };
}

/** The wave of SPEC 2.3. */
export function wave(count: number, step: number, low: number, high: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => low + ((high - low) * (1 + Math.sin(step * i))) / 2);
}

/** Every 2999th number. */
export function probes(values: ArrayLike<number>): number[] {
  return Array.from({ length: Math.ceil(values.length / 2999) }, (_, i) => values[2999 * i]);
}

/** RGB, without alpha. */
export function rgb({ data }: Raster): Uint8Array {
  return Uint8Array.from({ length: (data.length / 4) * 3 }, (_, i) => data[4 * Math.floor(i / 3) + (i % 3)]);
}

export function digestOf(bytes: Uint8Array): Promise<string> {
  return sha256(bytes);
}

export function fileOf(base64: string): Uint8Array {
  return Uint8Array.from(Buffer.from(base64, "base64"));
}

/** The largest distance between numbers, and the share of those that differ by more than `beyond`. */
export function apart(found: ArrayLike<number>, expected: ArrayLike<number>, beyond = 1e-6): { most: number; share: number } {
  let [most, count] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const distance = Math.abs(found[i] - expected[i]);
    most = Math.max(most, Number.isFinite(distance) ? distance : Infinity);
    if (!(distance <= beyond)) count++;
  }
  return { most: found.length === expected.length ? most : Infinity, share: count / expected.length };
}
