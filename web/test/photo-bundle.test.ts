/** The photo's side with a true bundle: FACEPROTECT_BUNDLE names its folder; FACEPROTECT_PYTHON a Python that has the SDK, to compare with. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { alignedCrop, createProtector, folderSource, nodeRuntime, openBundle, readNpy, readPhoto } from "../src/node.ts";
import { apart } from "./photo-tools.ts";

const folder = process.env.FACEPROTECT_BUNDLE ?? "";
const python = process.env.FACEPROTECT_PYTHON ?? "";
const skip = folder ? false : "no bundle: faceprotect-sdk pack fast -o DIR, and name DIR in FACEPROTECT_BUNDLE";
const skipPython = skip || (python ? false : "no Python with the SDK: name one in FACEPROTECT_PYTHON");
const photo = () => readFile(join(folder, "conformance/photo.png"));
const opened = async () => openBundle(folderSource(folder), await nodeRuntime({ threads: 1 }));

test("the face and the crop of the conformance photo are those of Python", { skip }, async () => {
  const bundle = await opened();
  const expected = await bundle.json("conformance/conformance.json");
  const [face] = await createProtector(bundle).faces(await photo());
  const { points_px, score, crop } = expected.tolerance;
  assert.ok(Math.abs(face.score - expected.face.score) <= score);
  assert.ok(apart(face.points.flat(), expected.face.points.flat()).most <= points_px);
  const found = alignedCrop((await readPhoto(await photo())).raster, face.points).data;
  const { most, share } = apart(found, readNpy(await readFile(join(folder, "conformance/crop.npy")), "crop.npy").data, 1e-3);
  assert.ok(most <= crop && share < 1e-3, `${most}, ${share}`);
  await bundle.close();
});

/**
 * A method without a search comes to the same pixels. A search does not: its sums are rounded otherwise by another build of ONNX Runtime,
 * and 40 steps make of the last bit what they make of a grey level in the crop (SPEC 10). So it is held to its verdicts, and to a change
 * of the same kind and size.
 */
test("the protected photo is that of Python with the same seed", { skip: skipPython, timeout: 1_200_000 }, async () => {
  const room = await mkdtemp(join(tmpdir(), "faceprotect-"));
  try {
    const bundle = await opened();
    const found = await createProtector(bundle).protect(await photo(), { strength: "high", seed: 0 });
    const output = join(room, "photo_protected.png");
    const wanted = ["--method", folder, "--strength", "high", "--seed", "0", "--no-installed-judges", "--threads", "1", "--json", "-q"];
    const { stdout } = await promisify(execFile)(python, ["-m", "faceprotect_sdk", "protect", join(folder, "conformance/photo.png"), ...wanted, "-o", output]);
    const expected = JSON.parse(stdout);
    assert.deepEqual([found.status, found.faces.length], [expected.status, expected.faces.length]);
    const [original, other] = await Promise.all([await photo(), await readFile(output)].map(async (file) => (await readPhoto(file)).raster.data));
    const changed = found.pixels!.data;
    if (bundle.recipe.stages.every(({ kind }) => kind === "map")) {
      const { most, share } = apart(changed, other, 1);
      assert.ok(most <= 1 && share === 0, `${most} levels`);
      return;
    }
    assert.ok(correlation(difference(changed, original), difference(other, original)) > 0.9);
  } finally {
    await rm(room, { recursive: true });
  }
});

function difference(one: ArrayLike<number>, other: ArrayLike<number>): Float64Array {
  return Float64Array.from({ length: one.length }, (_, i) => one[i] - other[i]);
}

function correlation(one: Float64Array, other: Float64Array): number {
  const product = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  return product(one, other) / Math.sqrt(product(one, one) * product(other, other));
}
