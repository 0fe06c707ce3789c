import { BundleError, type Tensor } from "../types.ts";
import { inputOf, type Engine } from "./engine.ts";
import type { GoldenInput, GoldenOutput } from "./manifest.ts";
import { readNpy } from "./npy.ts";
import { count, finite, norm } from "./tensors.ts";

const TOLERANCE = 1e-3;
const PROBES = 8;

type Read = (path: string) => Promise<Uint8Array>;

/**
 * The error of each golden output (section 2.3), by name; empty for an engine without. `read` gives files of the engine's folder.
 * Raises `BundleError` where an error exceeds the tolerance.
 */
export async function checkGolden(engine: Engine, read: Read): Promise<Record<string, number>> {
  const { inputs = {}, outputs = {}, tolerance = TOLERANCE } = engine.manifest.golden;
  if (!Object.keys(outputs).length) return {};
  const feeds: Record<string, Tensor> = {};
  for (const [name, recipe] of Object.entries(inputs)) {
    feeds[name] = await goldenInput(recipe, inputOf(engine.manifest, name).dtype, `${engine.name}, ${name}`, read);
  }
  const found = await engine.run(feeds);
  const errors: Record<string, number> = {};
  for (const [name, expected] of Object.entries(outputs)) errors[name] = await goldenError(found[name], expected, `${engine.name}, ${name}`, read);
  const wrong = Object.entries(errors).find(([, error]) => !(error <= tolerance));
  if (wrong) {
    const said = `the output '${wrong[0]}' is off its golden value by ${wrong[1].toExponential(1)}, allowed are ${tolerance}`;
    throw new BundleError(`engine '${engine.name}' on ${engine.device}: ${said}`, engine.device === "webgpu" ? "Take the device 'wasm'" : "Pack the method again, or report it");
  }
  return errors;
}

/** The array that a golden input describes, of the tensor's type. */
export async function goldenInput(recipe: GoldenInput, dtype: string, where: string, read: Read): Promise<Tensor> {
  const values = recipe.file === undefined ? formula(recipe, where) : readNpy(await read(recipe.file), `${where}, ${recipe.file}`);
  const from: ArrayLike<number> = values.data;
  if (dtype === "float32") return { data: Float32Array.from(from), shape: values.shape };
  if (dtype === "int32") return { data: Int32Array.from(from), shape: values.shape };
  if (dtype === "int64") return { data: BigInt64Array.from(Array.from(from, (value) => BigInt(Math.trunc(value)))), shape: values.shape };
  throw new BundleError(`${where}: inputs of the type ${dtype} are not fed; float32, int32 and int64 are`);
}

function formula({ shape, wave, eye }: GoldenInput, where: string): { data: Float64Array; shape: readonly number[] } {
  if (!shape || (!wave && eye === undefined)) throw new BundleError(`${where}: a golden input is a file, or a shape with 'wave' or 'eye'`);
  const data = new Float64Array(count(shape));
  const [rows, columns] = shape.slice(-2);
  for (let i = 0; i < data.length; i++) {
    const inside = i % (rows * columns);
    const onDiagonal = Math.floor(inside / columns) === inside % columns;
    data[i] = wave ? wave.low + ((wave.high - wave.low) * (1 + Math.sin(wave.step * i))) / 2 : onDiagonal ? eye! : 0;
  }
  return { data, shape };
}

async function goldenError(found: Tensor | undefined, expected: GoldenOutput, where: string, read: Read): Promise<number> {
  if (!found) throw new BundleError(`${where} is no output of the engine`, "Pack the method again");
  const values = found.data instanceof BigInt64Array ? Float64Array.from(found.data, Number) : found.data;
  const wanted = expected.file === undefined ? undefined : readNpy(await read(expected.file), `${where}, ${expected.file}`);
  const shape = wanted?.shape ?? expected.shape;
  if (!shape || shape.join() !== found.shape.join() || !finite(values)) return Infinity;
  if (wanted) return relative(values, wanted.data);
  const stride = Math.max(1, Math.floor(values.length / PROBES));
  const probes = Array.from({ length: Math.min(PROBES, values.length) }, (_, index) => values[index * stride]);
  return Math.max(relative(probes, expected.probes ?? []), relative([norm(values)], [expected.norm ?? NaN]));
}

/** Largest difference over the largest expected magnitude; undivided where that is 0, infinite where the counts differ. */
export function relative(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Infinity;
  let apart = 0, scale = 0;
  for (let index = 0; index < found.length; index++) {
    const difference = Math.abs(found[index] - expected[index]);
    if (!Number.isFinite(difference)) return Infinity;
    apart = Math.max(apart, difference);
    scale = Math.max(scale, Math.abs(expected[index]));
  }
  return scale > 0 ? apart / scale : apart;
}
