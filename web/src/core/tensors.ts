import type { Tensor } from "../types.ts";

/** A float32 array, which all arithmetic on the host works on. */
export interface Float extends Tensor {
  readonly data: Float32Array;
}

/** Named arrays of a recipe. */
export type Arrays = Readonly<Record<string, Tensor>>;

export function count(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function tensor(values: ArrayLike<number>, shape: readonly number[] = [values.length]): Float {
  return { data: Float32Array.from(values), shape };
}

export function zeros(shape: readonly number[]): Float {
  return { data: new Float32Array(count(shape)), shape };
}

/** The float32 numbers of an array; raises the error that `refuse` makes of a sentence for arrays of integers. */
export function floats(array: Tensor, name: string, refuse: (message: string) => Error): Float {
  if (array.data instanceof Float32Array) return array as Float;
  throw refuse(`'${name}' holds integers where float32 was expected`);
}

/** Whether no number is infinite or none at all. */
export function finite(values: ArrayLike<number>): boolean {
  for (let index = 0; index < values.length; index++) if (!Number.isFinite(values[index])) return false;
  return true;
}

/** Square root of the sum of squares, in double. */
export function norm(values: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += values[index] * values[index];
  return Math.sqrt(sum);
}

/** The vector over its norm (at least 1e-12), in float32. */
export function unit(values: Float32Array): Float32Array {
  const length = Math.max(norm(values), 1e-12);
  return values.map((value) => value / length);
}
