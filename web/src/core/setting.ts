import type { Feeds, Tensor } from "../types.ts";
import { drawOf, identityDraw, type Draw } from "./draws.ts";
import { fixedShape, inputOf, outputOf, type Engine } from "./engine.ts";
import { RecipeError } from "./errors.ts";
import { gather } from "./gather.ts";
import { PURPOSE, type Stream } from "./philox.ts";
import type { Joined, RunOptions } from "./recipe.ts";
import type { DescendStage } from "./recipe_schema.ts";
import { finite, floats, zeros, type Arrays, type Float } from "./tensors.ts";

/** What a descent runs on. */
export interface DescentPlan {
  readonly stage: DescendStage;
  readonly index: number;
  readonly engine: Engine;
  readonly arrays: Arrays;
  readonly stream: Stream;
  readonly joined: readonly Joined[];
  readonly options: RunOptions;
}

/** What stays the same in one descent: constant feeds, bounds, random numbers. */
export interface Setting extends DescentPlan {
  readonly where: string;
  readonly constant: Feeds;
  /** The variable as the recipe has it, within the bounds; `nudged`: with the noise of the start (section 4.2). */
  readonly start: Float;
  readonly nudged: Float;
  bounded(variable: Float): Float;
  /** The draw of a step, and the identity; nothing where the stage does not draw. */
  draw(step: number): Draw | undefined;
  readonly plain: Draw | undefined;
  /** The outputs with these names, and every output of one number, which the trace has. */
  asked(names: readonly string[]): string[];
  /** What the engine is fed but for weights. */
  feeds(variable: Float, draw: Draw | undefined): Record<string, Tensor>;
  late(): boolean;
}

/** What the recipe keeps of outputs, under its names. */
export function keptOf(stage: DescendStage, outputs: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(stage.keep).map(([output, array]) => [array, outputs[output]]));
}

/** The gradient of a step; raises `RecipeError` for one that is not finite. */
export function gradientOf(setting: Setting, outputs: Readonly<Record<string, Tensor>>, step: number): Float {
  const gradient = floats(outputs[setting.stage.gradient], setting.stage.gradient, (said) => new RecipeError(`${setting.where}: ${said}`));
  if (!finite(gradient.data)) throw new RecipeError(`${setting.where}: the gradient is no longer finite at step ${step}`, "Lower the learning rate");
  return gradient;
}

/** Outputs of one number. */
export function scalars(outputs: Readonly<Record<string, Tensor>>): Record<string, number> {
  const single = Object.entries(outputs).filter(([, { data, shape }]) => data.length === 1 && shape.length <= 1);
  return Object.fromEntries(single.map(([name, { data }]) => [name, Number(data[0])]));
}

/** The setting of a plan; raises `RecipeError` and `BundleError` for what the engine or the arrays lack. */
export function settingOf(plan: DescentPlan): Setting {
  const { stage, engine, arrays, index } = plan;
  const where = `stage ${index} (descend ${stage.engine})`;
  checkEngine(plan, where);
  const { [stage.variable]: _, ...others } = stage.inputs;
  const constant = gather(others, arrays, where);
  const bounded = boundsOf(plan, where);
  const given = Object.hasOwn(arrays, stage.array) ? arrays[stage.array] : zeros(fixedShape(engine.manifest, stage.variable));
  const start = bounded(floats(given, stage.array, (said) => new RecipeError(`${where}: ${said}`)));
  const [size, channels] = drawnSize(plan);
  const cotangent = stage.join?.cotangent ?? "image_cotangent";
  const takesPull = engine.manifest.inputs.some(({ name }) => name === cotangent);
  const pulled = takesPull ? { [cotangent]: zeros(fixedShape(engine.manifest, cotangent)) } : {};
  return {
    ...plan, where, constant, start, bounded,
    nudged: stage.startStd ? bounded(noisy(start, stage.startStd, plan.stream)) : start,
    draw: (step) => stage.draws && drawOf(stage.draws.settings, size, channels, plan.stream, step),
    plain: stage.draws && identityDraw(size, channels),
    asked: (names) => engine.manifest.outputs.filter((output) => names.includes(output.name) || isScalar(output.shape)).map(({ name }) => name),
    feeds: (variable, draw) => ({ ...pulled, ...constant, [stage.variable]: variable, ...(draw && drawnFeeds(stage, draw)) }),
    late: () => performance.now() > (plan.options.deadline ?? Infinity),
  };
}

/** Raises `BundleError` or `RecipeError` for an input or output that the stage names and the engine does not have. */
function checkEngine({ stage, engine, joined }: DescentPlan, where: string): void {
  const { constraint, join } = stage;
  inputOf(engine.manifest, stage.variable);
  const judged = constraint ? [constraint.similarity, constraint.penalty] : [];
  const outputs = [stage.gradient, ...Object.keys(stage.keep), ...Object.keys(stage.until), ...judged];
  for (const name of outputs) outputOf(engine.manifest, name);
  if (!joined.length) return;
  if (!join || !constraint) throw new RecipeError(`${where}: recognisers that join need a constraint and "join" in the stage`);
  outputOf(engine.manifest, join.difference);
  inputOf(engine.manifest, join.cotangent);
}

function isScalar(shape: readonly (number | null)[]): boolean {
  return shape.length <= 1 && shape.every((size) => size === 1);
}

function noisy(start: Float, deviation: number, stream: Stream): Float {
  const noise = stream.normal(start.data.length, 0, PURPOSE.start);
  return { data: start.data.map((value, index) => value + Math.fround(Math.fround(deviation) * noise[index])), shape: start.shape };
}

function boundsOf({ stage, arrays }: DescentPlan, where: string): (variable: Float) => Float {
  if (!stage.bounds) return (variable) => variable;
  const [low, high] = stage.bounds.map((side) => {
    if (typeof side === "number") return () => side;
    const { data } = gather({ bounds: side }, arrays, where).bounds;
    return (index: number) => Number(data[data.length === 1 ? 0 : index]);
  });
  return ({ data, shape }) => ({ data: data.map((value, index) => Math.min(Math.max(value, low(index)), high(index))), shape });
}

function drawnSize({ stage, engine }: DescentPlan): [number, number] {
  if (!stage.draws) return [0, 0];
  return [fixedShape(engine.manifest, stage.draws.rows).at(-1)!, fixedShape(engine.manifest, stage.draws.noise)[1]];
}

function drawnFeeds(stage: DescendStage, draw: Draw): Record<string, Tensor> {
  const { rows, cols, noise } = stage.draws!;
  return { [rows]: draw.rows, [cols]: draw.cols, [noise]: draw.noise };
}
