import type { Descent } from "./descend.ts";
import { RecipeError } from "./errors.ts";
import { fitting, judge, startLaw, steer, type LawState, type LawVerdict } from "./law.ts";
import { lookerOf, type Look, type Looker } from "./look.ts";
import { makeOptimiser } from "./optimise.ts";
import type { Row } from "./recipe.ts";
import type { ConstraintPlan } from "./recipe_schema.ts";
import { gradientOf, keptOf, type Setting } from "./setting.ts";
import { floats, type Float } from "./tensors.ts";

/** Where a search stands: the law's state, the best look and the last one, and why the walk ended. */
interface Found {
  readonly state: LawState;
  readonly best: Look;
  readonly last: Look;
  readonly stop: string;
}

interface Search {
  readonly setting: Setting;
  readonly plan: ConstraintPlan;
  readonly limit: Float32Array;
  readonly look: Looker;
  readonly trace: Row[];
  judge(state: LawState, seen: Look): [LawState, LawVerdict];
}

/** A descent under a constraint (section 5.5). */
export async function constrained(setting: Setting, plan: ConstraintPlan): Promise<Descent> {
  const limit = limitsOf(setting, plan);
  const search: Search = {
    setting, plan, limit, trace: [],
    look: lookerOf(setting, plan, limit),
    judge: (state, seen) => judge(plan.settings, state, seen.similarity, limit, seen.penalty),
  };
  let state = startLaw(plan.settings, limit, originsOf(setting, plan, limit));
  let first: Look | undefined;
  if (plan.settings.accept_start) {
    first = await search.look(state, setting.start, setting.plain, true);
    const [judged, verdict] = search.judge(state, first);
    record(search, first, { step: -1, passed: verdict.passes });
    if (verdict.passes) {
      tell(setting, setting.stage.steps - 1, true, first.worst);
      return ended(search, { state: { ...state, passed: true }, best: first, last: first, stop: "start" });
    }
    state = { ...state, bestLack: judged.bestLack, bestWithin: judged.bestWithin };
  } else if (setting.joined.length) {
    await search.look(state, setting.nudged, setting.plain, true); // for what they pull at the first step
  }
  const found = await walk(search, state, first);
  if (found.stop === "time") return ended(search, found);
  return ended(search, await (found.state.passed ? bisect(search, found) : fit(search, found)));
}

/** At most the stage's steps; each look is judged before its update, and the last of them is clean. */
async function walk(search: Search, state: LawState, best: Look | undefined): Promise<Found> {
  const { setting, plan } = search;
  const { stage } = setting;
  const optimiser = makeOptimiser(stage.optimiser, stage.steps);
  let variable = setting.nudged;
  for (let step = 0; ; step++) {
    const late = setting.late(), final = step === stage.steps - 1, last = final || late;
    let stop = late && !final ? "time" : "steps";
    const seen = await search.look(state, variable, last ? setting.plain : setting.draw(step), last);
    const verdict = seen.clean ? search.judge(state, seen) : undefined;
    record(search, seen, verdict ? { step, passed: verdict[1].passes } : { step });
    if (verdict) {
      state = verdict[0];
      if (verdict[1].keep) best = seen;
      if (verdict[1].stop && stop !== "time") stop = "patience";
    }
    state = steer(plan.settings, state, seen.penalty);
    tell(setting, step, state.passed, seen.worst);
    if (last || stop !== "steps") {
      if (!best) throw new RecipeError(`${setting.where}: no step gave finite numbers`, "Check the bundle: faceprotect-sdk engines verify");
      return { state, best, last: seen, stop };
    }
    variable = setting.bounded(optimiser(variable, gradientOf(setting, seen.outputs, step)));
  }
}

/** The best variable scaled down towards zero, no change, as far as it still passes with a smaller penalty. */
async function bisect(search: Search, found: Found): Promise<Found> {
  const { setting, plan } = search;
  const farthest = found.best.variable;
  let low = 0, high = 1, best = found.best;
  for (let turn = 0; turn < plan.settings.bisect && !setting.late(); turn++) {
    const scale = (low + high) / 2;
    const seen = await search.look(found.state, setting.bounded(scaled(farthest, scale)), setting.plain, true);
    const passes = seen.worst <= 0;
    record(search, seen, { step: search.trace.length, scale, passed: passes });
    [low, high] = passes ? [low, scale] : [scale, high];
    if (passes && seen.penalty < best.penalty) best = seen;
  }
  return { ...found, best };
}

/** The last variable scaled to the budget, where that misses less than the best did: the walk only swings around the budget. */
async function fit(search: Search, found: Found): Promise<Found> {
  const { setting, plan } = search;
  let { state, best, last } = found;
  for (let turn = 0; turn < plan.settings.fit && !setting.late(); turn++) {
    const scale = fitting(plan.settings, last.penalty);
    last = await search.look(state, setting.bounded(scaled(last.variable, scale)), setting.plain, true);
    const [judged, verdict] = search.judge(state, last);
    record(search, last, { step: search.trace.length, scale, passed: verdict.passes });
    state = judged;
    if (verdict.keep) best = last;
  }
  return { ...found, state, best, last };
}

function ended({ setting, trace }: Search, { state, best, stop }: Found): Descent {
  return { arrays: { [setting.stage.array]: best.variable, ...keptOf(setting.stage, best.outputs) }, trace, stop, passed: state.passed };
}

function record({ setting, trace }: Search, seen: Look, more: Row): void {
  trace.push({ stage: setting.index, clean: seen.clean, ...seen.row, ...more });
}

function tell({ options, index, engine, stage }: Setting, step: number, passed: boolean, worstExcess: number): void {
  options.onStep?.({ stage: index, kind: "descend", engine: engine.name, step: step + 1, steps: stage.steps, passed, worstExcess });
}

function scaled({ data, shape }: Float, factor: number): Float {
  return { data: data.map((value) => Math.fround(factor) * value), shape };
}

/** Limits of all surrogates: the array's, then those of the joined ones. */
function limitsOf(setting: Setting, plan: ConstraintPlan): Float32Array {
  const own = vector(setting, plan.limit);
  if (!own) throw new RecipeError(`${setting.where}: the constraint needs the array '${plan.limit}' [K]`);
  const count = setting.engine.manifest.outputs.find(({ name }) => name === plan.similarity)?.shape[0];
  if (typeof count === "number" && own.length !== count) {
    throw new RecipeError(`${setting.where}: '${plan.limit}' has ${own.length} values, the engine has ${count} surrogates`);
  }
  return Float32Array.of(...own, ...setting.joined.map((one) => one.limit));
}

/** Similarities where the search starts: 1 where the caller gives none. */
function originsOf(setting: Setting, plan: ConstraintPlan, limit: Float32Array): Float32Array {
  const own = vector(setting, plan.origin);
  if (!own) return limit.map(() => 1);
  const origin = Float32Array.of(...own, ...setting.joined.map((one) => one.origin));
  if (origin.length !== limit.length) throw new RecipeError(`${setting.where}: '${plan.origin}' and '${plan.limit}' differ in their number of values`);
  return origin;
}

function vector(setting: Setting, name: string): Float32Array | undefined {
  if (!Object.hasOwn(setting.arrays, name)) return undefined;
  return floats(setting.arrays[name], name, (said) => new RecipeError(`${setting.where}: ${said}`)).data;
}
