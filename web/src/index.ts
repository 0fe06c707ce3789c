/** The package: protect a person's own photos from face recognition, where the photos are. */
export * from "./core/index.ts";
export { alignedCrop, cropTransform } from "./photo/align.ts";
export { faceMask } from "./photo/mask.ts";
export { readPhoto } from "./photo/read.ts";
export { useWasmFiles, type WasmFiles, type WasmName } from "./photo/webp-codec.ts";
export { createProtector, type PhotoLike, type Protector } from "./protector.ts";
export * from "./types.ts";
export { VERSION } from "./version.ts";
