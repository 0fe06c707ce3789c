/** What an app holds: a bundle's engines, and the calls that use them, one after the other. */
import { openBundle, type Bundle } from "./core/bundle.ts";
import { checkPhotos } from "./check.ts";
import { findFaces } from "./photo/faces.ts";
import { readPhoto } from "./photo/read.ts";
import { detectorOf, protectPhoto } from "./protect.ts";
import { UsageError, type CheckResult, type Face, type Options, type ProtectResult, type Runtime, type Source } from "./types.ts";

/** A file's bytes, as a browser or Node hands them over. */
export type PhotoLike = Blob | Uint8Array | ArrayBuffer;

export interface Protector {
  /** Faces of a photo, largest first, in pixels of the upright photo. */
  faces(photo: PhotoLike, signal?: AbortSignal): Promise<Face[]>;
  /** The photo so that no recogniser of the bundle matches its people, or what stands in the way of that. */
  protect(photo: PhotoLike, options?: Options): Promise<ProtectResult>;
  /** Whether the bundle's recognisers match the people of an original in another photo of it. */
  check(original: PhotoLike, other: PhotoLike, signal?: AbortSignal): Promise<CheckResult>;
  /** Waits for the calls in flight, and closes every engine; calls that come later are refused. */
  close(): Promise<void>;
}

/**
 * A protector over an opened bundle; or over a bundle's files and a runtime, which are opened at the first call. Calls wait for each
 * other, for engines run one thing at a time. Everything that it does happens where it is called: in a worker, the page stays free.
 */
export function createProtector(bundle: Bundle): Protector;
export function createProtector(source: Source, runtime: Runtime): Protector;
export function createProtector(from: Bundle | Source, runtime?: Runtime): Protector {
  let opening: Promise<Bundle> | null = null;
  const opened = (signal?: AbortSignal): Promise<Bundle> => {
    if ("recipe" in from) return Promise.resolve(from);
    opening ??= openBundle(from, runtime!, { signal }).catch((error) => {
      opening = null; // so that another call opens it again
      throw error;
    });
    return opening;
  };
  let [closed, last]: [boolean, Promise<unknown>] = [false, Promise.resolve()];
  const inTurn = <Value>(signal: AbortSignal | undefined, work: (bundle: Bundle) => Promise<Value>): Promise<Value> => {
    if (closed) return Promise.reject(new UsageError("this protector is closed", "Make another: createProtector(...)."));
    const turn = last.then(async () => {
      signal?.throwIfAborted();
      return work(await opened(signal));
    });
    last = turn.catch(() => undefined);
    return turn;
  };
  return {
    faces: (photo, signal) =>
      inTurn(signal, async (bundle) => findFaces(await detectorOf(bundle, signal), (await readPhoto(await bytesOf(photo))).raster)),
    protect: (photo, options = {}) => inTurn(options.signal, async (bundle) => protectPhoto(bundle, await bytesOf(photo), options)),
    check: (original, other, signal) =>
      inTurn(signal, async (bundle) => checkPhotos(bundle, await bytesOf(original), await bytesOf(other), signal)),
    async close() {
      closed = true;
      await last;
      if ("recipe" in from) await from.close();
      else if (opening !== null) await (await opening).close();
    },
  };
}

async function bytesOf(photo: PhotoLike): Promise<Uint8Array> {
  if (photo instanceof Uint8Array) return photo;
  if (photo instanceof ArrayBuffer) return new Uint8Array(photo);
  if (photo instanceof Blob) return new Uint8Array(await photo.arrayBuffer());
  throw new UsageError("a photo is a Blob, a File, or the bytes of a file", "Pass the file itself: input.files[0].");
}
