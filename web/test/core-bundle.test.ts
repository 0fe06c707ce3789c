import assert from "node:assert/strict";
import { mkdtemp, mkdir, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { BundleError, type Runtime, type Source } from "../src/types.ts";
import { openBundle } from "../src/core/bundle.ts";
import type { FileCache } from "../src/core/cache.ts";
import { sha256 } from "../src/core/digest.ts";
import { folderSource } from "../src/core/folder_source.ts";
import { listedFiles } from "../src/core/files.ts";
import { httpSource } from "../src/core/http_source.ts";
import { parseManifest } from "../src/core/manifest.ts";
import { checkPath } from "../src/core/paths.ts";

const text = (value: unknown) => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
const SHARED = text("the weights of both");

async function manifest(name: string, fields: object = {}, gzip = false): Promise<Uint8Array> {
  const entry = async (path: string, bytes: Uint8Array) => ({ path, sha256: await sha256(bytes), bytes: bytes.length, ...(gzip ? { gzip } : {}) });
  const files = { graph: await entry("model.onnx", text(`graph of ${name}`)), "weights 0": await entry("shared.dat", SHARED) };
  const tensor = (key: string) => [{ name: key, dtype: "float32", shape: [1] }];
  return text({ schema: 1, name, role: "step", files, inputs: tensor("x"), outputs: tensor("y"), weights: [], ...fields });
}

/** The files of a bundle with the engines "one" and "two", which share a file. */
async function files(gzip = false): Promise<Map<string, Uint8Array>> {
  const recipe = {
    schema: 2, name: "toy", stages: [{ kind: "map", engine: "one", inputs: { x: "original" }, outputs: { y: "difference" } }],
    bundle: { crop: { size: 256, points: [] }, detector: { engine: "two" }, surrogates: [], judges: [] },
  };
  const made = new Map<string, Uint8Array>([["recipe.json", text(recipe)]]);
  for (const name of ["one", "two"]) {
    made.set(`${name}/manifest.json`, await manifest(name, {}, gzip));
    for (const [path, bytes] of [["model.onnx", text(`graph of ${name}`)], ["shared.dat", SHARED]] as const) {
      if (gzip) made.set(`${name}/${path}.gz`, new Uint8Array(gzipSync(bytes)));
      else made.set(`${name}/${path}`, bytes);
    }
  }
  return made;
}

interface Counted extends Source {
  readonly reads: string[];
}

function memory(content: ReadonlyMap<string, Uint8Array>): Counted {
  const reads: string[] = [];
  return {
    reads,
    async read(path, signal, onBytes) {
      signal?.throwIfAborted();
      reads.push(path);
      const bytes = content.get(path);
      if (!bytes) throw new BundleError(`${path} is not there`);
      onBytes?.(bytes.length);
      return bytes;
    },
  };
}

interface Opened extends Runtime {
  readonly opened: { graph: string; external: string[] }[];
}

function runtime(device = "cpu", y = 2): Opened {
  const opened: Opened["opened"] = [];
  return {
    device, opened,
    async open(graph, external) {
      opened.push({ graph: new TextDecoder().decode(graph), external: external.map(({ path }) => path) });
      return { run: async () => ({ y: { data: Float32Array.of(y), shape: [1] } }), close: async () => undefined };
    },
  };
}

function keeping(): FileCache & { readonly kept: Map<string, Uint8Array> } {
  const kept = new Map<string, Uint8Array>();
  return { kept, get: async (key) => kept.get(key), put: async (key, bytes) => void kept.set(key, bytes), remove: async (key) => void kept.delete(key) };
}

test("engines are opened once, with external data by path, and a file that two name is read once", async () => {
  const source = memory(await files()), ort = runtime();
  const bundle = await openBundle(source, ort);
  assert.deepEqual(ort.opened, []);
  const told: number[] = [];
  await bundle.load({ onProgress: ({ done, total }) => told.push(done / total) });
  assert.equal(await bundle.engine("one"), await bundle.engine("one"));
  assert.deepEqual(ort.opened, [{ graph: "graph of one", external: ["shared.dat"] }, { graph: "graph of two", external: ["shared.dat"] }]);
  assert.equal(source.reads.filter((path) => path.endsWith("shared.dat")).length, 1);
  assert.equal(told.at(-1), 1);
  assert.ok(told.every((part, index) => part > (told[index - 1] ?? 0)));
});

test("bytes are held while an engine that needs them is not open yet, and no longer", async () => {
  const content = await files();
  const source = memory(content), listed = listedFiles(source);
  const entry = { path: "shared.dat", sha256: await sha256(SHARED), bytes: SHARED.length };
  assert.equal(await listed.get("one", entry), await listed.get("two", entry));
  listed.keep(new Set([entry.sha256]));
  await listed.get("two", entry);
  assert.equal(source.reads.length, 1);
  listed.keep(new Set());
  await listed.get("two", entry);
  assert.equal(source.reads.length, 2);
  const second = memory(content);
  const bundle = await openBundle(second, runtime());
  await bundle.engine("two");
  await bundle.engine("one");
  assert.deepEqual(second.reads.filter((path) => path.endsWith(".dat")), ["two/shared.dat"]);
});

for (const path of ["one/model.onnx", "one/shared.dat"]) {
  test(`a flipped byte in ${path} is refused, and the file named`, async () => {
    const content = await files();
    const bytes = Uint8Array.from(content.get(path)!);
    bytes[3] ^= 1;
    const ort = runtime();
    const bundle = await openBundle(memory(content.set(path, bytes)), ort);
    await assert.rejects(bundle.engine("one"), (error: Error) => error instanceof BundleError && error.message.includes(path));
    assert.deepEqual(ort.opened, []);
    content.set(path, (await files()).get(path)!);
    await bundle.engine("one"); // another try finds the file as it is now
  });
}

test("a file that is cut short, and one that is missing, are refused by name", async () => {
  const content = await files();
  const bundle = await openBundle(memory(content.set("one/model.onnx", text("graph"))), runtime());
  await assert.rejects(bundle.engine("one"), /one\/model.onnx has 5 bytes, its manifest says 12/);
  content.delete("one/model.onnx");
  await assert.rejects(bundle.engine("one"), /one\/model.onnx is not there/);
});

test("files may lie gzip-compressed beside their names, and servers may unpack them on the way", async () => {
  for (const unpacked of [false, true]) {
    const content = await files(true);
    if (unpacked) content.set("one/model.onnx.gz", text("graph of one"));
    const ort = runtime();
    await (await openBundle(memory(content), ort)).load();
    assert.equal(ort.opened[0].graph, "graph of one");
  }
  const content = await files(true);
  content.set("one/shared.dat.gz", content.get("one/shared.dat.gz")!.slice(0, -9));
  await assert.rejects((await openBundle(memory(content), runtime())).engine("one"), /one\/shared.dat.gz is no whole gzip file/);
});

test("what a cache has is not read again, but checked again", async () => {
  const cache = keeping(), source = memory(await files());
  await (await openBundle(source, runtime(), { cache })).load();
  assert.equal(cache.kept.size, 3);
  const second = memory(await files());
  await (await openBundle(second, runtime(), { cache })).load();
  assert.ok(second.reads.every((path) => path.endsWith(".json")), String(second.reads));
  const [key] = cache.kept.keys();
  cache.kept.set(key, text("something else of that size"));
  const third = memory(await files());
  await (await openBundle(third, runtime(), { cache })).load();
  assert.equal(third.reads.filter((path) => !path.endsWith(".json")).length, 1);
});

test("a signal ends the loading with its reason", async () => {
  const bundle = await openBundle(memory(await files()), runtime());
  await assert.rejects(bundle.load({ signal: AbortSignal.abort(new Error("enough")) }), /enough/);
});

test("on a device that is not trusted an engine has to find its golden values", async () => {
  const golden = { inputs: { x: { shape: [1], eye: 1, wave: { step: 1, low: 0, high: 1 } } }, outputs: { y: { shape: [1], norm: 2, probes: [2] } } };
  const content = await files();
  content.set("one/manifest.json", await manifest("one", { golden }));
  await (await openBundle(memory(content), runtime("webgpu", 2))).engine("one");
  await assert.rejects((await openBundle(memory(content), runtime("webgpu", 2.1))).engine("one"), /'one' on webgpu: the output 'y' is off its golden value/);
  await (await openBundle(memory(content), runtime("wasm", 2.1))).engine("one");
});

test("manifests of another schema, folder or kind are refused", async () => {
  const read = async (fields: object) => parseManifest(JSON.parse(new TextDecoder().decode(await manifest("one", fields))), "one");
  await assert.rejects(read({ schema: 2 }), /schema is 2, this version reads 1/);
  await assert.rejects(read({ name: "other" }), /names the engine 'other', but lies in 'one'/);
  await assert.rejects(read({ metadata: { chain: [] } }), /'one' is a chain/);
  await assert.rejects(read({ weights: [{}] }), /weights from elsewhere/);
  await assert.rejects(read({ files: {} }), /lists no file 'graph'/);
});

test("paths stay inside their folder", () => {
  for (const path of ["", "/a", "../a", "a/../b", "a\\b", "C:/a", "a\0", ".", "a//b", 3]) assert.throws(() => checkPath(path, "x"), BundleError);
  assert.equal(checkPath("a/b..c.onnx", "x"), "a/b..c.onnx");
});

test("a folder on disk is read, and a link that leads out of it is refused", async () => {
  const root = await mkdtemp(join(tmpdir(), "faceprotect-"));
  await mkdir(join(root, "bundle"));
  await writeFile(join(root, "secret"), "no");
  await writeFile(join(root, "bundle", "file"), "yes");
  await symlink(join(root, "secret"), join(root, "bundle", "link"));
  const source = folderSource(join(root, "bundle"));
  assert.equal(new TextDecoder().decode(await source.read("file")), "yes");
  await assert.rejects(source.read("link"), /leads out of the folder/);
  await assert.rejects(source.read("../secret"), BundleError);
  await assert.rejects(source.read("none"), /none in .* cannot be read/);
});

test("files come over HTTP with their bytes counted; what is not there and what is cut off is named", async () => {
  const server = createServer((request, response) => {
    if (request.url === "/x/a%20b/file") return response.end("0123456789");
    if (request.url === "/x/cut") return response.writeHead(200, { "content-length": 100 }).write("012", () => response.destroy());
    if (request.url === "/x/slow") return response.write("0");
    return response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const source = httpSource(`http://127.0.0.1:${(server.address() as AddressInfo).port}/x`);
    const told: number[] = [];
    assert.equal(new TextDecoder().decode(await source.read("a b/file", undefined, (done) => told.push(done))), "0123456789");
    assert.equal(told.at(-1), 10);
    assert.equal((await source.read("a b/file")).length, 10); // as well where nobody listens
    await assert.rejects(source.read("none"), (error: Error) => error instanceof BundleError && /\/x\/none could not be fetched: 404/.test(error.message));
    await assert.rejects(source.read("cut"), BundleError);
    await assert.rejects(source.read("slow", AbortSignal.timeout(50)), { name: "TimeoutError" });
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
