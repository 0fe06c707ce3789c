import { FaceprotectError } from "../types.ts";
import type { Bundle } from "./bundle.ts";
import { fixedShape, outputOf } from "./engine.ts";
import { RecipeError } from "./errors.ts";
import { runRecipe, type Joined, type Row, type Step } from "./recipe.ts";
import { parseRecipe, stepStage, type Recipe } from "./recipe_schema.ts";
import { floats, tensor, zeros, type Float } from "./tensors.ts";

/** One search on one face (sections 3.5 and 8.3). */
export interface SearchRequest {
  /** The canonical crop [1, 3, 256, 256] and the mask [1, 1, 256, 256]. */
  readonly crop: Float;
  readonly mask: Float;
  /** Of every surrogate that takes part, by engine name: the unit vector to move away from, and the similarity to get below. */
  readonly references: Readonly<Record<string, Float32Array>>;
  readonly limits: Readonly<Record<string, number>>;
  /** Similarities at the start where they are not 1: with a decoy. */
  readonly origins?: Readonly<Record<string, number>>;
  readonly budget: number;
  /** Other values for parameters that the recipe has, `steps` for one. */
  readonly parameters?: Readonly<Record<string, number>>;
  readonly seed: bigint | number;
  /** Name of the decoy to move towards, for engines that have learnt it; and of the look. */
  readonly decoy?: string;
  readonly look?: string;
  readonly signal?: AbortSignal;
  readonly onStep?: (step: Step) => void;
  readonly deadline?: number;
}

export interface SearchResult {
  /** [3, 256, 256]: protected crop minus original. */
  readonly difference: Float32Array;
  /** `null` for a method that does not search. */
  readonly passed: boolean | null;
  readonly trace: readonly Row[];
  readonly stop: string;
}

/** A limit that every cosine is below: the surrogate then has no weight. */
const NOT_IN_USE = 2;

/** Runs a bundle's recipe on a face; it opens the engines that it needs. What it gives the recipe is section 3.5; no method is known here. */
export async function searchFace(bundle: Bundle, request: SearchRequest): Promise<SearchResult> {
  const joined = await joinedOf(bundle, request);
  const budget: Record<string, number> = "budget" in bundle.recipe.parameters ? { budget: budgetOf(bundle.recipe, request.budget, joined.length) } : {};
  const recipe = parseRecipe(bundle.recipe.document, { ...bundle.recipe.parameters, ...request.parameters, ...budget });
  const arrays = {
    ...faceArrays(bundle, request),
    ...wished(bundle, "goal", request.decoy ?? "dodge"),
    ...wished(bundle, "look", request.look),
  };
  const { seed, signal, onStep, deadline } = request;
  const found = await runRecipe(recipe, (name) => bundle.engine(name, signal), arrays, { seed, joined, signal, onStep, deadline });
  const difference = found.arrays.difference;
  if (difference?.data.length !== request.crop.data.length) throw new RecipeError(`'${recipe.name}' leaves no array 'difference' of the crop's size`);
  return { difference: floats(difference, "difference", (said) => new RecipeError(said)).data, passed: found.passed, trace: found.trace, stop: found.stop };
}

/** Names of the surrogates inside the step engine, in its order. */
export function insideNames(bundle: Bundle): readonly string[] {
  return bundle.manifest(stepStage(bundle.recipe).engine).metadata.surrogates ?? [];
}

/** Recognisers beside the step engine that take part: those that the request has a limit for. Only a search can be joined. */
async function joinedOf(bundle: Bundle, request: SearchRequest): Promise<Joined[]> {
  const stage = stepStage(bundle.recipe);
  if (stage.kind !== "descend" || !stage.join) return [];
  const inside = insideNames(bundle);
  const names = bundle.facts.surrogates.map((one) => one.engine).filter((name) => !inside.includes(name) && name in request.limits);
  const found: Joined[] = [];
  for (const name of names) {
    outputOf(bundle.manifest(name), "grad_image");
    const engine = await bundle.engine(name, request.signal);
    const reference = request.references[name];
    found.push({ name, engine, reference: tensor(reference, [1, reference.length]), limit: request.limits[name], origin: request.origins?.[name] ?? 1 });
  }
  return found;
}

/** What a search may spend: the more recognisers it knows, the less it takes to be a stranger to one that it does not know. */
function budgetOf(recipe: Recipe, budget: number, joined: number): number {
  const stage = stepStage(recipe);
  const further = stage.kind === "descend" && stage.join ? stage.join.further : 1;
  return budget * further ** Math.max(joined - 1, 0);
}

function faceArrays(bundle: Bundle, request: SearchRequest): Record<string, Float> {
  const inside = insideNames(bundle);
  const shares = Object.entries(bundle.recipe.method.budgets);
  return {
    original: request.crop,
    mask: request.mask,
    limit: tensor(inside.map((name) => request.limits[name] ?? NOT_IN_USE)),
    origin: tensor(inside.map((name) => request.origins?.[name] ?? 1)),
    ...Object.fromEntries(shares.map(([name, share]) => [name, tensor([share * request.budget])])),
    ...referencesOf(bundle, request, inside),
  };
}

function referencesOf(bundle: Bundle, request: SearchRequest, inside: readonly string[]): Record<string, Float> {
  const found: Record<string, Float> = {};
  for (const name of inside) {
    const array = `reference_${name.replaceAll("-", "_")}`;
    for (const stage of bundle.recipe.stages) {
      const input = Object.entries(stage.inputs).find(([, read]) => read === array)?.[0];
      if (input === undefined) continue;
      const shape = fixedShape(bundle.manifest(stage.engine), input);
      found[array] = name in request.limits ? tensor(request.references[name], shape) : zeros(shape);
    }
  }
  return found;
}

/** The array `goal` or `look`: 1 at the wished name, in the order of the engine that reads it; nothing where none does. */
function wished(bundle: Bundle, array: "goal" | "look", wish: string | undefined): Record<string, Float> {
  const stage = bundle.recipe.stages.find((one) => Object.values(one.inputs).includes(array));
  if (!stage) return {};
  const { metadata } = bundle.manifest(stage.engine);
  const names = (array === "goal" ? metadata.goals : metadata.looks) ?? [];
  const offered = array === "goal" ? metadata.trained_goals ?? names : names;
  const name = wish ?? names[0];
  if (!offered.includes(name)) throw new FaceprotectError(array, `'${bundle.recipe.name}' has no ${array} '${name}'; it has: ${offered.join(", ")}`);
  return { [array]: tensor(names.map((one) => Number(one === name)), [1, names.length]) };
}
