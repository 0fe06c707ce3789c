import { BundleError, type Source } from "../types.ts";
import type { FileCache } from "./cache.ts";
import { sha256 } from "./digest.ts";
import { gunzip } from "./gzip.ts";
import type { FileEntry } from "./manifest.ts";

/** Files of a bundle that a manifest lists: each is checked before it is given out, and held once however many engines name it. */
export interface Files {
  /** The bytes of a listed file of `folder`; `onBytes` says how many of `entry.bytes` are there. */
  get(folder: string, entry: FileEntry, signal?: AbortSignal, onBytes?: (done: number) => void): Promise<Uint8Array>;
  /** Lets go of all but the files with these sha256: an open session has its own copy. */
  keep(needed: ReadonlySet<string>): void;
}

/** The listed files of `source`, kept in `cache` where there is one. */
export function listedFiles(source: Source, cache?: FileCache): Files {
  const held = new Map<string, Promise<Uint8Array>>();
  return {
    get(folder, entry, signal, onBytes) {
      const known = held.get(entry.sha256);
      if (known) return known;
      const reading = checkedFile(source, cache, folder, entry, signal, onBytes);
      held.set(entry.sha256, reading);
      reading.catch(() => held.delete(entry.sha256)); // so that another try reads it again
      return reading;
    },
    keep: (needed) => [...held.keys()].filter((key) => !needed.has(key)).forEach((key) => held.delete(key)),
  };
}

async function checkedFile(
  source: Source, cache: FileCache | undefined, folder: string, entry: FileEntry, signal?: AbortSignal, onBytes?: (done: number) => void,
): Promise<Uint8Array> {
  const kept = await fromCache(cache, entry);
  signal?.throwIfAborted();
  if (kept) {
    onBytes?.(entry.bytes);
    return kept;
  }
  const path = `${folder}/${entry.path}${entry.gzip ? ".gz" : ""}`;
  const read = await source.read(path, signal, (done) => onBytes?.(Math.min(done, entry.bytes)));
  const bytes = entry.gzip ? await unpacked(read, path) : read;
  await check(bytes, entry, path);
  onBytes?.(entry.bytes);
  // A full disk or a private window refuses to keep files; the work goes on without.
  await cache?.put(entry.sha256, bytes).catch(() => undefined);
  return bytes;
}

async function fromCache(cache: FileCache | undefined, entry: FileEntry): Promise<Uint8Array | undefined> {
  const kept = await cache?.get(entry.sha256).catch(() => undefined);
  if (!kept) return undefined;
  if (kept.byteLength === entry.bytes && (await sha256(kept)) === entry.sha256) return kept;
  await cache?.remove(entry.sha256).catch(() => undefined);
  return undefined;
}

async function unpacked(bytes: Uint8Array, path: string): Promise<Uint8Array> {
  return gunzip(bytes).catch((error) => {
    throw new BundleError(`${path} is no whole gzip file: ${error instanceof Error ? error.message : error}`, "Copy the bundle again");
  });
}

/** Raises `BundleError`, which names the file, unless size and sha256 are those of the manifest. */
async function check(bytes: Uint8Array, entry: FileEntry, path: string): Promise<void> {
  if (bytes.byteLength !== entry.bytes) {
    throw new BundleError(`${path} has ${bytes.byteLength} bytes, its manifest says ${entry.bytes}`, "Copy the bundle again: the file is not whole");
  }
  const found = await sha256(bytes);
  if (found !== entry.sha256) {
    throw new BundleError(`${path} differs from its manifest: sha256 ${found}, expected ${entry.sha256}`, "Copy the bundle again, or pack it again");
  }
}
