import assert from "node:assert/strict";
import { test } from "node:test";
import { BundleError } from "../src/types.ts";
import { goldenInput, relative } from "../src/core/golden.ts";
import { readNpy } from "../src/core/npy.ts";

/** A `.npy` file as numpy writes it. */
function npy(kind: string, shape: string, numbers: Uint8Array, { fortran = "False", version = 1 } = {}): Uint8Array {
  const head = version === 1 ? 10 : 12;
  const dictionary = `{'descr': '${kind}', 'fortran_order': ${fortran}, 'shape': ${shape}, }`;
  const header = dictionary.padEnd(Math.ceil((head + dictionary.length + 1) / 64) * 64 - head - 1) + "\n";
  const bytes = new Uint8Array(head + header.length + numbers.length);
  bytes.set([0x93, ...new TextEncoder().encode("NUMPY")]);
  const view = new DataView(bytes.buffer);
  view.setUint8(6, version);
  if (version === 1) view.setUint16(8, header.length, true);
  else view.setUint32(8, header.length, true);
  bytes.set(new TextEncoder().encode(header), head);
  bytes.set(numbers, head + header.length);
  return bytes;
}

const raw = (values: Float32Array | Float64Array | Int32Array) => new Uint8Array(values.buffer);

test("arrays are read whatever their version, type and place in memory", () => {
  const found = readNpy(npy("<f4", "(2, 1, 2)", raw(Float32Array.of(1, 2.5, -3, 0))), "x");
  assert.deepEqual([found.shape, [...found.data]], [[2, 1, 2], [1, 2.5, -3, 0]]);
  assert.deepEqual([...readNpy(npy("<f8", "(2,)", raw(Float64Array.of(0.5, 7)), { version: 2 }), "x").data], [0.5, 7]);
  assert.deepEqual([...readNpy(npy("<i4", "(1,)", raw(Int32Array.of(-9))), "x").data], [-9]);
  assert.deepEqual(readNpy(npy("|u1", "()", Uint8Array.of(200)), "x"), { data: Float32Array.of(200), shape: [] });
  const shifted = new Uint8Array([0, ...npy("<f4", "(1,)", raw(Float32Array.of(4)))]).subarray(1); // not aligned
  assert.deepEqual([...readNpy(shifted, "x").data], [4]);
});

test("what is no such array is refused by name", () => {
  const good = npy("<f4", "(2,)", raw(Float32Array.of(1, 2)));
  const numbers = raw(Float32Array.of(1, 2));
  const refused = [
    good.slice(0, -1), good.slice(0, 8), Uint8Array.of(1, 2), npy("<f4", "(2,)", numbers, { fortran: "True" }), npy("|O", "(2,)", numbers),
  ];
  for (const bytes of refused) {
    assert.throws(() => readNpy(bytes, "crop.npy"), (error: Error) => error instanceof BundleError && error.message.includes("crop.npy"));
  }
});

const none = async () => new Uint8Array();

test("golden formulas are those of SPEC.md, section 2.3", async () => {
  const wave = await goldenInput({ shape: [2, 2], wave: { step: 0.37, low: -1, high: 3 } }, "float32", "x", none);
  assert.deepEqual([...wave.data], [0, 1, 2, 3].map((i) => Math.fround(-1 + (4 * (1 + Math.sin(0.37 * i))) / 2)));
  const eye = await goldenInput({ shape: [2, 2, 3], eye: 5 }, "int64", "x", none);
  assert.deepEqual([...eye.data], [5n, 0n, 0n, 0n, 5n, 0n, 5n, 0n, 0n, 0n, 5n, 0n]);
});

test("errors are relative to the largest expected magnitude, and infinite where nothing can be compared", () => {
  assert.equal(relative([1, 2], [1, -4]), 1.5);
  assert.equal(relative([0.5], [0]), 0.5);
  assert.equal(relative([1], [1, 2]), Infinity);
  assert.equal(relative([NaN], [1]), Infinity);
});
