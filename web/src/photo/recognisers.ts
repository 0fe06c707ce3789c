/** Recognisers of a bundle: which search, which judge, and how each sees a crop (SPEC 8.1, 8.2, 8.4, 8.5). */
import type { Bundle } from "../core/bundle.ts";
import { cosine, embed } from "../core/embed.ts";
import type { Manifest } from "../core/manifest.ts";
import { stepStage } from "../core/recipe_schema.ts";
import { insideNames } from "../core/search.ts";
import type { Float } from "../core/tensors.ts";
import type { Verdict } from "../types.ts";

export interface Recogniser {
  readonly name: string;
  /** A cosine from here on is a match. */
  readonly threshold: number;
  /** From the threshold down to the mean similarity of strangers: the unit of margins. */
  readonly spread: number;
}

/** Name to embedding [E]. */
export type Embeddings = Readonly<Record<string, Float32Array>>;

/** Those that the search descends on, in its order: inside the step engine, then those that join it. */
export function searchedOf(bundle: Bundle): Recogniser[] {
  const stage = stepStage(bundle.recipe);
  const joins = stage.kind === "descend" && stage.join !== undefined;
  const inside = insideNames(bundle);
  const stated = new Map(bundle.facts.surrogates.map((one) => [one.engine, one]));
  const joining = joins ? [...stated.keys()].filter((name) => !inside.includes(name)) : [];
  return [...inside.filter((name) => stated.has(name)), ...joining].map((name) => recogniserOf(stated.get(name)!));
}

/** All that score: those that are searched on first, then the others of the bundle. */
export function panelOf(bundle: Bundle): Recogniser[] {
  const found = searchedOf(bundle);
  for (const fact of [...bundle.facts.surrogates, ...bundle.facts.judges]) {
    if (!found.some(({ name }) => name === fact.engine)) found.push(recogniserOf(fact));
  }
  return found;
}

function recogniserOf({ engine, threshold, spread }: { engine: string; threshold: number; spread: number }): Recogniser {
  return { name: engine, threshold, spread };
}

/** Names of those that the search touches, or whose weights an engine of the recipe has learnt from. */
export function dependentOf(bundle: Bundle): Set<string> {
  const panel = panelOf(bundle);
  const identities = new Map(panel.map(({ name }) => [name, identityOf(bundle.manifest(name))]));
  const learnt = new Set(bundle.recipe.stages.flatMap(({ engine }) => bundle.manifest(engine).metadata.learnt_from ?? []));
  // What was learnt from in one form counts in all of its forms.
  for (const form of identities.values()) if (meet(form, learnt)) form.forEach((digest) => learnt.add(digest));
  const touched = [...searchedOf(bundle).map(({ name }) => identities.get(name)!), learnt];
  return new Set(panel.filter(({ name }) => touched.some((other) => meet(identities.get(name)!, other))).map(({ name }) => name));
}

/** Digests by which two recognisers are seen to share weights. */
function identityOf({ files, source }: Manifest): Set<string> {
  const stated = [source.sha256, source.model_sha256, ...((source.same_network as unknown[] | undefined) ?? [])];
  return new Set([files.graph.sha256, ...stated.filter((digest): digest is string => typeof digest === "string" && digest !== "")]);
}

function meet(one: ReadonlySet<string>, other: ReadonlySet<string>): boolean {
  return [...one].some((digest) => other.has(digest));
}

/** How each of the panel sees a crop [1, 3, 256, 256]. */
export async function embedAll(bundle: Bundle, panel: readonly Recogniser[], crop: Float, signal?: AbortSignal): Promise<Embeddings> {
  const found: Record<string, Float32Array> = {};
  for (const { name } of panel) {
    signal?.throwIfAborted();
    found[name] = await embed(await bundle.engine(name, signal), crop);
  }
  return found;
}

/** Largest similarity to the original over several cuts of another photo. */
export function similarityTo(original: Float32Array, cuts: readonly Float32Array[]): number {
  return Math.max(...cuts.map((cut) => cosine(original, cut)));
}

/** Not a number counts as matched: what cannot be measured is not protected. */
export function verdictOf({ name, threshold }: Recogniser, similarity: number, dependent: ReadonlySet<string>, before: number | null): Verdict {
  return { recogniser: name, similarity, threshold, matched: !(similarity < threshold), took_part: dependent.has(name), before };
}
