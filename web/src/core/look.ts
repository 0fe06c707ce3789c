import type { Tensor } from "../types.ts";
import type { Draw } from "./draws.ts";
import { RecipeError } from "./errors.ts";
import { worstExcess, type LawState } from "./law.ts";
import { breathe } from "./pause.ts";
import type { Joined, Row } from "./recipe.ts";
import type { ConstraintPlan } from "./recipe_schema.ts";
import { scalars, type Setting } from "./setting.ts";
import { floats, type Float } from "./tensors.ts";

/** What was seen of `variable` (section 5.4): outputs, similarities [K + J], the penalty. `clean`: under no draw. */
export interface Look {
  readonly variable: Float;
  readonly outputs: Readonly<Record<string, Tensor>>;
  readonly similarity: Float32Array;
  readonly penalty: number;
  readonly clean: boolean;
  /** Largest similarity minus limit of those in use, in units of the way; every surrogate is below its limit where it is 0 or less. */
  readonly worst: number;
  readonly row: Row;
}

/** Looks at a variable; `last`: no update is made from it, so no gradient is asked for. */
export type Looker = (state: LawState, variable: Float, draw: Draw | undefined, last: boolean) => Promise<Look>;

/**
 * The looks of one descent. They remember how the joined recognisers pulled at the image that they saw last: the image is known only once
 * the engine has run, so that its cotangent is that of the look before.
 */
export function lookerOf(setting: Setting, plan: ConstraintPlan, limit: Float32Array): Looker {
  const { stage, engine, joined, options } = setting;
  const refuse = (said: string) => new RecipeError(`${setting.where}: ${said}`);
  let pulls: Float[] = [], through: Draw | undefined;
  return async (state, variable, draw, last) => {
    await breathe(options.signal);
    const names = [plan.similarity, plan.penalty, ...Object.keys(stage.keep)];
    if (!last) names.push(stage.gradient);
    if (joined.length) names.push(stage.join!.difference);
    const feeds = { ...setting.feeds(variable, draw), ...weighed(setting, plan, state, pulls, through) };
    const outputs = await engine.run(feeds, setting.asked(names));
    const similarity = Array.from(outputs[plan.similarity].data, Number);
    if (joined.length) {
      through = draw?.clean ? undefined : draw;
      const image = changed(setting, floats(outputs[stage.join!.difference], stage.join!.difference, refuse), refuse);
      const found = await seenBy(joined, through ? through.apply(image) : image, options.signal);
      similarity.push(...found.map((one) => Number(one.similarity.data[0])));
      pulls = found.map((one) => floats(one.grad_image, "grad_image", refuse));
    }
    return seen(plan, state, limit, variable, outputs, Float32Array.from(similarity), draw);
  };
}

function seen(
  plan: ConstraintPlan, state: LawState, limit: Float32Array, variable: Float, outputs: Look["outputs"], similarity: Float32Array, draw?: Draw,
): Look {
  const worst = worstExcess(similarity, limit, state.unit);
  const named = Object.fromEntries(Array.from(similarity, (value, k) => [`similarity_${k}`, value]));
  const row = { penalty_weight: state.penaltyWeight, ...scalars(outputs), worst_excess: worst, ...named };
  return { variable, outputs, similarity, penalty: Number(outputs[plan.penalty].data[0]), clean: draw?.clean ?? true, worst, row };
}

/** The state's weights, and what the joined recognisers pull at the image with theirs, once they have seen one. */
function weighed(setting: Setting, plan: ConstraintPlan, state: LawState, pulls: readonly Float[], through?: Draw): Record<string, Tensor> {
  const own = state.weights.length - setting.joined.length;
  const feeds: Record<string, Tensor> = {
    [plan.weights]: { data: state.weights.slice(0, own), shape: [own] },
    [plan.penalty_weight]: { data: Float32Array.of(state.penaltyWeight), shape: [1] },
  };
  if (!pulls.length) return feeds;
  const share = plan.reduction === "mean" ? 1 / own : 1;
  const total = new Float32Array(pulls[0].data.length);
  pulls.forEach(({ data }, j) => {
    const weight = Math.fround(share * state.weights[own + j]);
    for (let index = 0; index < total.length; index++) total[index] += Math.fround(weight * data[index]);
  });
  const pull = { data: total, shape: pulls[0].shape };
  return { ...feeds, [setting.stage.join!.cotangent]: through ? through.pullBack(pull) : pull };
}

/** The image that the engine has found: original plus difference, not clipped. */
function changed(setting: Setting, difference: Float, refuse: (said: string) => Error): Float {
  const name = setting.stage.join!.original;
  if (!Object.hasOwn(setting.arrays, name)) throw refuse(`recognisers that join need the array '${name}'`);
  const original = floats(setting.arrays[name], name, refuse);
  return { data: original.data.map((value, index) => value + difference.data[index]), shape: original.shape };
}

async function seenBy(joined: readonly Joined[], image: Float, signal?: AbortSignal): Promise<Record<string, Tensor>[]> {
  const found = [];
  for (const { engine, reference } of joined) {
    signal?.throwIfAborted();
    found.push(await engine.run({ image, reference }, ["similarity", "grad_image"]));
  }
  return found;
}
