import type * as Ort from "onnxruntime-web";
import { BundleError, type Feeds, type Session, type Tensor } from "../types.ts";

/** What this package needs of ONNX Runtime's two packages for JavaScript. */
export type OrtModule = Pick<typeof Ort, "InferenceSession" | "Tensor">;

export type External = readonly { path: string; data: Uint8Array }[];

/**
 * Weights that a file holds as int8 become float32 once, when the graph is opened, and not again in every run: that is two fifths of a run of
 * the recogniser whose file is int8, and no engine here computes in int8. And threads do not spin after a run: another engine is next.
 */
const SETTINGS = { session: { disable_quant_qdq: "1", force_spinning_stop: "1" } };

/** Opens a graph with its external data passed by path (section 2.2). Raises `BundleError` where ONNX Runtime refuses it. */
export async function openSession(
  ort: OrtModule, graph: Uint8Array, external: External, options: Ort.InferenceSession.SessionOptions,
): Promise<Session> {
  const externalData = external.map(({ path, data }) => ({ path, data }));
  const session = await ort.InferenceSession.create(graph, { logSeverityLevel: 3, extra: SETTINGS, ...options, externalData }).catch((error) => {
    throw new BundleError(`ONNX Runtime cannot open the graph: ${error instanceof Error ? error.message : error}`);
  });
  return {
    run: async (feeds, outputs) => taken(await session.run(given(ort, feeds), [...(outputs ?? session.outputNames)])),
    close: () => session.release(),
  };
}

function given(ort: OrtModule, feeds: Feeds): Record<string, Ort.Tensor> {
  return Object.fromEntries(Object.entries(feeds).map(([name, { data, shape }]) => [name, new ort.Tensor(data as Float32Array, [...shape])]));
}

function taken(outputs: Ort.InferenceSession.OnnxValueMapType): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(outputs as Record<string, Ort.Tensor>).map(([name, { data, dims }]) => {
    if (data instanceof Float32Array || data instanceof Int32Array || data instanceof BigInt64Array) return [name, { data, shape: dims }];
    throw new BundleError(`the output '${name}' is of a type that is not read; float32, int32 and int64 are`);
  }));
}
