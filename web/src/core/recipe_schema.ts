import { count, fill, list, names, number, object, only, pair, settings, share, text, type Json, type Names } from "./checks.ts";
import { DRAW_DEFAULTS, type DrawSettings } from "./draws.ts";
import { RecipeError } from "./errors.ts";
import { LAW_DEFAULTS, type LawSettings } from "./law.ts";
import { METHOD_FIELDS, parseMethod, type MethodPlan } from "./method.ts";
import type { OptimiserSettings } from "./optimise.ts";
import { tensor, zeros, type Float } from "./tensors.ts";

/** Runs an engine once (section 3.1). */
export interface MapStage {
  readonly kind: "map";
  readonly engine: string;
  readonly inputs: Names;
  readonly outputs: Names;
  readonly within?: readonly [number, number];
}

/** Repeats a gradient engine on one variable (section 3.2). */
export interface DescendStage {
  readonly kind: "descend";
  readonly engine: string;
  readonly variable: string;
  readonly inputs: Names;
  /** Name of the array that holds the variable. */
  readonly array: string;
  /** Engine output that holds the gradient. */
  readonly gradient: string;
  readonly optimiser: OptimiserSettings;
  readonly steps: number;
  readonly startStd: number;
  readonly draws?: { readonly rows: string; readonly cols: string; readonly noise: string; readonly settings: DrawSettings };
  readonly constraint?: ConstraintPlan;
  readonly join?: { readonly original: string; readonly difference: string; readonly cotangent: string; readonly further: number };
  readonly keep: Names;
  readonly until: Readonly<Record<string, number>>;
  readonly bounds?: readonly [number | string, number | string];
}

/** The law, and the engine outputs, inputs and arrays that it works on (sections 3.2 and 5). */
export interface ConstraintPlan {
  readonly similarity: string;
  readonly penalty: string;
  readonly weights: string;
  readonly penalty_weight: string;
  readonly limit: string;
  readonly origin: string;
  readonly reduction: "sum" | "mean";
  readonly settings: LawSettings;
}

export type Stage = MapStage | DescendStage;

/** A constant: numbers, or zeros of the shape of an engine's input. */
export type Constant = Float | { readonly engine: string; readonly input: string };

/** A recipe, checked, with its parameters filled in (section 3). */
export interface Recipe {
  readonly name: string;
  readonly stages: readonly Stage[];
  readonly parameters: Readonly<Record<string, number>>;
  readonly constants: Readonly<Record<string, Constant>>;
  readonly method: MethodPlan;
  readonly document: Json;
}

const SCHEMA = 2;
const MAP_FIELDS = ["kind", "description", "engine", "inputs", "outputs", "within"];
const DESCEND_FIELDS = [
  "kind", "description", "engine", "variable", "inputs", "optimiser", "steps", "start_std", "draws", "constraint", "join", "keep", "until", "bounds",
];

/** The recipe of a document of JSON, with other values for parameters that it has; raises `RecipeError` saying which field is wrong. */
export function parseRecipe(given: unknown, parameters: Readonly<Record<string, number>> = {}): Recipe {
  const document = object(given, "recipe");
  if (document.schema !== SCHEMA) throw new RecipeError(`recipe: schema is ${JSON.stringify(document.schema)}, this version reads ${SCHEMA}`);
  only(document, ["schema", "name", ...METHOD_FIELDS, "parameters", "constants", "stages"], "recipe");
  const name = text(document.name, "recipe, name");
  if (!/^[A-Za-z0-9_-]{1,40}$/.test(name)) throw new RecipeError(`recipe, name: expected at most 40 letters, digits, '-' and '_', found '${name}'`);
  const defaults = object(document.parameters ?? {}, "recipe, parameters");
  const unknown = Object.keys(parameters).find((key) => !Object.hasOwn(defaults, key));
  if (unknown) throw new RecipeError(`recipe has no parameter '${unknown}'; its parameters are: ${Object.keys(defaults).join(", ") || "none"}`);
  const values = { ...defaults, ...parameters } as Record<string, number>;
  const stages = list(document.stages, "recipe, stages").map((stage, index) => parseStage(fill(stage, values), `recipe, stage ${index}`));
  const constants = Object.entries(object(fill(document.constants ?? {}, values), "recipe, constants"));
  return {
    name, stages, parameters: values, document,
    constants: Object.fromEntries(constants.map(([key, value]) => [key, constant(value, `recipe, constants, ${key}`)])),
    method: parseMethod(document),
  };
}

/** The stage that searches: the last descend stage, or the last stage where nothing descends (section 3.5). */
export function stepStage(recipe: Recipe): Stage {
  return recipe.stages.findLast((stage) => stage.kind === "descend") ?? recipe.stages[recipe.stages.length - 1];
}

function parseStage(value: unknown, where: string): Stage {
  const stage = object(value, where);
  if (stage.kind === "descend") return parseDescend(stage, where);
  if (stage.kind !== "map") throw new RecipeError(`${where}: kind is ${JSON.stringify(stage.kind)}; give 'map' or 'descend'`);
  only(stage, MAP_FIELDS, where);
  return {
    kind: "map",
    engine: text(stage.engine, `${where}, engine`),
    inputs: names(stage.inputs, `${where}, inputs`),
    outputs: names(stage.outputs, `${where}, outputs`),
    within: stage.within == null ? undefined : pair(stage.within, `${where}, within`),
  };
}

function parseDescend(stage: Json, where: string): DescendStage {
  only(stage, DESCEND_FIELDS, where);
  const variable = text(stage.variable, `${where}, variable`);
  const inputs = names(stage.inputs, `${where}, inputs`);
  const until = Object.entries(object(stage.until ?? {}, `${where}, until`));
  if (until.length && stage.constraint) throw new RecipeError(`${where}: "until" ends a descent without a constraint; a constraint has its "patience"`);
  return {
    kind: "descend", variable, inputs,
    engine: text(stage.engine, `${where}, engine`),
    array: inputs[variable] ?? variable,
    gradient: `grad_${variable}`,
    optimiser: object(stage.optimiser, `${where}, optimiser`),
    steps: count(stage.steps, `${where}, steps`),
    startStd: number(stage.start_std ?? 0, `${where}, start_std`),
    draws: stage.draws ? draws(object(stage.draws, `${where}, draws`), `${where}, draws`) : undefined,
    constraint: stage.constraint ? constraint(object(stage.constraint, `${where}, constraint`), `${where}, constraint`) : undefined,
    join: stage.join == null ? undefined : join(object(stage.join, `${where}, join`), `${where}, join`),
    keep: names(stage.keep ?? {}, `${where}, keep`),
    until: Object.fromEntries(until.map(([name, value]) => [name, number(value, `${where}, until, ${name}`)])),
    bounds: stage.bounds == null ? undefined : bounds(stage.bounds, `${where}, bounds`),
  };
}

function draws(plan: Json, where: string): DescendStage["draws"] {
  only(plan, ["rows", "cols", "noise", ...Object.keys(DRAW_DEFAULTS)], where);
  return { ...renamed(plan, ["rows", "cols", "noise"], where), settings: settings(plan, DRAW_DEFAULTS, where) };
}

function constraint(plan: Json, where: string): ConstraintPlan {
  const keys = ["similarity", "penalty", "weights", "penalty_weight", "limit", "origin"] as const;
  only(plan, [...keys, "reduction", ...Object.keys(LAW_DEFAULTS)], where);
  const reduction = plan.reduction ?? "sum";
  if (reduction !== "sum" && reduction !== "mean") throw new RecipeError(`${where}: reduction is ${JSON.stringify(reduction)}; give 'sum' or 'mean'`);
  const law = settings(plan, LAW_DEFAULTS, where);
  const works = law.budget > 0 && law.start > 0 && law.grow >= 1 && law.shrink > 0 && law.shrink <= 1 && law.gain > 0 && law.ramp > 0 && law.lowest > 0;
  if (!works) throw new RecipeError(`${where}: budget, start, gain, ramp and lowest have to be above 0, grow at least 1, and shrink above 0 and at most 1`);
  return { ...renamed(plan, keys, where), reduction, settings: law };
}

function join(plan: Json, where: string): DescendStage["join"] {
  only(plan, ["original", "difference", "cotangent", "further"], where);
  const { original, difference } = renamed(plan, ["original", "difference"], where);
  const cotangent = text(plan.cotangent ?? "image_cotangent", `${where}, cotangent`);
  return { original, difference, cotangent, further: share(plan.further ?? 1, `${where}, further`) };
}

/** Names that default to themselves. */
function renamed<K extends string>(plan: Json, keys: readonly K[], where: string): Record<K, string> {
  return Object.fromEntries(keys.map((key) => [key, text(plan[key] ?? key, `${where}, ${key}`)])) as Record<K, string>;
}

function bounds(value: unknown, where: string): [number | string, number | string] {
  if (!Array.isArray(value) || value.length !== 2) throw new RecipeError(`${where}: expected [low, high], found ${JSON.stringify(value)}`);
  const [low, high] = value.map((side) => (typeof side === "string" ? side : number(side, where)));
  return [low, high];
}

function constant(value: unknown, where: string): Constant {
  if (Array.isArray(value)) return tensor(list(value, where).map((item) => number(item, where)));
  const stated = object(value, where);
  only(stated, ["zeros"], where);
  if (Array.isArray(stated.zeros)) return zeros(list(stated.zeros, `${where}, zeros`).map((size) => count(size, `${where}, zeros`)));
  const from = object(stated.zeros, `${where}, zeros`);
  only(from, ["engine", "input"], `${where}, zeros`);
  return { engine: text(from.engine, `${where}, zeros, engine`), input: text(from.input, `${where}, zeros, input`) };
}
