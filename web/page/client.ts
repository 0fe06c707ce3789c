/** The page's side of the worker: a queue of photos, one at work, each of which can be cancelled. */

import type { Progress } from "../src/types.ts";
import type { Findings, FromWorker, Opened, Said, ToWorker, Wishes } from "./messages.ts";

/** What becomes of one photo; exactly one of `onDone`, `onFailed`, `onCancelled` is called in the end. */
export interface Job {
  readonly photo: Blob;
  readonly wishes: Wishes;
  onProgress(progress: Progress): void;
  onDone(findings: Findings, image: Blob | null): void;
  onFailed(error: Said): void;
  onCancelled(): void;
}

/** How the worker is; `closed` is final until the page is loaded again. */
export interface Watcher {
  onLoading(done: number, total: number): void;
  onOpened(opened: Opened): void;
  onClosed(error: Said): void;
}

export interface Client {
  /** Puts a photo at the end of the queue; the returned function cancels it. */
  add(job: Job): () => void;
}

/** A cancelled worker that is inside a long computation does not listen; after this time another takes its place. */
const PATIENCE_MS = 2000;
const CRASHED: Said = { code: "crashed", message: "The computation stopped unexpectedly.", hint: "This is mostly a lack of memory: close other tabs, or scale the photo down." };

interface Entry {
  readonly id: number;
  readonly job: Job;
}

/** Starts the worker at `script` once `before` is settled; it opens the bundle at the address `bundle`. Photos may come at once. */
export function startClient(script: string, bundle: string, before: Promise<unknown>, watcher: Watcher): Client {
  const queue: Entry[] = [];
  let current: Entry | null = null;
  let ready = false;
  let refused: Said | null = null;
  let impatience = 0;
  let last = 0;
  let worker: Worker | null = null;
  void before.finally(() => (worker = start()));

  function start(): Worker {
    const made = new Worker(script, { type: "module", name: "faceprotect" });
    made.onmessage = ({ data }: MessageEvent<FromWorker>) => hear(data);
    made.onerror = (event) => {
      event.preventDefault();
      if (ready) crashed();
      else refuse({ ...CRASHED, message: `The page's worker did not start. ${event.message ?? ""}`.trim() });
    };
    made.postMessage({ type: "open", bundle } satisfies ToWorker);
    return made;
  }

  function tell(message: ToWorker): void {
    worker?.postMessage(message);
  }

  function restart(): void {
    clearTimeout(impatience);
    worker?.terminate();
    ready = false;
    worker = start();
  }

  function crashed(): void {
    const lost = current;
    current = null;
    restart();
    lost?.job.onFailed(CRASHED);
  }

  function refuse(error: Said): void {
    refused = error;
    watcher.onClosed(error);
    for (const { job } of queue.splice(0)) job.onFailed(error);
  }

  function next(): void {
    if (!ready || current !== null) return;
    current = queue.shift() ?? null;
    if (current !== null) tell({ type: "protect", id: current.id, photo: current.job.photo, wishes: current.job.wishes });
  }

  /** The job at work where the message is about it, which ends it. */
  function end(id: number): Job | null {
    if (current?.id !== id) return null;
    clearTimeout(impatience);
    const { job } = current;
    current = null;
    return job;
  }

  function hear(message: FromWorker): void {
    if (message.type === "loading") watcher.onLoading(message.done, message.total);
    else if (message.type === "closed") refuse(message.error);
    else if (message.type === "opened") {
      ready = true;
      watcher.onOpened(message.opened);
    } else if (message.type === "progress") {
      if (current?.id === message.id) current.job.onProgress(message.progress);
    } else if (message.type === "done") end(message.id)?.onDone(message.findings, message.image);
    else if (message.type === "failed") end(message.id)?.onFailed(message.error);
    else end(message.id)?.onCancelled();
    next();
  }

  function cancel(entry: Entry): void {
    const place = queue.indexOf(entry);
    if (place >= 0) {
      queue.splice(place, 1);
      entry.job.onCancelled();
    } else if (current === entry) {
      tell({ type: "cancel", id: entry.id });
      clearTimeout(impatience);
      impatience = window.setTimeout(() => {
        current = null;
        restart();
        entry.job.onCancelled();
      }, PATIENCE_MS);
    }
  }

  return {
    add(job) {
      const entry = { id: ++last, job };
      if (refused !== null) queueMicrotask(() => refused !== null && job.onFailed(refused));
      else queue.push(entry);
      next();
      return () => cancel(entry);
    },
  };
}
