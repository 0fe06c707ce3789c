import assert from "node:assert/strict";
import { test } from "node:test";
import { banded, between, product } from "../src/core/banded.ts";
import { blurMatrix, drawOf, identityDraw, moveMatrix, resizeMatrix, type DrawSettings } from "../src/core/draws.ts";
import { faceSeed, philox, PURPOSE, stream } from "../src/core/philox.ts";

const ALL = 0xffffffff;
/** Counter, key and result, as published with Random123 for philox4x32-10. */
const PUBLISHED: [number[], number[], string][] = [
  [[0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
  [[ALL, ALL, ALL, ALL], [ALL, ALL], "408f276d 41c83b0e a20bc7c6 6d5451fd"],
  [[0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0], "d16cfe09 94fdcceb 5001e420 24126ea1"],
];
const hex = (words: Iterable<number>) => Array.from(words, (word) => word.toString(16).padStart(8, "0")).join(" ");

for (const [[a, b, c, d], [k0, k1], result] of PUBLISHED) {
  test(`Philox gives ${result}`, () => {
    const out = new Uint32Array(4);
    philox(a, b, c, d, k0, k1, out);
    assert.equal(hex(out), result);
  });
}

test("the words of a stage are those of SPEC.md, section 4.1", () => {
  const words = stream(0, 2).uniform(8, 0, PURPOSE.draw).map((value) => value * 2 ** 32);
  assert.equal(hex(words), "dd2fc514 adf5a0db e6f70b22 d3b4ca74 ba98ca8c 646648d3 b9a33afd e50531bf");
});

test("the seeds of faces are those of SPEC.md, section 8.6", () => {
  assert.equal(faceSeed(0, 0, 0), 624957308825535838n);
  assert.equal(faceSeed(0, 1, 2), 7235981097021314762n);
});

test("seeds from 2^32 on differ from those below, and impossible ones are refused", () => {
  assert.notDeepEqual(stream(1n, 0).uniform(4, 0, 0), stream(1n + 2n ** 32n, 0).uniform(4, 0, 0));
  for (const seed of [-1, 0.5, 2n ** 64n]) assert.throws(() => stream(seed, 0), RangeError);
});

test("normal numbers have mean 0, variance 1 and stay within 3.4506", () => {
  const numbers = stream(3, 0).normal(60_000, 7, PURPOSE.start);
  const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const variance = numbers.reduce((sum, value) => sum + value * value, 0) / numbers.length;
  assert.ok(Math.abs(mean) < 0.02 && Math.abs(variance - 1) < 0.03, `${mean} ${variance}`);
  assert.ok(numbers.every((value) => Math.abs(value) <= 3.4506));
});

test("the matrices' rows add up to one, and do nothing where nothing is asked for", () => {
  for (const matrix of [resizeMatrix(7, 16), resizeMatrix(16, 7), moveMatrix(16, 2.3, 1.2), blurMatrix(16, 1.2)]) {
    for (let row = 0; row < matrix.rows; row++) {
      const sum = matrix.data.subarray(row * matrix.columns, (row + 1) * matrix.columns).reduce((total, value) => total + value, 0);
      assert.ok(Math.abs(sum - 1) < 1e-6);
    }
  }
  const eye = blurMatrix(16, 0).data;
  for (const matrix of [resizeMatrix(16, 16), moveMatrix(16, 0, 1)]) assert.deepEqual(matrix.data, eye);
});

test("a move of two pixels puts pixel 0 at place 2, with the edge repeated", () => {
  const line = product(moveMatrix(5, 2, 1), banded(Float32Array.of(10, 20, 30, 40, 50), 5, 1));
  assert.deepEqual([...line.data], [10, 10, 10, 20, 30]);
});

const SETTINGS: DrawSettings = { probability: 1, resize: [0.4, 1], zoom: [0.85, 1.25], shift: 4, blur: [0, 1.2], noise_std: 0.03, flip: 0.5 };

/** rows @ image @ cols in plain loops over all numbers, in double. */
function dense(rows: Float32Array, image: Float32Array, cols: Float32Array, size: number): Float64Array {
  const at = (matrix: ArrayLike<number>, i: number, j: number) => matrix[i * size + j];
  const times = (a: ArrayLike<number>, b: ArrayLike<number>) => Float64Array.from({ length: size * size }, (_, index) => {
    let sum = 0;
    for (let k = 0; k < size; k++) sum += at(a, Math.floor(index / size), k) * at(b, k, index % size);
    return sum;
  });
  return times(times(rows, image), cols);
}

test("what a draw shows is rows @ image @ cols + noise, and its adjoint pulls gradients back", () => {
  const size = 24;
  for (let step = 0; step < 4; step++) {
    const draw = drawOf(SETTINGS, size, 1, stream(9, 1), step);
    const image = stream(9, 5).normal(size * size, step, PURPOSE.start), gradient = stream(9, 6).normal(size * size, step, PURPOSE.start);
    const seen = draw.apply({ data: image, shape: [1, 1, size, size] }).data;
    const expected = dense(draw.rows.data, image, draw.cols.data, size);
    assert.ok(seen.every((value, index) => Math.abs(value - expected[index] - draw.noise.data[index]) < 1e-5));
    const pulled = draw.pullBack({ data: gradient, shape: [1, 1, size, size] }).data;
    const there = seen.reduce((sum, value, index) => sum + (value - draw.noise.data[index]) * gradient[index], 0);
    const back = image.reduce((sum, value, index) => sum + value * pulled[index], 0);
    assert.ok(Math.abs(there - back) < 1e-3 * Math.max(1, Math.abs(there)), `${there} ${back}`);
  }
});

test("a probability of 0 draws the identity, of 1 never", () => {
  const clean = drawOf({ ...SETTINGS, probability: 0 }, 8, 3, stream(0, 0), 0);
  assert.ok(clean.clean);
  assert.deepEqual(clean.rows.data, identityDraw(8, 3).rows.data);
  assert.ok([0, 1, 2, 3].every((step) => !drawOf(SETTINGS, 8, 3, stream(0, 0), step).clean));
});

test("planes of an image are seen alike", () => {
  const plane = stream(1, 1).normal(64, 0, 0), left = moveMatrix(8, 1.5, 1.1), right = blurMatrix(8, 0.8);
  const three = between(left, Float32Array.of(...plane, ...plane, ...plane), right), one = between(left, plane, right);
  assert.deepEqual([...three], [...one, ...one, ...one]);
});
