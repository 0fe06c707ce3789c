import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { tracesApart } from "../src/core/conformance.ts";
import { RecipeError } from "../src/core/errors.ts";
import { runRecipe, type Row, type Step } from "../src/core/recipe.ts";
import { parseRecipe } from "../src/core/recipe_schema.ts";
import { tensor, zeros, type Arrays } from "../src/core/tensors.ts";
import { affineEngine, stepEngine, surrogateEngine } from "./core-toys.ts";

interface Case {
  readonly name: string;
  readonly recipe: unknown;
  readonly joined: number;
  readonly arrays: Record<string, number[]>;
  readonly stop: string;
  readonly passed: boolean | null;
  readonly trace: Row[];
  readonly offset: number[];
}

const IMAGE = [1, 3, 4, 4];
const toy = JSON.parse(readFileSync(new URL("core-toy.json", import.meta.url), "utf8")) as { directions: number[][]; cases: Case[] };
const oneCase = (name: string) => toy.cases.find((one) => one.name === name)!;

function run(one: Case, options: { signal?: AbortSignal; onStep?: (step: Step) => void; deadline?: number; runs?: string[][]; arrays?: Arrays } = {}) {
  const engine = stepEngine(toy.directions.slice(0, 2), options.runs);
  const mine = { name: "mine", engine: surrogateEngine(), reference: tensor(toy.directions[2], [1, 48]), limit: 0.4, origin: 0.95 };
  const joined = Array.from({ length: one.joined }, () => mine);
  const given = Object.entries(one.arrays).map(([name, values]) => [name, tensor(values, name === "offset" ? IMAGE : [values.length])]);
  const arrays = { original: zeros(IMAGE), limit: tensor([0.5, 0.5]), ...Object.fromEntries(given), ...options.arrays };
  return runRecipe(parseRecipe(one.recipe), async () => engine, arrays, { seed: 5, joined, ...options });
}

for (const one of toy.cases) {
  test(`the toy search '${one.name}' is found as Python finds it`, async () => {
    const found = await run(one);
    assert.equal(found.stop, one.stop);
    assert.equal(found.passed, one.passed);
    assert.equal(found.trace.length, one.trace.length);
    for (const [index, row] of found.trace.entries()) {
      assert.deepEqual(Object.keys(row).sort(), Object.keys(one.trace[index]).sort());
      assert.deepEqual([row.clean, row.passed, row.step], [one.trace[index].clean, one.trace[index].passed, one.trace[index].step]);
    }
    assert.ok(tracesApart(found.trace, one.trace) < 1e-4, `off by ${tracesApart(found.trace, one.trace)}`);
    const offset = found.arrays.offset.data as Float32Array;
    assert.ok(one.offset.every((value, index) => Math.abs(value - offset[index]) < 1e-4));
  });
}

test("the caller's arrays are left as they are", async () => {
  const offset = tensor(new Array(48).fill(0.05), IMAGE);
  await run(oneCase("joined"), { arrays: { offset } });
  assert.ok(offset.data.every((value) => value === Math.fround(0.05)));
});

test("gradients are asked for only where an update follows", async () => {
  const runs: string[][] = [];
  const { trace } = await run(oneCase("bisect"), { runs });
  const updates = runs.filter((asked) => asked.includes("grad_offset")).length;
  assert.equal(updates, 39);
  assert.equal(runs.length, trace.length);
});

test("an abort between two steps ends the run with the signal's reason", async () => {
  const stop = new AbortController();
  let steps = 0;
  const running = run(oneCase("joined"), { signal: stop.signal, onStep: () => ++steps === 3 && stop.abort(new Error("enough")) });
  await assert.rejects(running, /enough/);
  assert.equal(steps, 3);
});

test("a deadline that has passed leaves one clean look", async () => {
  const { stop, trace } = await run(oneCase("fit"), { deadline: performance.now() - 1 });
  assert.equal(stop, "time");
  assert.deepEqual(trace.map((row) => row.clean), [true]);
});

test("steps are reported up to the last", async () => {
  const told: Step[] = [];
  await run(oneCase("fit"), { onStep: (step) => told.push(step) });
  assert.deepEqual(told.map((one) => one.step), Array.from({ length: 40 }, (_, index) => index + 1));
  assert.ok(told.every((one) => one.steps === 40 && one.engine === "step"));
});

test("recognisers that join want a recipe that has room for them", async () => {
  const recipe = { schema: 2, name: "toy", stages: [{ kind: "map", engine: "affine", inputs: { x: "a" }, outputs: { y: "b" } }] };
  const joined = [{ name: "mine", engine: surrogateEngine(), reference: tensor(toy.directions[2], [1, 48]), limit: 0.4, origin: 1 }];
  await assert.rejects(runRecipe(parseRecipe(recipe), async () => affineEngine(1), {}, { seed: 0, joined }), RecipeError);
});

const MAPS = {
  schema: 2, name: "maps", parameters: { first: 3 }, constants: { a: ["$first", 1, 2], b: { zeros: [3] } },
  stages: [
    { kind: "map", engine: "affine", inputs: { x: "a" }, outputs: { y: "c" } },
    { kind: "map", engine: "affine", inputs: { x: "c" }, outputs: { y: "d" }, within: [0, 20] },
  ],
};

test("maps run in order over constants, parameters and the caller's arrays", async () => {
  const of = async (parameters: Record<string, number>, arrays: Arrays) =>
    Array.from((await runRecipe(parseRecipe(MAPS, parameters), async () => affineEngine(1), arrays, { seed: 0 })).arrays.d.data, Number);
  assert.deepEqual(await of({}, {}), [15, 7, 11]);
  assert.deepEqual(await of({ first: 0 }, {}), [3, 7, 11]);
  assert.deepEqual(await of({}, { a: tensor([0, 0, 0]) }), [3, 3, 3]);
  await assert.rejects(of({}, { a: tensor([5, 0, 0]) }), /'y' holds 3 to 23, the recipe allows 0 to 20/);
  await assert.rejects(of({}, { a: tensor([NaN, 0, 0]) }), /no numbers to go on with/);
});

test("an array that is missing is named, with those that are there", async () => {
  const recipe = parseRecipe({ ...MAPS, constants: {} });
  await assert.rejects(runRecipe(recipe, async () => affineEngine(1), { z: zeros([1]) }, { seed: 0 }), /needs the array 'a'; there are: z/);
});

const WRONG: [string, object, RegExp][] = [
  ["another schema", { schema: 1 }, /schema is 1, this version reads 2/],
  ["an unknown field", { stage: [] }, /unknown field 'stage'/],
  ["no stages", { stages: [] }, /stages: expected a list that is not empty/],
  ["a parameter that it does not list", { constants: { a: ["$other"] } }, /uses the parameter '\$other'/],
  ["an unknown kind", { stages: [{ kind: "loop" }] }, /kind is "loop"/],
  ["an unknown field of a stage", { stages: [{ ...MAPS.stages[0], steps: 3 }] }, /stage 0: unknown field 'steps'/],
  ["a name that could be a path", { name: "../up" }, /recipe, name/],
  ["budgets beyond the whole", { budgets: { budget: 1.5 } }, /budgets, budget: expected a share/],
  ["strengths that lack one", { strengths: { low: { margin: 1, budget: 1 } } }, /strengths, medium/],
];

for (const [what, fields, said] of WRONG) {
  test(`a recipe with ${what} is refused`, () => assert.throws(() => parseRecipe({ ...MAPS, ...fields }), said));
}

test("a parameter that the recipe has not is refused", () => {
  assert.throws(() => parseRecipe(MAPS, { second: 1 }), /no parameter 'second'; its parameters are: first/);
});
