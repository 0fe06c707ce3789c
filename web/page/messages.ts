/** What page and worker say to each other. Photos travel as files (by reference), pictures for showing as bitmaps (transferred). */

import type { Progress, ProtectResult, Strength } from "../src/types.ts";

/** What a search is asked for; the rest is the recipe's. */
export interface Wishes {
  readonly strength: Strength;
  readonly seed: number;
}

/** A result without what is large: the file travels beside it, its pixels stay in the worker. */
export type Findings = Omit<ProtectResult, "image" | "pixels">;

/** An error in words; `code` as in `FaceprotectError`. */
export interface Said {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** What was opened: the method's name, the recognisers that it knows, and what computes. */
export interface Opened {
  readonly method: string;
  readonly device: string;
}

/** Three pictures of the same size for showing; `after` and `difference` only of a protected photo. */
export interface Pictures {
  readonly before: ImageBitmap;
  readonly after: ImageBitmap | null;
  readonly difference: ImageBitmap | null;
}

/** What is to be shown: the whole photo, or one face of it from near. */
export interface Sight {
  readonly original: Blob;
  readonly protected: Blob | null;
  readonly faces: Findings["faces"];
  /** Index of the face, or null for the whole photo. */
  readonly face: number | null;
}

export type ToWorker =
  | { readonly type: "open"; readonly bundle: string }
  | { readonly type: "protect"; readonly id: number; readonly photo: Blob; readonly wishes: Wishes }
  | { readonly type: "cancel"; readonly id: number };

export type FromWorker =
  | { readonly type: "loading"; readonly done: number; readonly total: number }
  | { readonly type: "opened"; readonly opened: Opened }
  | { readonly type: "closed"; readonly error: Said }
  | { readonly type: "progress"; readonly id: number; readonly progress: Progress }
  | { readonly type: "done"; readonly id: number; readonly findings: Findings; readonly image: Blob | null }
  | { readonly type: "cancelled"; readonly id: number }
  | { readonly type: "failed"; readonly id: number; readonly error: Said };

/** To and from the worker that draws: one of its own, since a search keeps the other one busy. */
export type ToPainter = { readonly id: number; readonly sight: Sight };
export type FromPainter = { readonly id: number; readonly pictures: Pictures | null; readonly error: string };
