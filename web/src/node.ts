/** The package for Node: all of index.ts, bundles in a folder, and ONNX Runtime's own build. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { useWasmFiles } from "./photo/webp-codec.ts";

export * from "./index.ts";
export * from "./core/node.ts";

useWasmFiles(async (name) => {
  const folder = name === "webp_dec.wasm" ? "dec" : "enc";
  return readFile(fileURLToPath(import.meta.resolve(`@jsquash/webp/codec/${folder}/${name}`)));
});
