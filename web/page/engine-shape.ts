/** What the worker needs of the SDK, so that tests can put a small stand-in in its place. */

import type { Options, Progress, ProtectResult } from "../src/types.ts";
import type { Opened } from "./messages.ts";

export interface Engine {
  readonly opened: Opened;
  protect(photo: Uint8Array, options: Options): Promise<ProtectResult>;
}

/** Opens the bundle at an address (it ends with a slash). Raises `BundleError` where a file is missing or differs. */
export type OpenEngine = (bundle: string, onProgress: (progress: Progress) => void) => Promise<Engine>;
