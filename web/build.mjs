/**
 * node build.mjs
 *
 * Builds the page into sdk/faceprotect_sdk/web/page/, from which `faceprotect-sdk web` serves it, and the library into dist/: index.js and node.js
 * for projects with a bundler or Node, and browser/ with everything in it for pages without one.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const PAGE = join(HERE, "page");
const SOURCE = join(HERE, "src");
const DIST = join(HERE, "dist");
const INSTALLED = join(HERE, "..", "sdk", "faceprotect_sdk", "web", "page");
const PACKAGES = join(HERE, "node_modules");
/** Files that are loaded by their names from beside the script: ONNX Runtime's (the first one again in every thread) and libwebp. */
const WASM_FILES = [
  "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs", "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
  "@jsquash/webp/codec/dec/webp_dec.wasm", "@jsquash/webp/codec/enc/webp_enc.wasm",
];
/** Terms of what is built in and copied; ONNX Runtime's package holds no file of its own. */
const LICENCES = { "libwebp": "@jsquash/webp/codec/LICENSE.codec.md", "@jsquash/webp": "@jsquash/webp/LICENSE" };
const MIT = `Copyright (c) Microsoft Corporation. MIT License: permission is hereby granted, free of charge, to any person obtaining a copy of this
software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions: The above copyright notice and this permission notice shall be included
in all copies or substantial portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;
const PLAIN_FILES = ["index.html", "style.css", "icon.svg", "manifest.webmanifest"];

const common = {
  bundle: true, platform: "browser", target: "es2022", format: "esm", minify: true, legalComments: "linked", logLevel: "warning",
  absWorkingDir: HERE, conditions: ["onnxruntime-web-use-extern-wasm"],
};

/** Builds the page into the folder `out`, emptied before. For tests, `engine`: another module in place of page/engine.ts; `further` scripts by name. */
export async function buildPage(out = INSTALLED, engine = join(PAGE, "engine.ts"), further = {}) {
  await emptied(out);
  await build({
    ...common, outdir: out, plugins: [inPlaceOf("./engine.ts", engine)],
    entryPoints: { page: join(PAGE, "main.ts"), worker: join(PAGE, "worker.ts"), painter: join(PAGE, "painter.ts"), ...further },
  });
  for (const name of PLAIN_FILES) await copyFile(join(PAGE, name), join(out, name));
  await copyRuntime(out);
  const files = (await readdir(out)).sort();
  await build({
    ...common, format: "iife", entryPoints: [join(PAGE, "sw.ts")], outfile: join(out, "sw.js"),
    define: { FILES: JSON.stringify(["./", ...files.filter((name) => !name.endsWith(".txt"))]), VERSION: JSON.stringify(await digest(out, files)) },
  });
}

/** Builds the library into dist/, emptied before. */
export async function buildLibrary() {
  await emptied(DIST);
  await build({ ...common, minify: false, packages: "external", outdir: DIST, entryPoints: [join(SOURCE, "index.ts")] });
  await build({ ...common, minify: false, packages: "external", platform: "node", target: "node20", outdir: DIST, entryPoints: [join(SOURCE, "node.ts")] });
  await buildBrowser(join(DIST, "browser"));
  execFileSync(process.execPath, [join(PACKAGES, "typescript", "bin", "tsc"), "-p", join(HERE, "tsconfig.types.json")], { stdio: "inherit" });
}

/** Builds the library for pages without a bundler into the folder `out`, emptied before. */
export async function buildBrowser(out) {
  await emptied(out);
  await build({ ...common, outfile: join(out, "faceprotect.js"), entryPoints: [join(SOURCE, "index.ts")] });
  await copyRuntime(out);
}

async function emptied(folder) {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
}

async function copyRuntime(folder) {
  for (const path of WASM_FILES) await copyFile(join(PACKAGES, path), join(folder, basename(path)));
  const terms = [`onnxruntime-web\n\n${MIT}`];
  for (const [name, path] of Object.entries(LICENCES)) terms.push(`${name}\n\n${(await readFile(join(PACKAGES, path), "utf8")).trim()}`);
  await writeFile(join(folder, "LICENSES.txt"), `${terms.join("\n\n----\n\n")}\n`);
}

function inPlaceOf(name, file) {
  const swap = ({ path, importer }) => (path === name && dirname(importer) === PAGE ? { path: file } : null);
  return { name: "engine", setup: (setup) => setup.onResolve({ filter: /engine\.ts$/ }, swap) };
}

/** Of names and contents: a page that changed in any way is a new version to the service worker. */
async function digest(folder, files) {
  const hash = createHash("sha256");
  for (const name of files) hash.update(name).update(await readFile(join(folder, name)));
  return hash.digest("hex").slice(0, 16);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await buildPage();
  await buildLibrary();
}
