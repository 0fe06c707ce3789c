import { BundleError } from "../types.ts";
import type { Bundle } from "./bundle.ts";
import { cosine, embed } from "./embed.ts";
import { checkGolden } from "./golden.ts";
import type { Region } from "./method.ts";
import { readNpy } from "./npy.ts";
import { stream, PURPOSE } from "./philox.ts";
import type { Row } from "./recipe.ts";
import { searchFace } from "./search.ts";
import { norm, unit, type Float } from "./tensors.ts";

/** One thing that was compared (section 11.1), with what its golden values or `tolerance` allow. */
export interface Compared {
  readonly name: string;
  readonly found: number;
  readonly allowed: number;
  readonly ok: boolean;
}

export interface Verification {
  readonly ok: boolean;
  readonly device: string;
  /** A row for each engine with golden values. */
  readonly engines: readonly Compared[];
  /** A row for each name of section 11.1 that was compared, and one for the draws. */
  readonly run: readonly Compared[];
  /** Seconds of each search, and its looks. */
  readonly searches: readonly { readonly seed: number; readonly seconds: number; readonly looks: number }[];
}

/** What the photo's side of the package finds on `conformance/photo.png`: the largest face, and its canonical crop [1, 3, 256, 256]. */
export interface PhotoFinding {
  readonly points: readonly (readonly [number, number])[];
  readonly score: number;
  readonly crop: Float;
}

export interface VerifyOptions {
  /** The mask [1, 1, 256, 256] of a region (section 7.4). */
  readonly mask: (region: Region) => Float;
  /** Finds the face in the photo's bytes; without it the run starts from `crop.npy`, and points, score and crop are not compared. */
  readonly photo?: (bundle: Bundle, png: Uint8Array) => Promise<PhotoFinding>;
  /** Seeds to run; default: all that the bundle has. */
  readonly seeds?: readonly number[];
  readonly signal?: AbortSignal;
  /** Called as rows come. */
  readonly onRow?: (row: Compared) => void;
}

const FIRST_STEPS = 5;

/**
 * Checks a bundle as `faceprotect-sdk engines verify` does: every file against its sha256, every engine against its golden values, and the
 * search of `conformance/` again (section 11.1). Raises `BundleError` for a file or an engine that is wrong; the run's rows say `ok`.
 */
export async function verifyBundle(bundle: Bundle, options: VerifyOptions): Promise<Verification> {
  await bundle.load({ signal: options.signal });
  const engines: Compared[] = [], run: Compared[] = [];
  const add = (rows: Compared[]) => (name: string, found: number, allowed: number) => {
    const row = { name, found, allowed, ok: found <= allowed };
    rows.push(row);
    options.onRow?.(row);
  };
  for (const name of bundle.names) {
    options.signal?.throwIfAborted();
    const errors = Object.values(await checkGolden(await bundle.engine(name), (path) => bundle.read(`${name}/${path}`)));
    if (errors.length) add(engines)(name, Math.max(...errors), bundle.manifest(name).golden.tolerance ?? 1e-3);
  }
  const searches = await runAgain(bundle, options, add(run));
  return { ok: [...engines, ...run].every((row) => row.ok), device: bundle.device, engines, run, searches };
}

/** A run of `conformance.json`. */
interface ExpectedRun {
  readonly seed: number;
  readonly draws: readonly { readonly stage: number; readonly step: number; readonly numbers: readonly number[]; readonly noise: readonly number[] }[];
  readonly steps: readonly Row[];
  readonly judges: Readonly<Record<string, number>>;
}

/** The same search found again: how far its difference and its judges are off. */
interface Searched {
  readonly run: ExpectedRun;
  readonly trace: readonly Row[];
  readonly seconds: number;
  readonly difference: number;
  readonly judge: number;
}

type Add = (name: string, found: number, allowed: number) => void;

async function runAgain(bundle: Bundle, options: VerifyOptions, add: Add): Promise<Verification["searches"]> {
  const expected = await bundle.json("conformance/conformance.json");
  const allowed = expected.tolerance;
  const array = async (name: string) => readNpy(await bundle.read(`conformance/${name}.npy`), `conformance/${name}.npy`);
  const stored = await array("crop");
  const crop = options.photo ? await comparePhoto(bundle, options.photo, expected, stored, add) : stored;
  const references: Record<string, Float32Array> = {};
  let apart = 0;
  for (const name of Object.keys(expected.limits)) {
    references[name] = unit(await embed(await bundle.engine(name), crop));
    apart = Math.max(apart, relativeNorm(references[name], (await array(`reference-${name}`)).data));
  }
  add("reference", apart, allowed.reference);
  const mask = options.mask(bundle.recipe.method.region);
  const found: Searched[] = [];
  for (const run of (expected.runs as ExpectedRun[]).filter(({ seed }) => options.seeds?.includes(seed) ?? true)) {
    const started = performance.now();
    const { trace, difference } = await searchFace(bundle, {
      crop, mask, references, limits: expected.limits, budget: expected.strength.budget, seed: run.seed, signal: options.signal,
    });
    const seconds = (performance.now() - started) / 1000;
    const wanted = (await array(`difference-${run.seed}`)).data;
    found.push({ run, trace, seconds, difference: relativeNorm(difference, wanted), judge: await judgesApart(bundle, crop, difference, run.judges) });
  }
  if (!found.length) throw new BundleError("conformance/conformance.json has no run with these seeds", "Pack the method again");
  const worst = (value: (one: Searched) => number) => Math.max(...found.map(value));
  add("draws", worst(({ run }) => drawsApart(run)), 1e-6);
  add("first_steps", worst(({ run, trace }) => tracesApart(trace.slice(0, FIRST_STEPS), run.steps.slice(0, FIRST_STEPS))), allowed.first_steps);
  add("steps", worst(({ run, trace }) => tracesApart(trace, run.steps)), allowed.steps);
  add("difference", worst((one) => one.difference), allowed.difference);
  add("judge", worst((one) => one.judge), allowed.judge);
  return found.map(({ run, seconds, trace }) => ({ seed: run.seed, seconds, looks: trace.length }));
}

async function comparePhoto(bundle: Bundle, find: NonNullable<VerifyOptions["photo"]>, expected: any, crop: Float, add: Add): Promise<Float> {
  const found = await find(bundle, await bundle.read(`conformance/${expected.photo}`));
  const points = found.points.flat(), wanted: number[] = expected.face.points.flat();
  add("points_px", Math.max(...wanted.map((value, index) => Math.abs(value - (points[index] ?? Infinity)))), expected.tolerance.points_px);
  add("score", Math.abs(found.score - expected.face.score), expected.tolerance.score);
  let apart = found.crop.data.length === crop.data.length ? 0 : Infinity;
  crop.data.forEach((value, index) => (apart = Math.max(apart, Math.abs(value - found.crop.data[index]))));
  add("crop", apart, expected.tolerance.crop);
  return found.crop;
}

/** Largest difference of a similarity under a judge; infinite for a judge that the bundle has no number for. */
async function judgesApart(bundle: Bundle, crop: Float, difference: Float32Array, expected: Readonly<Record<string, number>>): Promise<number> {
  const changed = { data: crop.data.map((value, index) => Math.min(Math.max(value + difference[index], 0), 1)), shape: crop.shape };
  let apart = 0;
  for (const { engine: name } of bundle.facts.judges) {
    const engine = await bundle.engine(name);
    const found = cosine(await embed(engine, crop), await embed(engine, changed));
    apart = Math.max(apart, Math.abs(found - (expected[name] ?? Infinity)));
  }
  return apart;
}

/** Largest difference of a number that the first steps draw. */
function drawsApart(run: ExpectedRun): number {
  const apart = run.draws.flatMap(({ stage, step, numbers, noise }) => {
    const numbersOf = stream(run.seed, stage);
    const uniform = numbersOf.uniform(numbers.length, step, PURPOSE.draw), normal = numbersOf.normal(noise.length, step, PURPOSE.noise);
    return [...numbers.map((value, index) => Math.abs(value - uniform[index])), ...noise.map((value, index) => Math.abs(value - normal[index]))];
  });
  return Math.max(0, ...apart);
}

/** Largest difference of a number of the trace over its largest magnitude; infinite for another number of rows, or where a number is missing. */
export function tracesApart(found: readonly Row[], expected: readonly Row[]): number {
  if (found.length !== expected.length) return Infinity;
  const names = new Set(expected.flatMap((row) => Object.keys(row).filter((name) => name !== "stage" && name !== "step" && typeof row[name] === "number")));
  let worst = 0;
  for (const name of names) {
    const pairs = expected.flatMap((row, index) => (name in row ? [[Number(found[index][name] ?? NaN), Number(row[name])]] : []));
    const scale = Math.max(1e-9, ...pairs.map(([, wanted]) => Math.abs(wanted)));
    for (const [ours, theirs] of pairs) worst = Number.isFinite(ours) ? Math.max(worst, Math.abs(ours - theirs) / scale) : Infinity;
  }
  return worst;
}

/** Norm of the difference over the norm; infinite for another number of values. */
function relativeNorm(found: Float32Array, expected: Float32Array): number {
  if (found.length !== expected.length) return Infinity;
  return norm(found.map((value, index) => value - expected[index])) / Math.max(norm(expected), 1e-12);
}
