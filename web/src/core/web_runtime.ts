import type { Env } from "onnxruntime-web";
import type { Runtime } from "../types.ts";
import { openSession, type OrtModule } from "./ort.ts";

/** One of the builds of ONNX Runtime Web. */
export type OrtWeb = OrtModule & { readonly env: Env };

export interface WebRuntimeOptions {
  /** Folder with ONNX Runtime's `.wasm` and `.mjs` files, on your own server. Default: beside the script that holds ONNX Runtime. */
  wasmPaths?: string;
  /** The build of ONNX Runtime Web to take instead of the one that belongs to `device`: in Node, `await import("onnxruntime-web")`. */
  module?: OrtWeb;
  /** Default: the cores, 4 at most, where the page is cross-origin isolated, else 1. */
  threads?: number;
  /** `webgpu` is slower to load, and an engine is refused on it unless it finds its golden values. Default: `wasm`. */
  device?: "wasm" | "webgpu";
}

/** ONNX Runtime Web: WASM with SIMD, and threads where the page is cross-origin isolated. One per page: its settings are global. */
export async function webRuntime(options: WebRuntimeOptions = {}): Promise<Runtime> {
  const device = options.device ?? "wasm";
  const ort: OrtWeb = options.module ?? (await (device === "webgpu" ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm")));
  ort.env.wasm.numThreads = options.threads ?? defaultThreads();
  if (options.wasmPaths !== undefined) ort.env.wasm.wasmPaths = options.wasmPaths;
  return {
    device,
    open: (graph, external) => openSession(ort, graph, external, { executionProviders: [device] }),
  };
}

/** Memory that threads share is there only where the page is cross-origin isolated; Node has no such notion and always has it. */
function defaultThreads(): number {
  const isolated = (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated;
  const cores = (globalThis as { navigator?: { hardwareConcurrency?: number } }).navigator?.hardwareConcurrency ?? 1;
  return isolated ? Math.min(cores, 4) : 1;
}
