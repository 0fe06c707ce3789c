import assert from "node:assert/strict";
import { test } from "node:test";
import { makeOptimiser } from "../src/core/optimise.ts";
import { tensor } from "../src/core/tensors.ts";

/** What torch 2.13 gives: AdamW([0.5, -1.0], lr=0.05, weight_decay=0.1) after each of the three gradients below. */
const ADAMW = [[0.44750002, -0.94499999], [0.39865354, -0.95266008], [0.3684772, -0.95747048]];

function path(settings: Record<string, unknown>, gradients: number[][], start: number[], steps = 10): number[][] {
  const optimiser = makeOptimiser(settings, steps);
  let variable = tensor(start);
  return gradients.map((gradient) => [...(variable = optimiser(variable, tensor(gradient)) as typeof variable).data]);
}

function near(found: number[], expected: number[], tolerance = 2e-6): void {
  found.forEach((value, index) => assert.ok(Math.abs(value - expected[index]) <= tolerance, `${found} is not ${expected}`));
}

test("AdamW takes the steps that torch.optim.AdamW takes", () => {
  const steps = path({ name: "adamw", learning_rate: 0.05, weight_decay: 0.1 }, [[1, -2], [0.5, 3], [-0.25, 0]], [0.5, -1]);
  ADAMW.forEach((expected, index) => near(steps[index], expected));
});

test("the first step of AdamW is the learning rate, against the gradient's sign", () => {
  near(path({ name: "adamw", learning_rate: 0.16, betas: [0.9, 0.99] }, [[1e-3, -50, 0]], [1, 1, 1])[0], [0.84, 1.16, 1]);
});

test("sign momentum goes by the sign of the sum of directions", () => {
  const steps = path({ name: "sign_momentum", learning_rate: 0.5, decay: 0.5, norm: "l1" }, [[3, -1], [-1, 0], [0, 0]], [0, 0]);
  assert.deepEqual(steps, [[-0.5, 0.5], [0, 1], [0.5, 1.5]]);
});

test("an annealed rate falls along half a cosine and does not rise again", () => {
  const steps = path({ name: "gradient_descent", learning_rate: 1, anneal: 0.2 }, [[1], [1], [1], [1]], [0], 2);
  const rates = steps.map(([value], index) => (index ? steps[index - 1][0] : 0) - value);
  near(rates, [1, 0.6, 0.2, 0.2]);
});

test("names, options and numbers that are wrong are refused", () => {
  const refused: [Record<string, unknown>, RegExp][] = [
    [{ name: "lion", learning_rate: 1 }, /no optimiser "lion"; choose one of: adamw/],
    [{ name: "adamw", learning_rate: 0 }, /learning_rate is 0/],
    [{ name: "adamw", learning_rate: 1, momentum: 1 }, /no option 'momentum'/],
    [{ name: "adamw", learning_rate: 1, betas: [0.9, 1] }, /betas is 1/],
    [{ name: "sign_momentum", learning_rate: 1, norm: "max" }, /norm is "max"/],
  ];
  for (const [settings, said] of refused) assert.throws(() => makeOptimiser(settings, 1), said);
});
