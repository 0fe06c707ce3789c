import assert from "node:assert/strict";
import { test } from "node:test";
import { openBundle } from "../src/core/bundle.ts";
import { verifyBundle } from "../src/core/conformance.ts";
import { folderSource } from "../src/core/folder_source.ts";
import { nodeRuntime } from "../src/core/node_runtime.ts";
import { maskOf } from "./core-mask.ts";

const folder = process.env.FACEPROTECT_BUNDLE;

test("a bundle's conformance run is found again", { skip: folder ? false : "set FACEPROTECT_BUNDLE to the folder of a bundle" }, async (context) => {
  const bundle = await openBundle(folderSource(folder!), await nodeRuntime({ threads: 1 }));
  const found = await verifyBundle(bundle, {
    mask: maskOf,
    seeds: [0],
    onRow: ({ name, found, allowed, ok }) => context.diagnostic(`${name}: ${found.toExponential(2)}, allowed ${allowed}${ok ? "" : " <- beyond"}`),
  });
  await bundle.close();
  for (const { name, found: apart, allowed } of [...found.engines, ...found.run]) {
    assert.ok(apart <= allowed, `${name} is off by ${apart}, allowed are ${allowed}`);
  }
});
