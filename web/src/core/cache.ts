/** Where checked files are kept between visits, by their sha256. */
export interface FileCache {
  get(sha256: string): Promise<Uint8Array | undefined>;
  put(sha256: string, bytes: Uint8Array): Promise<void>;
  remove(sha256: string): Promise<void>;
}

/** Name of the cache in the browser's Cache Storage; `caches.delete(CACHE_NAME)` frees what it holds. */
export const CACHE_NAME = "faceprotect-files";

/**
 * The browser's Cache Storage as a `FileCache`, or nothing where there is none: it needs a secure context (https or localhost).
 * A file that two versions of a bundle have in common is kept once, for its key is its content.
 */
export function browserCache(name = CACHE_NAME): FileCache | undefined {
  if (typeof caches === "undefined" || typeof location === "undefined") return undefined;
  const key = (digest: string) => new URL(`/${name}/${digest}`, location.origin).href;
  const opened = () => caches.open(name);
  return {
    get: async (digest) => {
      const found = await (await opened()).match(key(digest));
      return found && new Uint8Array(await found.arrayBuffer());
    },
    put: async (digest, bytes) => {
      const headers = { "content-type": "application/octet-stream", "content-length": String(bytes.byteLength) };
      await (await opened()).put(key(digest), new Response(bytes as BodyInit, { headers }));
    },
    remove: async (digest) => void (await (await opened()).delete(key(digest))),
  };
}
