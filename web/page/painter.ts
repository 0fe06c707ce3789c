/** The worker that draws the pictures for showing. */

import type { FromPainter, ToPainter } from "./messages.ts";
import { picturesOf } from "./pictures.ts";

const scope = self as unknown as DedicatedWorkerGlobalScope;

scope.onmessage = async ({ data: { id, sight } }: MessageEvent<ToPainter>) => {
  try {
    const pictures = await picturesOf(sight);
    const bitmaps = [pictures.before, pictures.after, pictures.difference].filter((one): one is ImageBitmap => one !== null);
    scope.postMessage({ id, pictures, error: "" } satisfies FromPainter, bitmaps);
  } catch (error) {
    scope.postMessage({ id, pictures: null, error: error instanceof Error ? error.message : String(error) } satisfies FromPainter);
  }
};
