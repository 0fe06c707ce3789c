import type { Feeds, Tensor } from "../src/types.ts";
import { engineOf, type Engine } from "../src/core/engine.ts";
import type { Manifest, TensorSpec } from "../src/core/manifest.ts";

/** The toy engines of tests/engines/toy_models.py, in closed form: what a graph would compute of images [1, 3, 4, 4]. */
const SIZE = 4;
const IMAGE = [1, 3, SIZE, SIZE];
const WIDTH = 3 * SIZE * SIZE;

/** Similarity_k = 1 - <a_k, rows (original + offset) cols + noise>, penalty = |offset|^2, and the gradient of their weighted sum. */
export function stepEngine(directions: readonly (readonly number[])[], runs: string[][] = []): Engine {
  const count = directions.length, square = [1, SIZE, SIZE];
  const inputs = { offset: IMAGE, original: IMAGE, rows: square, cols: square, noise: IMAGE, weights: [count], penalty_weight: [1], image_cotangent: IMAGE };
  const outputs = { loss: [1], similarity: [count], penalty: [1], difference: IMAGE, grad_offset: IMAGE };
  return toy("step", inputs, outputs, runs, (feeds) => {
    const of = (name: string) => feeds[name].data as Float32Array;
    const image = of("original").map((value, i) => value + of("offset")[i]);
    const seen = sandwich(of("rows"), image, of("cols")).map((value, i) => value + of("noise")[i]);
    const similarity = directions.map((direction) => 1 - dot(direction, seen));
    const penalty = dot(of("offset"), of("offset")), held = of("penalty_weight")[0];
    const loss = dot(of("weights"), similarity) + held * penalty + dot(image, of("image_cotangent"));
    const pull = Float32Array.from({ length: WIDTH }, (_, i) => directions.reduce((sum, direction, k) => sum + of("weights")[k] * direction[i], 0));
    const pulled = sandwich(transpose(of("rows")), pull, transpose(of("cols")));
    const gradient = of("offset").map((value, i) => 2 * held * value - pulled[i] + of("image_cotangent")[i]);
    return { loss: [loss], similarity, penalty: [penalty], difference: of("offset"), grad_offset: gradient };
  });
}

/** Similarity = 1 - <reference, image>, and its gradient. */
export function surrogateEngine(): Engine {
  return toy("surrogate", { image: IMAGE, reference: [1, WIDTH] }, { similarity: [1], grad_image: IMAGE }, [], ({ image, reference }) => ({
    similarity: [1 - dot(image.data as Float32Array, reference.data as Float32Array)],
    grad_image: (reference.data as Float32Array).map((value) => -value),
  }));
}

/** y = 2 x + shift, for maps. */
export function affineEngine(shift: number): Engine {
  return toy("affine", { x: [3] }, { y: [3] }, [], ({ x }) => ({ y: (x.data as Float32Array).map((value) => 2 * value + shift) }));
}

type Shapes = Record<string, number[]>;

function toy(name: string, inputs: Shapes, outputs: Shapes, runs: string[][], compute: (feeds: Feeds) => Record<string, ArrayLike<number>>): Engine {
  const specs = (shapes: Shapes): TensorSpec[] => Object.entries(shapes).map(([key, shape]) => ({ name: key, dtype: "float32", shape }));
  const manifest: Manifest = { name, role: "step", files: {}, inputs: specs(inputs), outputs: specs(outputs), source: {}, golden: {}, metadata: {} };
  const run = async (feeds: Feeds, asked: readonly string[] = Object.keys(outputs)): Promise<Record<string, Tensor>> => {
    runs.push([...asked]);
    const found = compute(feeds);
    return Object.fromEntries(asked.map((key) => [key, { data: Float32Array.from(found[key]), shape: outputs[key] }]));
  };
  return engineOf(manifest, { run, close: async () => undefined }, "toy");
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function transpose(matrix: Float32Array): Float32Array {
  return matrix.map((_, i) => matrix[(i % SIZE) * SIZE + Math.floor(i / SIZE)]);
}

/** rows @ image @ cols for each of the three planes. */
function sandwich(rows: Float32Array, image: Float32Array, cols: Float32Array): Float32Array {
  const entry = (plane: number, r: number, c: number) => {
    let sum = 0;
    for (let i = 0; i < SIZE; i++) for (let j = 0; j < SIZE; j++) sum += rows[r * SIZE + i] * image[plane * SIZE * SIZE + i * SIZE + j] * cols[j * SIZE + c];
    return sum;
  };
  return image.map((_, i) => entry(Math.floor(i / (SIZE * SIZE)), Math.floor((i % (SIZE * SIZE)) / SIZE), i % SIZE));
}
