/** The page's side of the worker that draws. */

import type { FromPainter, Pictures, Sight, ToPainter } from "./messages.ts";

/** Asks for the pictures of a sight; rejected where the photo cannot be drawn. */
export type Look = (sight: Sight) => Promise<Pictures>;

/** Starts the worker at `script`. */
export function startPainter(script: string): Look {
  const waiting = new Map<number, { resolve: (pictures: Pictures) => void; reject: (error: Error) => void }>();
  const worker = new Worker(script, { type: "module", name: "painter" });
  let last = 0;
  worker.onmessage = ({ data: { id, pictures, error } }: MessageEvent<FromPainter>) => {
    const one = waiting.get(id);
    waiting.delete(id);
    if (pictures !== null) one?.resolve(pictures);
    else one?.reject(new Error(error));
  };
  worker.onerror = (event) => {
    event.preventDefault();
    for (const one of waiting.values()) one.reject(new Error(event.message ?? "the worker that draws has stopped"));
    waiting.clear();
  };
  return (sight) =>
    new Promise((resolve, reject) => {
      const id = ++last;
      waiting.set(id, { resolve, reject });
      worker.postMessage({ id, sight } satisfies ToPainter);
    });
}
