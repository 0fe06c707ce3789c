import { BundleError, type Progress, type Runtime, type Source } from "../types.ts";
import type { FileCache } from "./cache.ts";
import { engineOf, type Engine } from "./engine.ts";
import { listedFiles, type Files } from "./files.ts";
import { checkGolden } from "./golden.ts";
import { parseManifest, type Manifest } from "./manifest.ts";
import { checkName } from "./paths.ts";
import { parseRecipe, type Recipe } from "./recipe_schema.ts";

/** A recogniser as a bundle names it (section 11): a similarity from `threshold` on is a match; `inside` the step engine, or beside it. */
export interface Recogniser {
  readonly engine: string;
  readonly threshold: number;
  readonly spread: number;
  readonly inside?: boolean;
}

/** The object `"bundle"` of `recipe.json` (section 11). */
export interface Facts {
  readonly crop: { readonly size: number; readonly points: readonly (readonly [number, number])[] };
  readonly detector: {
    readonly engine: string;
    readonly stride: number;
    readonly multiple: number;
    readonly pyramid: readonly (readonly [number, number])[];
    readonly same_face: number;
    readonly best_width: number;
  };
  readonly surrogates: readonly Recogniser[];
  readonly judges: readonly Recogniser[];
  readonly goals: readonly string[];
  readonly looks: readonly string[];
}

/** A method as one folder (section 11), with engines that are opened when they are asked for. */
export interface Bundle {
  readonly recipe: Recipe;
  readonly facts: Facts;
  readonly device: string;
  /** Names of all engines of the bundle. */
  readonly names: readonly string[];
  manifest(name: string): Manifest;
  /** An engine, opened once. */
  engine(name: string, signal?: AbortSignal): Promise<Engine>;
  /** Opens these engines one after the other (default: all), and reports bytes of files that are there. */
  load(options?: LoadOptions): Promise<void>;
  /** A file that no manifest lists: of `decoys/` or `conformance/`. */
  read(path: string, signal?: AbortSignal): Promise<Uint8Array>;
  json(path: string, signal?: AbortSignal): Promise<any>;
  /** Closes every engine that is open. */
  close(): Promise<void>;
}

export interface LoadOptions {
  names?: readonly string[];
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

/** Devices whose numbers are taken as they are; on others an engine has to find its golden values first. */
const TRUSTED = ["cpu", "wasm"];

/** Opens a bundle: reads its recipe and manifests, and no engine yet. Raises `BundleError` and `RecipeError`. */
export async function openBundle(source: Source, runtime: Runtime, options: { cache?: FileCache; signal?: AbortSignal } = {}): Promise<Bundle> {
  const document = await readJson(source, "recipe.json", options.signal);
  const recipe = parseRecipe(document);
  const facts = readFacts(document);
  const names = engineNames(recipe, facts);
  const read = async (name: string) => [name, parseManifest(await readJson(source, `${name}/manifest.json`, options.signal), name)] as const;
  const manifests = new Map(await Promise.all(names.map(read)));
  return held(source, runtime, recipe, facts, names, manifests, listedFiles(source, options.cache));
}

function held(
  source: Source, runtime: Runtime, recipe: Recipe, facts: Facts, names: readonly string[], manifests: ReadonlyMap<string, Manifest>, files: Files,
): Bundle {
  const engines = new Map<string, Promise<Engine>>();
  const waiting = new Set(names);
  const manifest = (name: string) => {
    const found = manifests.get(name);
    if (!found) throw new BundleError(`the bundle has no engine '${name}'; it has: ${names.join(", ")}`, "Pack the method again");
    return found;
  };
  const engine = (name: string, signal?: AbortSignal, onBytes?: Count) => {
    const known = engines.get(name);
    if (known) return known;
    const opening = openEngine(manifest(name), source, runtime, files, signal, onBytes);
    engines.set(name, opening);
    opening.then(() => {
      waiting.delete(name);
      files.keep(filesOf([...waiting].map(manifest)));
    }, () => engines.delete(name)); // so that another try opens it again
    return opening;
  };
  return {
    recipe, facts, names, manifest,
    device: runtime.device,
    engine: (name, signal) => engine(name, signal),
    async load({ names: wanted = names, signal, onProgress } = {}) {
      const count = counter(wanted.map(manifest), onProgress);
      for (const name of wanted) {
        signal?.throwIfAborted();
        await engine(name, signal, count);
        count.all(manifest(name));
      }
      files.keep(new Set());
    },
    read: (path, signal) => source.read(path, signal),
    json: (path, signal) => readJson(source, path, signal),
    async close() {
      const open = [...engines.values()];
      engines.clear();
      files.keep(new Set());
      await Promise.all(open.map(async (one) => (await one.catch(() => undefined))?.close()));
    },
  };
}

function filesOf(manifests: readonly Manifest[]): Set<string> {
  return new Set(manifests.flatMap(({ files }) => Object.values(files).map(({ sha256 }) => sha256)));
}

async function openEngine(
  manifest: Manifest, source: Source, runtime: Runtime, files: Files, signal?: AbortSignal, onBytes?: Count,
): Promise<Engine> {
  const read = (entry: Manifest["files"][string]) => files.get(manifest.name, entry, signal, (done) => onBytes?.one(entry.sha256, done));
  const external = [];
  for (const [key, entry] of Object.entries(manifest.files)) {
    // The file of a weights entry lies under the very name that the graph has for it (section 11).
    if (key !== "graph") external.push({ path: entry.path, data: await read(entry) });
  }
  const graph = await read(manifest.files.graph);
  signal?.throwIfAborted();
  const session = await runtime.open(graph, external).catch((error) => {
    throw new BundleError(`engine '${manifest.name}' (${manifest.files.graph.path}): ${error instanceof Error ? error.message : error}`, error?.hint);
  });
  const engine = engineOf(manifest, session, runtime.device);
  if (!TRUSTED.includes(runtime.device)) await proven(engine, (path) => source.read(`${manifest.name}/${path}`, signal));
  return engine;
}

async function proven(engine: Engine, read: (path: string) => Promise<Uint8Array>): Promise<void> {
  try {
    await checkGolden(engine, read);
  } catch (error) {
    await engine.close();
    throw error;
  }
}

interface Count {
  one(sha256: string, done: number): void;
  all(manifest: Manifest): void;
}

/** Adds up bytes of distinct files, and reports each change. */
function counter(manifests: readonly Manifest[], onProgress?: (progress: Progress) => void): Count {
  const sizes = new Map(manifests.flatMap(({ files }) => Object.values(files).map(({ sha256, bytes }) => [sha256, bytes])));
  const total = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  const there = new Map<string, number>();
  let told = -1;
  const report = () => {
    const done = [...there.values()].reduce((sum, bytes) => sum + bytes, 0);
    if (done === told) return;
    told = done;
    onProgress?.({ stage: "load", done, total });
  };
  return {
    one: (sha256, done) => (there.set(sha256, done), report()),
    all: ({ files }) => (Object.values(files).forEach(({ sha256, bytes }) => there.set(sha256, bytes)), report()),
  };
}

function engineNames(recipe: Recipe, facts: Facts): string[] {
  const named = [...recipe.stages.map((stage) => stage.engine), ...[...facts.surrogates, ...facts.judges].map((one) => one.engine), facts.detector.engine];
  return [...new Set(named)].map((name) => checkName(name, "recipe.json"));
}

function readFacts(document: any): Facts {
  const facts = document.bundle;
  const whole = facts?.crop && facts.detector?.engine && Array.isArray(facts.surrogates) && Array.isArray(facts.judges);
  if (!whole) throw new BundleError('recipe.json has no whole object "bundle" (crop, detector, surrogates, judges)', "Pack the method: faceprotect-sdk pack");
  return { goals: [], looks: [], ...facts };
}

async function readJson(source: Source, path: string, signal?: AbortSignal): Promise<any> {
  const bytes = await source.read(path, signal);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new BundleError(`${path} is no JSON: ${error instanceof Error ? error.message : error}`, "Copy the bundle again");
  }
}
