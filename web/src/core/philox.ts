/** Third word of the counter: what numbers are for (section 4.1). */
export const PURPOSE = { draw: 0, noise: 1, start: 2, face: 3 } as const;

const ROUNDS = 10;
const BYTES_MEAN = 510;
const BYTES_STD = Math.fround(Math.sqrt(21845));

/**
 * Philox4x32-10 (Salmon et al. 2011; section 4.1): writes the four words of the counter (c0, c1, c2, c3) under the key (k0, k1) to `out`
 * from `at` on. All words are unsigned, of 32 bits.
 */
export function philox(c0: number, c1: number, c2: number, c3: number, k0: number, k1: number, out: Uint32Array, at = 0): void {
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0), low0 = Math.imul(0xd2511f53, c0);
    const high2 = multiplyHigh(0xcd9e8d57, c2), low2 = Math.imul(0xcd9e8d57, c2);
    c0 = (high2 ^ c1 ^ k0) >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c1 = low2 >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[at] = c0;
  out[at + 1] = c1;
  out[at + 2] = c2;
  out[at + 3] = c3;
}

/** The upper 32 of the 64 bits of a product of two words, put together from halves of 16 bits: no sum here exceeds 32 bits. */
function multiplyHigh(a: number, b: number): number {
  const aHigh = a >>> 16, aLow = a & 0xffff, bHigh = b >>> 16, bLow = b & 0xffff;
  const middle = (Math.imul(aHigh, bLow) >>> 0) + (Math.imul(aLow, bLow) >>> 16);
  const carried = (middle & 0xffff) + (Math.imul(aLow, bHigh) >>> 0);
  return ((Math.imul(aHigh, bHigh) >>> 0) + (middle >>> 16) + (carried >>> 16)) >>> 0;
}

/** The random numbers of one stage of a recipe. */
export interface Stream {
  /** Numbers in [0, 1), in double. */
  uniform(count: number, step: number, purpose: number): Float64Array;
  /** Numbers of mean 0 and variance 1, at most 3.4506 from 0, in float32. */
  normal(count: number, step: number, purpose: number): Float32Array;
}

/** The stream of a stage: `seed` is below 2^64, `stage` is its index over all stages. */
export function stream(seed: bigint | number, stage: number): Stream {
  const [k0, k1] = keyOf(seed);
  const words = (count: number, step: number, purpose: number) => {
    const out = new Uint32Array(Math.ceil(count / 4) * 4);
    for (let block = 0; block * 4 < count; block++) philox(block, step, purpose, stage, k0, k1, out, block * 4);
    return out.subarray(0, count);
  };
  return {
    uniform: (count, step, purpose) => Float64Array.from(words(count, step, purpose), (word) => word / 2 ** 32),
    normal(count, step, purpose) {
      const drawn = words(count, step, purpose), found = new Float32Array(count); // a loop: `from` takes three times as long
      for (let index = 0; index < count; index++) found[index] = normal(drawn[index]);
      return found;
    },
  };
}

/** The seed of a face's search at an attempt, both from 0, from the photo's seed below 2^63 (section 8.6). */
export function faceSeed(seed: bigint | number, face: number, attempt: number): bigint {
  const [k0, k1] = keyOf(seed);
  const words = new Uint32Array(4);
  philox(face, attempt, PURPOSE.face, 0, k0, k1, words);
  return (BigInt(words[0]) | (BigInt(words[1]) << 32n)) >> 1n;
}

/** The key: low and high word of the seed. */
function keyOf(seed: bigint | number): [number, number] {
  if (typeof seed === "number" && !Number.isSafeInteger(seed)) throw new RangeError(`a seed is a whole number from 0 on, found ${seed}`);
  const whole = BigInt(seed);
  if (whole < 0n || whole >= 1n << 64n) throw new RangeError(`a seed is from 0 on and below 2^64, found ${whole}`);
  return [Number(whole & 0xffffffffn), Number(whole >> 32n)];
}

/** The sum of a word's four bytes, centred: there is no logarithm in it that one language would take otherwise than another. */
function normal(word: number): number {
  return ((word & 0xff) + ((word >>> 8) & 0xff) + ((word >>> 16) & 0xff) + (word >>> 24) - BYTES_MEAN) / BYTES_STD;
}
