/** The SDK as the worker uses it: a bundle over HTTP, ONNX Runtime's files from beside this script, and what was read kept for next time. */

import { browserCache, createProtector, httpSource, openBundle, webRuntime } from "../src/index.ts";
import type { OpenEngine } from "./engine-shape.ts";

export const openEngine: OpenEngine = async (address, onProgress) => {
  const runtime = await webRuntime({ wasmPaths: new URL("./", import.meta.url).href });
  const bundle = await openBundle(httpSource(address), runtime, { cache: browserCache() });
  await bundle.load({ onProgress });
  const { protect } = createProtector(bundle);
  return { opened: { method: bundle.recipe.name, device: bundle.device }, protect };
};
