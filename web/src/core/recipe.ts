import type { Tensor } from "../types.ts";
import { descend } from "./descend.ts";
import { fixedShape, outputOf, type Engine } from "./engine.ts";
import { RecipeError } from "./errors.ts";
import { gather } from "./gather.ts";
import { breathe } from "./pause.ts";
import { stream } from "./philox.ts";
import type { MapStage, Recipe } from "./recipe_schema.ts";
import { zeros, type Arrays, type Float } from "./tensors.ts";

/** A recogniser that joins a search at run time (section 5.4). `reference` [1, E] is the unit embedding to move away from. */
export interface Joined {
  readonly name: string;
  readonly engine: Engine;
  readonly reference: Float;
  /** The similarity to get below, and the one where the search starts. */
  readonly limit: number;
  readonly origin: number;
}

/** Where a run is: `step` of `steps` is done of the stage. `worstExcess`: what is missing, in units of the way; `passed`: some step passed. */
export interface Step {
  readonly stage: number;
  readonly kind: "map" | "descend";
  readonly engine: string;
  readonly step: number;
  readonly steps: number;
  readonly passed?: boolean;
  readonly worstExcess?: number;
}

/** A row of the trace: numbers of one look of a descent, by the names of section 11.1. */
export type Row = Readonly<Record<string, number | boolean>>;

export interface RunOptions {
  /** From 0 on, below 2^64. */
  readonly seed: bigint | number;
  /** Recognisers that join the descents with "join". */
  readonly joined?: readonly Joined[];
  /** Checked between steps: an engine's run is not cut short. */
  readonly signal?: AbortSignal;
  readonly onStep?: (step: Step) => void;
  /** By `performance.now()`: descents end after it with what they have found. */
  readonly deadline?: number;
}

export interface RunResult {
  /** The caller's arrays and all that stages stored. */
  readonly arrays: Arrays;
  readonly trace: readonly Row[];
  /** Why the last descent ended: "steps", "until", "patience", "start" or "time"; "" without a descent. */
  readonly stop: string;
  /** Whether the last descent with a constraint met it; `null` without one. */
  readonly passed: boolean | null;
  /** Seconds per stage, by "0 map face-encoder". */
  readonly timings: Readonly<Record<string, number>>;
}

/** What opens an engine of the recipe, by name. */
export type Engines = (name: string) => Promise<Engine>;

/**
 * Runs every stage in order over a dictionary of named arrays (section 3); nothing here knows a method. The caller's arrays go before the
 * recipe's constants. Raises `RecipeError` for an array that is missing and for numbers that are no longer finite, and the signal's reason.
 */
export async function runRecipe(recipe: Recipe, engines: Engines, arrays: Arrays, options: RunOptions): Promise<RunResult> {
  const joined = options.joined ?? [];
  if (joined.length && !recipe.stages.some((stage) => stage.kind === "descend" && stage.join)) {
    throw new RecipeError('recognisers that join need a descent with a constraint and "join" in the recipe');
  }
  const held: Record<string, Tensor> = { ...(await constants(recipe, engines, arrays)), ...arrays };
  const trace: Row[] = [], timings: Record<string, number> = {};
  let stop = "", passed: boolean | null = null;
  for (const [index, stage] of recipe.stages.entries()) {
    const started = performance.now();
    await breathe(options.signal);
    const engine = await engines(stage.engine);
    if (stage.kind === "map") {
      Object.assign(held, await runMap(stage, engine, held, `stage ${index} (map ${stage.engine})`));
      options.onStep?.({ stage: index, kind: "map", engine: stage.engine, step: 1, steps: 1 });
    } else {
      const found = await descend({ stage, index, engine, arrays: held, stream: stream(options.seed, index), joined: stage.join ? joined : [], options });
      Object.assign(held, found.arrays);
      trace.push(...found.trace);
      stop = found.stop;
      passed = found.passed ?? passed;
    }
    timings[`${index} ${stage.kind} ${stage.engine}`] = (performance.now() - started) / 1000;
  }
  return { arrays: held, trace, stop, passed, timings };
}

/** The constants that the caller has not given; those of an engine's shape open that engine. */
async function constants(recipe: Recipe, engines: Engines, arrays: Arrays): Promise<Record<string, Tensor>> {
  const found: Record<string, Tensor> = {};
  for (const [name, value] of Object.entries(recipe.constants)) {
    if (Object.hasOwn(arrays, name)) continue;
    found[name] = "engine" in value ? zeros(fixedShape((await engines(value.engine)).manifest, value.input)) : value;
  }
  return found;
}

async function runMap(stage: MapStage, engine: Engine, arrays: Arrays, where: string): Promise<Record<string, Tensor>> {
  const asked = Object.keys(stage.outputs);
  for (const name of asked) outputOf(engine.manifest, name);
  const outputs = await engine.run(gather(stage.inputs, arrays, where), asked);
  for (const name of asked) checkRange(outputs[name], name, stage.within, where);
  return Object.fromEntries(Object.entries(stage.outputs).map(([name, array]) => [array, outputs[name]]));
}

function checkRange(output: Tensor, name: string, within: readonly [number, number] | undefined, where: string): void {
  let least = Infinity, most = -Infinity, sound = true;
  for (const value of output.data) {
    const number = Number(value);
    sound &&= Number.isFinite(number);
    least = Math.min(least, number);
    most = Math.max(most, number);
  }
  const [low, high] = within ?? [-Infinity, Infinity];
  if (sound && low <= least && most <= high) return;
  const allowed = within ? `the recipe allows ${low} to ${high}` : "which are no numbers to go on with";
  throw new RecipeError(`${where}: '${name}' holds ${least} to ${most}, ${allowed}`, "Is the input a face?");
}
