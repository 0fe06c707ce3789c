import type { Runtime } from "../types.ts";
import { openSession, type OrtModule } from "./ort.ts";

/** ONNX Runtime for Node, on the CPU. `threads`: default is ONNX Runtime's, one for each core. */
export async function nodeRuntime(options: { threads?: number } = {}): Promise<Runtime> {
  const ort = (await import("onnxruntime-node")) as unknown as OrtModule;
  const settings = { executionProviders: ["cpu"], ...(options.threads ? { intraOpNumThreads: options.threads } : {}) };
  return { device: "cpu", open: (graph, external) => openSession(ort, graph, external, settings) };
}
