/**
 * The service worker: the page works without a network once it has been loaded. The page's own files are kept when it is installed, the
 * bundle's small ones (recipe, manifests, decoys) as they are read. Its large ones the SDK keeps by their sha256 (core/cache.ts).
 */

/** Written by the build: the page's files, and a digest of them all. */
declare const FILES: readonly string[];
declare const VERSION: string;

const scope = self as unknown as ServiceWorkerGlobalScope;
const PAGE = `page-${VERSION}`;
/** One for all versions: the server's entity tags say what is old. */
const BUNDLE = "bundle";
const SMALL = 1_000_000;

scope.addEventListener("install", (event) => {
  event.waitUntil(caches.open(PAGE).then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" })))));
});

scope.addEventListener("activate", (event) => {
  event.waitUntil(tidy());
});

async function tidy(): Promise<void> {
  for (const name of await caches.keys()) if (name.startsWith("page-") && name !== PAGE) await caches.delete(name);
  await scope.clients.claim();
}

scope.addEventListener("fetch", (event) => {
  const { request } = event;
  const address = new URL(request.url);
  if (request.method !== "GET") return;
  if (address.origin !== scope.location.origin) event.respondWith(Response.error());
  else event.respondWith(address.pathname.startsWith(new URL("bundle/", scope.registration.scope).pathname) ? ofBundle(request) : ofPage(request));
});

async function ofPage(request: Request): Promise<Response> {
  const kept = await (await caches.open(PAGE)).match(request, { ignoreSearch: true });
  return kept ?? fetch(request);
}

/** Asks the server whether a kept file is still the one that it has; without a network, the kept one. */
async function ofBundle(request: Request): Promise<Response> {
  const cache = await caches.open(BUNDLE);
  const kept = await cache.match(request.url);
  const tag = kept?.headers.get("ETag");
  let found: Response;
  try {
    found = await fetch(request.url, { cache: "no-store", signal: request.signal, headers: tag ? { "If-None-Match": tag } : {} });
  } catch (error) {
    if (kept !== undefined && !request.signal.aborted) return kept;
    throw error;
  }
  if (found.status === 304 && kept !== undefined) return kept;
  if (found.ok && Number(found.headers.get("Content-Length") ?? Infinity) < SMALL) {
    await cache.put(request.url, found.clone()).catch(() => undefined); // a full disk: it works online all the same
  }
  if (found.status === 404) await cache.delete(request.url);
  return found;
}
