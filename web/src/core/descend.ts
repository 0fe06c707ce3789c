import type { Tensor } from "../types.ts";
import { makeOptimiser } from "./optimise.ts";
import { breathe } from "./pause.ts";
import type { Row } from "./recipe.ts";
import { gradientOf, keptOf, scalars, settingOf, type DescentPlan, type Setting } from "./setting.ts";
import { constrained } from "./walk.ts";

/** Arrays to store, a row for each look, why it ended, and whether a constraint was met. */
export interface Descent {
  readonly arrays: Record<string, Tensor>;
  readonly trace: readonly Row[];
  readonly stop: string;
  readonly passed?: boolean;
}

/** Runs a descend stage (sections 3.2 to 3.4). */
export async function descend(plan: DescentPlan): Promise<Descent> {
  const setting = settingOf(plan);
  return plan.stage.constraint ? constrained(setting, plan.stage.constraint) : free(setting);
}

/** A descent without a constraint (section 3.3). */
async function free(setting: Setting): Promise<Descent> {
  const { stage, engine, options, index } = setting;
  const optimiser = makeOptimiser(stage.optimiser, stage.steps);
  const goals = Object.entries(stage.until);
  const trace: Row[] = [];
  let variable = setting.nudged, stop = "steps";
  for (let step = 0; step < stage.steps; step++) {
    await breathe(options.signal);
    const draw = setting.draw(step);
    const outputs = await engine.run(setting.feeds(variable, draw), setting.asked([stage.gradient, ...goals.map(([name]) => name)]));
    trace.push({ stage: index, step, clean: draw?.clean ?? true, ...scalars(outputs) });
    options.onStep?.({ stage: index, kind: "descend", engine: engine.name, step: step + 1, steps: stage.steps });
    if (goals.length && goals.every(([name, goal]) => Math.max(...Array.from(outputs[name].data, Number)) <= goal)) {
      stop = "until";
      break;
    }
    variable = setting.bounded(optimiser(variable, gradientOf(setting, outputs, step)));
    if (setting.late()) {
      stop = "time";
      break;
    }
  }
  const kept = Object.keys(stage.keep);
  const outputs = kept.length ? await engine.run(setting.feeds(variable, setting.plain), setting.asked(kept)) : {};
  return { arrays: { [stage.array]: variable, ...keptOf(stage, outputs) }, trace, stop };
}
