/** `protect` over a stand-in for a bundle: a detector that sees one face, recognisers that look at one colour, a method that adds to it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openBundle } from "../src/core/bundle.ts";
import { createProtector } from "../src/protector.ts";
import { readExif } from "../src/photo/exif.ts";
import type { Photo } from "../src/photo/photo.ts";
import { readPhoto } from "../src/photo/read.ts";
import { writePhoto } from "../src/photo/write.ts";
import { CANONICAL } from "../src/photo/align.ts";
import { sha256 } from "../src/core/digest.ts";
import type { Feeds, Progress, Runtime, Source, Tensor } from "../src/types.ts";
import { apart, smooth } from "./photo-tools.ts";

const UPRIGHT = CANONICAL.flatMap(([x, y]) => [(y - 62) / 178, (x - 62) / 132]);
const scalar = (value: number): Tensor => ({ data: Float32Array.of(value), shape: [1, 1] });

/** What the engines do, by name. A recogniser's embedding turns with the mean red of the crop: 1 rad for 0.05. */
const ENGINES: Record<string, (feeds: Feeds) => Record<string, Tensor>> = {
  "face-detector": ({ image }) => seenIn(image),
  inside: ({ image }) => turnedBy(mean(image) / 0.05),
  judge: ({ image }) => turnedBy(mean(image) / 0.06),
  paint: ({ mask, budget }) => ({
    difference: { data: Float32Array.from({ length: 3 * 65536 }, (_, i) => (i < 65536 ? (mask.data[i] as number) * (budget.data[0] as number) : 0)), shape: [1, 3, 256, 256] },
  }),
};

function mean(image: Tensor): number {
  return (image.data as Float32Array).subarray(0, 65536).reduce((sum, value) => sum + value, 0) / 65536;
}

function turnedBy(angle: number): Record<string, Tensor> {
  return { embedding: { data: Float32Array.of(Math.cos(angle), Math.sin(angle)), shape: [1, 2] }, similarity: scalar(0) };
}

/** One face in the middle, unless all of the picture is dark. */
function seenIn(image: Tensor): Record<string, Tensor> {
  const [height, width] = image.shape.slice(2);
  const [rows, cols] = [height / 4, width / 4];
  const size = rows * cols;
  const plane = (count: number) => ({ data: new Float32Array(count * size), shape: [1, count, rows, cols] });
  const outputs = { heatmap: plane(1), scale: plane(2), offset: plane(2), landmarks: plane(10) };
  const at = (rows / 2) * cols + cols / 2;
  if ((image.data as Float32Array).every((value) => value < 10)) return outputs;
  outputs.heatmap.data[at] = 0.95;
  outputs.scale.data[at] = Math.log((0.6 * height) / 4);
  outputs.scale.data[size + at] = Math.log((0.45 * width) / 4);
  UPRIGHT.forEach((value, i) => (outputs.landmarks.data[i * size + at] = value));
  return outputs;
}

const runtime: Runtime = {
  device: "cpu",
  async open(graph) {
    const name = new TextDecoder().decode(graph);
    return { run: async (feeds) => ENGINES[name](feeds), close: async () => undefined };
  },
};

interface Wanted { budget?: number; attempts?: number[]; undoes?: number; judge?: number; learnt?: boolean }

/** The files of a bundle with these engines. */
async function source({ budget = 0.2, attempts = [0.5, 1], undoes, judge = 0.5, learnt = false }: Wanted = {}): Promise<Source> {
  const files = new Map<string, Uint8Array>();
  const put = (path: string, content: string) => files.set(path, new TextEncoder().encode(content));
  const image = { name: "image", dtype: "float32", shape: [1, 3, 256, 256] };
  const digests: Record<string, string> = {};
  for (const name of Object.keys(ENGINES)) digests[name] = await sha256(new TextEncoder().encode(name));
  for (const name of Object.keys(ENGINES)) {
    const inputs = name === "paint" ? [{ name: "mask", dtype: "float32", shape: [1, 1, 256, 256] }, { name: "budget", dtype: "float32", shape: [1] }]
      : name === "face-detector" ? [{ ...image, shape: [1, 3, null, null] }]
        : [image, { name: "reference", dtype: "float32", shape: [1, 2] }];
    const outputs = (name === "paint" ? ["difference"] : name === "face-detector" ? ["heatmap", "scale", "offset", "landmarks"] : ["embedding", "similarity"])
      .map((output) => ({ name: output, dtype: "float32", shape: [null] }));
    const metadata = name === "paint" ? { surrogates: ["inside"], ...(learnt ? { learnt_from: [digests.judge] } : {}) } : {};
    const graph = { path: "model.onnx", sha256: digests[name], bytes: name.length };
    put(`${name}/model.onnx`, name);
    put(`${name}/manifest.json`, JSON.stringify({ schema: 1, name, role: "step", version: "1", files: { graph }, inputs, outputs, metadata }));
  }
  put("recipe.json", JSON.stringify({
    schema: 2, name: "toy", attempts, budgets: { budget: 1 }, ...(undoes === undefined ? {} : { undoes }),
    strengths: { low: { margin: 1, budget: budget / 2 }, medium: { margin: 1, budget }, high: { margin: 2, budget: budget * 2 } },
    stages: [{ kind: "map", engine: "paint", inputs: { mask: "mask", budget: "budget" }, outputs: { difference: "difference" } }],
    bundle: {
      crop: { size: 256, points: CANONICAL }, goals: ["dodge"], looks: [],
      detector: { engine: "face-detector", stride: 4, multiple: 32, pyramid: [[320, 0.5], [640, 0.5], [1600, 0.6]], same_face: 0.3, best_width: 130 },
      surrogates: [{ engine: "inside", threshold: 0.6, spread: 0.3, inside: true }], judges: [{ engine: "judge", threshold: judge, spread: 0.3 }],
    },
  }));
  return {
    async read(path) {
      const found = files.get(path);
      if (found === undefined) throw new Error(`no ${path}`);
      return found;
    },
  };
}

const plain: Photo = {
  container: "png", raster: smooth(200, 160), grey: false, alpha: false, lossless: true, exif: readExif(null), icc: null, chunks: [], density: null, notes: [],
};
const png = await writePhoto(plain, plain.raster, 95, null);
const protector = async (wanted?: Wanted) => createProtector(await openBundle(await source(wanted), runtime));
const loose = { evenCovered: true };

test("a photo is protected once no recogniser matches the decoded file, with no more than was needed", async () => {
  const found = await (await protector()).protect(png, loose);
  assert.equal(found.status, "protected");
  const [face] = found.faces;
  assert.equal(face.attempts, 2);
  assert.deepEqual(face.verdicts.map(({ recogniser, took_part, matched }) => [recogniser, took_part, matched]), [["inside", true, false], ["judge", false, false]]);
  assert.ok(face.verdicts.every(({ before }) => Math.abs(before! - 1) < 1e-6));
  assert.deepEqual([found.container, found.size, found.method, found.version], ["png", [200, 160], "toy", "0.1.0"]);
  const written = await readPhoto(new Uint8Array(await found.image!.arrayBuffer()));
  assert.deepEqual(written.raster.data, found.pixels!.data);
  assert.match(written.exif.software!, /^faceprotect-sdk 0\.1\.0 method=toy id=[0-9a-f]{16}$/);
  assert.deepEqual(written.raster.data.subarray(0, 4), plain.raster.data.subarray(0, 4));
  assert.ok(apart(written.raster.data, plain.raster.data).most >= 29);
});

test("the same seed, photo and bundle give the same bytes; JPEG as PNG", async () => {
  const jpeg = await writePhoto({ ...plain, container: "jpeg", lossless: false }, plain.raster, 95, null);
  for (const photo of [png, jpeg]) {
    const files = await Promise.all([1, 2].map(async () => (await (await protector()).protect(new Blob([photo as BlobPart]), { ...loose, seed: 7 })).image!.arrayBuffer()));
    assert.deepEqual(new Uint8Array(files[0]), new Uint8Array(files[1]));
  }
});

test("a photo that is still matched is never given, and nothing is tried beyond the recipe's attempts", async () => {
  const found = await (await protector({ budget: 0.03 })).protect(png, { ...loose, attempts: 9 });
  assert.deepEqual([found.status, found.image, found.pixels, found.faces[0].attempts], ["still_matched", null, null, 2]);
  const judged = await (await protector({ judge: -1.1 })).protect(png, loose);
  assert.equal(judged.status, "still_matched");
  assert.deepEqual(judged.faces[0].verdicts.map(({ matched }) => matched), [false, true]);
});

test("fewer attempts than the recipe has are kept to", async () => {
  assert.equal((await (await protector()).protect(png, { ...loose, attempts: 1 })).faces[0].attempts, 1);
});

test("what a network in the method has learnt from took part", async () => {
  const found = await (await protector({ learnt: true })).protect(png, loose);
  assert.deepEqual(found.faces[0].verdicts.map(({ took_part }) => took_part), [true, true]);
});

test("without a face nothing is changed or given", async () => {
  const dark = { ...plain.raster, data: plain.raster.data.map((value, i) => (i % 4 === 3 ? 255 : value / 100)) };
  const found = await (await protector()).protect(await writePhoto(plain, dark, 95, null), loose);
  assert.deepEqual([found.status, found.image, found.faces], ["no_face", null, []]);
});

test("a protected photo is refused, unless one insists", async () => {
  const first = await (await protector()).protect(png, loose);
  const bytes = new Uint8Array(await first.image!.arrayBuffer());
  await assert.rejects((await protector()).protect(bytes, loose), { name: "AlreadyProtected", code: "already_protected", message: /method=toy/ });
  assert.equal((await (await protector()).protect(bytes, { ...loose, again: true })).faces.length, 1);
});

test("a change that undoes more of the face than the recipe allows is refused, unless one insists", async () => {
  await assert.rejects((await protector({ undoes: -10 })).protect(png, loose), { name: "AlreadyProtected", message: /face 1/ });
  assert.equal((await (await protector({ undoes: -10 })).protect(png, { ...loose, again: true })).status, "protected");
});

test("stages are reported in their order, and an abort ends the call with its reason in each of them", async () => {
  const seen: Progress[] = [];
  await (await protector()).protect(png, { ...loose, onProgress: (progress) => seen.push(progress) });
  const stages = seen.map(({ stage }) => stage).filter((stage, i, all) => stage !== all[i - 1]);
  assert.deepEqual(stages, ["decode", "faces", "search", "write", "judge", "search", "write", "judge"]);
  const firsts = seen.map(({ stage }, i) => (seen.findIndex((one) => one.stage === stage) === i ? i : -1)).filter((i) => i >= 0);
  for (const stop of firsts) {
    const controller = new AbortController();
    let count = 0;
    const onProgress = () => void (count++ === stop && controller.abort(new Error("enough")));
    await assert.rejects((await protector()).protect(png, { ...loose, signal: controller.signal, onProgress }), { message: "enough" }, `at ${stop}`);
  }
});

test("calls wait for each other, and those after close are refused", async () => {
  const one = await protector();
  const both = await Promise.all([one.faces(png), one.protect(png, loose)]);
  assert.equal(both[0].length, both[1].faces.length);
  await one.close();
  await assert.rejects(one.faces(png), { name: "UsageError", message: /closed/ });
});

test("options that cannot be meant are refused in words", async () => {
  const one = await protector();
  for (const options of [{ strength: "huge" }, { seed: -1 }, { seed: 0.5 }, { quality: 0 }, { attempts: 0 }, { goal: "away" }]) {
    await assert.rejects(one.protect(png, options as object), { name: "UsageError" }, JSON.stringify(options));
  }
  await assert.rejects(one.protect("photo.png" as never), { name: "UsageError", message: /a photo is/ });
});

test("check finds a photo like itself, and unlike once it is protected", async () => {
  const one = await protector();
  const same = await one.check(png, png);
  assert.deepEqual([same.status, same.identical, same.independent], ["still_matched", true, 1]);
  const found = await one.protect(png, loose);
  const other = await one.check(png, found.image!);
  assert.deepEqual([other.status, other.identical], ["not_matched", false]);
});
