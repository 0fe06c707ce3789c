/** The worker: everything that takes time. It protects one photo at a time; the page keeps the queue. */

import { FaceprotectError } from "../src/types.ts";
import type { ProtectResult } from "../src/types.ts";
import { openEngine } from "./engine.ts";
import type { Engine } from "./engine-shape.ts";
import type { Findings, FromWorker, Said, ToWorker, Wishes } from "./messages.ts";

const scope = self as unknown as DedicatedWorkerGlobalScope;
const running = new Map<number, AbortController>();
let engine: Promise<Engine> | null = null;

scope.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if (data.type === "open") void open(data.bundle);
  else if (data.type === "protect") void protect(data.id, data.photo, data.wishes);
  else running.get(data.id)?.abort(new DOMException("cancelled", "AbortError"));
};

function say(message: FromWorker): void {
  scope.postMessage(message);
}

async function open(bundle: string): Promise<void> {
  try {
    engine = openEngine(bundle, ({ done, total }) => say({ type: "loading", done, total }));
    say({ type: "opened", opened: (await engine).opened });
  } catch (error) {
    say({ type: "closed", error: inWords(error) });
  }
}

async function protect(id: number, photo: Blob, wishes: Wishes): Promise<void> {
  const { signal } = adopt(id);
  try {
    if (engine === null) throw new FaceprotectError("order", "A photo came before the bundle was opened. Reload the page.");
    const opened = await engine;
    const bytes = new Uint8Array(await photo.arrayBuffer());
    signal.throwIfAborted();
    const result = await opened.protect(bytes, { ...wishes, signal, onProgress: (progress) => say({ type: "progress", id, progress }) });
    signal.throwIfAborted(); // a cancellation that came with the last step counts too
    say({ type: "done", id, findings: findingsOf(result), image: offered(result) });
  } catch (error) {
    say(signal.aborted ? { type: "cancelled", id } : { type: "failed", id, error: inWords(error) });
  } finally {
    running.delete(id);
  }
}

function adopt(id: number): AbortController {
  const controller = new AbortController();
  running.set(id, controller);
  return controller;
}

/** The file to download. The SDK gives one only for "protected"; asked again here, since nothing else may be taken for it. */
function offered(result: ProtectResult): Blob | null {
  return result.status === "protected" ? result.image : null;
}

function findingsOf({ image: _image, pixels: _pixels, ...findings }: ProtectResult): Findings {
  return findings;
}

function inWords(error: unknown): Said {
  if (error instanceof FaceprotectError) return { code: error.code, message: error.message, hint: error.hint };
  const { name, message } = error instanceof Error ? error : { name: "Error", message: String(error) };
  const memory = error instanceof RangeError || /memory|allocation|bad_alloc/i.test(message);
  if (memory) return { code: "memory", message: "There was not enough memory for this photo.", hint: "Close other tabs, or scale the photo down." };
  return { code: "internal", message: `Something went wrong inside (${name}: ${message}).`, hint: "Reload the page. If it happens again, please report it." };
}
