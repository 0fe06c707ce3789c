/** A worker that runs a bundle's conformance run in the browser, for the end-to-end tests. */

import { httpSource, openBundle, verifyBundle, webRuntime } from "../src/core/index.ts";
import type { Region } from "../src/core/index.ts";
import { faceMask } from "../src/photo/mask.ts";

const maskOf = (region: Region) => ({ data: faceMask(region as Parameters<typeof faceMask>[0]), shape: [1, 1, 256, 256] });
const started = performance.now();
try {
  const bundle = await openBundle(httpSource(new URL("bundle/", location.href)), await webRuntime({ wasmPaths: new URL("./", location.href).href }));
  const found = await verifyBundle(bundle, { mask: maskOf, seeds: [0] });
  postMessage({ ...found, seconds: (performance.now() - started) / 1000 });
} catch (error) {
  postMessage({ ok: false, error: error instanceof Error ? error.stack : String(error) });
}
