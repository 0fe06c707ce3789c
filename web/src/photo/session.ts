/** One face on its way through a protection: search, paste, score on the written pixels, search again if need be (SPEC 8). */
import type { Bundle } from "../core/bundle.ts";
import { cosine } from "../core/embed.ts";
import type { StrengthPlan } from "../core/method.ts";
import { searchFace, type SearchResult } from "../core/search.ts";
import { norm, unit, type Float } from "../core/tensors.ts";
import type { Face, FaceResult, Verdict } from "../types.ts";
import { alignedCrop } from "./align.ts";
import { clip } from "./affine.ts";
import { isCovered } from "./covered.ts";
import { leastAlike, type Decoy } from "./decoys.ts";
import { faceInPlace, shift } from "./faces.ts";
import type { Detector } from "./detector.ts";
import type { Raster } from "./raster.ts";
import { embedAll, similarityTo, verdictOf, type Embeddings, type Recogniser } from "./recognisers.ts";

/** Beyond what was missing, so that the next attempt does not end at the threshold again; in spreads. */
const [STEP, LARGEST_STEP] = [0.2, 0.4];
/** A photo that is still matched by less than this may not be with other draws. */
const NEAR = 0.1;
/** A shift that no recogniser's alignment feels, as a part of the face's width. */
const MOVED = 0.005;

/** What the faces of a call share. */
export interface Setting {
  readonly bundle: Bundle;
  readonly detector: Detector;
  readonly panel: readonly Recogniser[];
  readonly searched: readonly Recogniser[];
  readonly dependent: ReadonlySet<string>;
  readonly mask: Float;
  /** Null: away from oneself. */
  readonly decoys: readonly Decoy[] | null;
  readonly evenCovered: boolean;
  readonly signal?: AbortSignal;
}

/** The state of a face between attempts. */
export interface FaceSession {
  readonly index: number;
  readonly face: Face;
  /** The detector's near view of the original. */
  readonly seen: Face | null;
  readonly crop: Float;
  /** Of the original, by every recogniser; and the similarity to it of the original as it is merely written again. */
  readonly own: Embeddings;
  readonly before: Readonly<Record<string, number>>;
  readonly references: Readonly<Record<string, Float32Array>>;
  readonly origins: Readonly<Record<string, number>>;
  readonly decoy: Decoy | null;
  readonly covered: boolean;
  margin: number;
  attempts: number;
  steps: number;
  found: SearchResult | null;
  verdicts: readonly Verdict[];
}

/** Looks at the original. `written`: the original as these settings write it; null where writing changes nothing. */
export async function startSession(
  setting: Setting, index: number, face: Face, photo: Raster, written: Raster | null, margin: number,
): Promise<FaceSession> {
  const { bundle, panel, signal } = setting;
  const crop = alignedCrop(photo, face.points);
  const own = await embedAll(bundle, panel, crop, signal);
  const again = written === null ? own : await embedAll(bundle, panel, alignedCrop(written, face.points), signal);
  const before = Object.fromEntries(panel.map(({ name }) => [name, cosine(own[name], again[name])]));
  const decoy = setting.decoys === null ? null : leastAlike(setting.decoys, own, setting.searched);
  const seen = await faceInPlace(setting.detector, photo, face);
  const covered = !setting.evenCovered && isCovered(crop.data);
  return {
    index, face, seen, crop, own, before, ...wayOf(setting.searched, own, decoy), decoy, covered,
    margin, attempts: 0, steps: 0, found: null, verdicts: [],
  };
}

/** What the search moves away from, and the similarities to it at the start where they are not 1 (SPEC 8.3). */
function wayOf(searched: readonly Recogniser[], own: Embeddings, decoy: Decoy | null): Pick<FaceSession, "references" | "origins"> {
  const references: Record<string, Float32Array> = {};
  const origins: Record<string, number> = {};
  for (const { name } of searched) {
    const self = unit(own[name]);
    references[name] = self;
    if (decoy === null) continue;
    const other = unit(decoy.embeddings[name]);
    const way = self.map((value, i) => value - other[i]);
    const length = Math.max(norm(way), 1e-6);
    origins[name] = self.reduce((sum, value, i) => sum + value * way[i], 0) / length;
    references[name] = way.map((value) => value / length);
  }
  return { references, origins };
}

/** Whether the written pixels are not, or not yet, found unmatched, and there is something left to try within the budget. */
export function wantsSearch(session: FaceSession, setting: Setting): boolean {
  if (session.covered) return false;
  if (session.found === null || session.verdicts.length === 0) return true;
  return isMatched(session) && (session.found.passed !== false || missing(session, setting) < NEAR);
}

/** Whether a recogniser matches, or none has been asked. */
export function isMatched({ verdicts }: FaceSession): boolean {
  return verdicts.length === 0 || verdicts.some(({ matched }) => matched);
}

/** How far above its threshold the most stubborn recogniser is, in its spreads; infinite for what is no number. */
function missing({ verdicts }: FaceSession, { panel }: Setting): number {
  const lacks = verdicts.filter(({ matched }) => matched).map(({ recogniser, similarity, threshold }) => {
    const lack = (similarity - threshold) / panel.find(({ name }) => name === recogniser)!.spread;
    return Number.isFinite(lack) ? lack : Infinity;
  });
  return Math.max(0, ...lacks);
}

/** Searches once; beyond the first time with a margin widened by what was missing, within the same budget. */
export async function search(
  session: FaceSession, setting: Setting, strength: StrengthPlan, seed: bigint, onStep: (done: number, total: number) => void,
): Promise<void> {
  const { bundle, searched, mask, signal } = setting;
  if (session.verdicts.length > 0) session.margin += clip(missing(session, setting), 0, LARGEST_STEP) + STEP;
  const shares = bundle.recipe.method.attempts;
  const share = shares.length > 0 ? shares[Math.min(session.attempts, shares.length - 1)] : 1;
  const limits = Object.fromEntries(searched.map((one) => [one.name, limitOf(session, one)]));
  session.found = await searchFace(bundle, {
    crop: session.crop, mask, references: session.references, limits, origins: session.origins, budget: share * strength.budget, seed,
    decoy: session.decoy?.name, signal, onStep: counted(bundle, onStep),
  });
  session.attempts++;
  session.steps += session.found.trace.length;
  session.verdicts = [];
}

function limitOf({ margin, decoy, origins }: FaceSession, { name, threshold, spread }: Recogniser): number {
  return decoy === null ? threshold - margin * spread : -Math.min(0.3 * margin, 1) * origins[name];
}

/** Steps of all the recipe's searches as those of one: of those within a budget, or of all where none has one; else its stages. */
function counted(bundle: Bundle, report: (done: number, total: number) => void): (step: { stage: number; step: number }) => void {
  const { stages } = bundle.recipe;
  const steps = stages.map((stage) => (stage.kind === "descend" ? stage.steps : 0));
  const bounded = stages.map((stage, i) => (stage.kind === "descend" && stage.constraint ? steps[i] : 0));
  const all = [bounded, steps, stages.map(() => 1)].find((counts) => counts.some((count) => count > 0))!;
  const total = all.reduce((sum, count) => sum + count, 0);
  return ({ stage, step }) => {
    const before = all.slice(0, stage).reduce((sum, count) => sum + count, 0);
    if (all[stage] > 0) report(Math.min(before + step, total), total);
  };
}

/** Verdicts on the decoded file, at the original's place and, where the detector's points moved, at theirs (SPEC 8.5). */
export async function score(session: FaceSession, setting: Setting, written: Raster): Promise<void> {
  const { bundle, panel, signal } = setting;
  const places = [session.face.points];
  const after = await faceInPlace(setting.detector, written, session.face);
  if (session.seen !== null && after !== null && shift(session.seen, after) > MOVED) {
    const { points } = session.seen;
    places.push(session.face.points.map(([x, y], i) => [x + after.points[i][0] - points[i][0], y + after.points[i][1] - points[i][1]]));
  }
  const cuts: Embeddings[] = [];
  for (const place of places) cuts.push(await embedAll(bundle, panel, alignedCrop(written, place), signal));
  session.verdicts = panel.map((one) => {
    const similarity = similarityTo(session.own[one.name], cuts.map((cut) => cut[one.name]));
    return verdictOf(one, similarity, setting.dependent, session.before[one.name]);
  });
}

/** What is reported of the face as written. */
export function resultOf(session: FaceSession, written: Raster): FaceResult {
  const { index, face, verdicts, attempts, steps, found } = session;
  return {
    index, box: face.box, points: face.points, score: face.score,
    status: session.covered ? "covered" : isMatched(session) ? "still_matched" : "protected",
    verdicts, attempts, search_passed: found?.passed ?? null, steps,
    psnr: psnr(session.crop.data, alignedCrop(written, face.points).data),
  };
}

/** In dB, of arrays in 0 to 1; 100 for equal ones, so that it stays a number of JSON. */
function psnr(first: Float32Array, second: Float32Array): number {
  const error = first.reduce((sum, value, i) => sum + (value - second[i]) ** 2, 0) / first.length;
  return error < 1e-10 ? 100 : -10 * Math.log10(error);
}
