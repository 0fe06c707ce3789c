/** libwebp as WebAssembly (package @jsquash/webp), from files of our own: nothing comes from elsewhere. */
import type { EncodeOptions } from "@jsquash/webp/codec/enc/webp_enc.js";
import { PhotoError } from "../types.ts";
import type { Raster } from "./raster.ts";

export type WasmName = "webp_dec.wasm" | "webp_enc.wasm";
export type WasmFiles = (name: WasmName) => Promise<BufferSource>;

/** By default the two files lie beside the script that this becomes a part of. */
let files: WasmFiles = async (name) => {
  const response = await fetch(new URL(`./${name}`, import.meta.url));
  if (!response.ok) throw new PhotoError(`${name} is missing beside the script (status ${response.status})`, "Copy it there from @jsquash/webp/codec.");
  return response.arrayBuffer();
};

/** Takes the two files from elsewhere, as Node does. */
export function useWasmFiles(from: WasmFiles): void {
  files = from;
}

/** As `WebPConfigInit` has it, with colours under transparent pixels kept: pixels outside of a mask must not change. */
const DEFAULTS: EncodeOptions = {
  quality: 95, target_size: 0, target_PSNR: 0, method: 4, sns_strength: 50, filter_strength: 60, filter_sharpness: 0, filter_type: 1,
  partitions: 0, segments: 4, pass: 1, show_compressed: 0, preprocessing: 0, autofilter: 0, partition_limit: 0, alpha_compression: 1,
  alpha_filtering: 1, alpha_quality: 100, lossless: 0, exact: 1, image_hint: 0, emulate_jpeg_size: 0, thread_level: 0, low_memory: 0,
  near_lossless: 100, use_delta_palette: 0, use_sharp_yuv: 0,
};

/** RGBA of a WebP file; null where it cannot be decoded. A module is made anew each time, so that its memory goes with it. */
export async function decodeWebpPixels(data: Uint8Array): Promise<Raster | null> {
  const { default: factory } = await import("@jsquash/webp/codec/dec/webp_dec.js");
  const decoder = await instantiated<Decoder>(factory, "webp_dec.wasm");
  const found = decoder.decode(data);
  return found === null ? null : { data: new Uint8ClampedArray(found.data), width: found.width, height: found.height };
}

/** A simple WebP file, or an extended one where there is alpha. */
export async function encodeWebpPixels({ data, width, height }: Raster, quality: number, lossless: boolean): Promise<Uint8Array> {
  const { default: factory } = await import("@jsquash/webp/codec/enc/webp_enc.js");
  const encoder = await instantiated<Encoder>(factory, "webp_enc.wasm");
  const found = encoder.encode(data, width, height, { ...DEFAULTS, quality, lossless: lossless ? 1 : 0 });
  if (found === null) throw new PhotoError(`a WebP of ${width} x ${height} cannot be written`, "Give a photo of at most 16383 px a side.");
  return Uint8Array.from(found);
}

interface Decoder { decode(data: Uint8Array): { data: Uint8ClampedArray; width: number; height: number } | null }
interface Encoder { encode(data: Raster["data"], width: number, height: number, options: EncodeOptions): Uint8Array | null }

async function instantiated<Module>(factory: unknown, name: WasmName): Promise<Module> {
  const module = await WebAssembly.compile(await files(name));
  const instantiateWasm = (imports: WebAssembly.Imports, done: (instance: WebAssembly.Instance) => void) => {
    WebAssembly.instantiate(module, imports).then(done);
    return {};
  };
  return (factory as (options: object) => Promise<Module>)({ noInitialRun: true, instantiateWasm });
}
