/**
 * Builds the page into sdk/faceprotect_sdk/page/, from which `faceprotect-sdk web` serves it, and the library into dist/.
 *
 * node build.mjs [page|library]      both without an argument
 */
import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const PAGE = join(HERE, "page");
const INSTALLED = join(HERE, "..", "sdk", "faceprotect_sdk", "page");
const RUNTIME = join(HERE, "node_modules", "onnxruntime-web", "dist");
/** ONNX Runtime loads these two by their names, the first one again in every thread. */
const RUNTIME_FILES = ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];
const PLAIN_FILES = ["index.html", "style.css", "icon.svg", "manifest.webmanifest"];

const common = {
  bundle: true, platform: "browser", target: "es2022", minify: !process.env.PLAIN, legalComments: "linked", logLevel: "warning", absWorkingDir: HERE,
  conditions: ["onnxruntime-web-use-extern-wasm"],
};

/** Builds the page into the folder `out`, emptied before. For tests, `engine`: another module in place of page/engine.ts; `further` scripts by name. */
export async function buildPage(out = INSTALLED, engine = join(PAGE, "engine.ts"), further = {}) {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await build({
    ...common, format: "esm", outdir: out, plugins: [inPlaceOf("./engine.ts", engine)],
    entryPoints: { page: join(PAGE, "main.ts"), worker: join(PAGE, "worker.ts"), painter: join(PAGE, "painter.ts"), ...further },
  });
  for (const name of PLAIN_FILES) await copyFile(join(PAGE, name), join(out, name));
  for (const name of RUNTIME_FILES) await copyFile(join(RUNTIME, name), join(out, name));
  const files = (await readdir(out)).sort();
  await build({
    ...common, format: "iife", entryPoints: [join(PAGE, "sw.ts")], outfile: join(out, "sw.js"),
    define: { FILES: JSON.stringify(["./", ...files.filter((name) => !name.endsWith(".txt"))]), VERSION: JSON.stringify(await digest(out, files)) },
  });
}

function inPlaceOf(name, file) {
  return { name: "engine", setup: (setup) => setup.onResolve({ filter: /engine\.ts$/ }, ({ path, importer }) => (path === name && importer.startsWith(PAGE) ? { path: file } : null)) };
}

/** Of names and contents: a page that changed in any way is a new version to the service worker. */
async function digest(folder, files) {
  const hash = createHash("sha256");
  for (const name of files) hash.update(name).update(await readFile(join(folder, name)));
  return hash.digest("hex").slice(0, 16);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await buildPage();
}
