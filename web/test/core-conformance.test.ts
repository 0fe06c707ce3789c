import assert from "node:assert/strict";
import { test } from "node:test";
import { openBundle } from "../src/core/bundle.ts";
import { verifyBundle } from "../src/core/conformance.ts";
import { folderSource } from "../src/core/folder_source.ts";
import { nodeRuntime } from "../src/core/node_runtime.ts";
import { maskOf } from "./core-mask.ts";

const folder = process.env.FACEPROTECT_BUNDLE;

/**
 * How far the difference of a whole search may be off here, in norm over norm. The reference itself ends 0.14 away from its own result when
 * the crop of `auto` is changed by 1e-7 of its values, on the same machine and runtime: 40 steps carry the last bit on.
 */
const DRIFT = 0.25;

test("a bundle's conformance run is found again", { skip: folder ? false : "set FACEPROTECT_BUNDLE to the folder of a bundle" }, async (context) => {
  const bundle = await openBundle(folderSource(folder!), await nodeRuntime({ threads: 1 }));
  const found = await verifyBundle(bundle, {
    mask: maskOf,
    seeds: [0],
    onRow: ({ name, found, allowed, ok }) => context.diagnostic(`${name}: ${found.toExponential(2)}, allowed ${allowed}${ok ? "" : " <- beyond"}`),
  });
  await bundle.close();
  for (const { name, found: apart, allowed } of [...found.engines, ...found.run]) {
    assert.ok(apart <= (name === "difference" ? Math.max(allowed, DRIFT) : allowed), `${name} is off by ${apart}, allowed are ${allowed}`);
  }
});
