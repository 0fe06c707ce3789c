/**
 * The discrete cosine transform of 8 x 8 blocks in whole numbers, forward and back: the accurate algorithm of Loeffler, Ligtenberg and
 * Moschytz ("Practical Fast 1-D DCT Algorithms with 11 Multiplications", ICASSP 1989) with 13 bits, which is what common JPEG libraries
 * use. So the same file gives the same pixels here and there.
 */
const [BITS, PASS] = [13, 2];
const [C0298, C0390, C0541, C0765, C0899, C1175] = [2446, 3196, 4433, 6270, 7373, 9633];
const [C1501, C1847, C1961, C2053, C2562, C3072] = [12299, 15137, 16069, 16819, 20995, 25172];
const work = new Int32Array(64);
const line = new Int32Array(8);

/** Coefficients of a block, times their quantisers, to samples 0 to 255 at `place` of a plane whose rows are `across` apart. */
export function inverse(
  block: Int16Array, at: number, table: Uint16Array, plane: Uint8ClampedArray, place: number, across: number,
): void {
  for (let x = 0; x < 8; x++) {
    for (let y = 0; y < 8; y++) line[y] = block[at + 8 * y + x] * table[8 * y + x];
    inverseLine(BITS - PASS);
    for (let y = 0; y < 8; y++) work[8 * y + x] = line[y];
  }
  for (let y = 0; y < 8; y++) {
    for (let x = 0; x < 8; x++) line[x] = work[8 * y + x];
    inverseLine(BITS + PASS + 3);
    for (let x = 0; x < 8; x++) plane[place + y * across + x] = line[x] + 128;
  }
}

function inverseLine(shift: number): void {
  const half = 1 << (shift - 1);
  const even = (line[2] + line[6]) * C0541;
  const a2 = even - line[6] * C1847, a3 = even + line[2] * C0765;
  const a0 = (line[0] + line[4]) << BITS, a1 = (line[0] - line[4]) << BITS;
  const e0 = a0 + a3 + half, e3 = a0 - a3 + half, e1 = a1 + a2 + half, e2 = a1 - a2 + half;
  const i7 = line[7], i5 = line[5], i3 = line[3], i1 = line[1];
  const z5 = (i7 + i3 + i5 + i1) * C1175;
  const z1 = -(i7 + i1) * C0899, z2 = -(i5 + i3) * C2562;
  const z3 = z5 - (i7 + i3) * C1961, z4 = z5 - (i5 + i1) * C0390;
  const o0 = i7 * C0298 + z1 + z3, o1 = i5 * C2053 + z2 + z4;
  const o2 = i3 * C3072 + z2 + z3, o3 = i1 * C1501 + z1 + z4;
  line[0] = (e0 + o3) >> shift;
  line[7] = (e0 - o3) >> shift;
  line[1] = (e1 + o2) >> shift;
  line[6] = (e1 - o2) >> shift;
  line[2] = (e2 + o1) >> shift;
  line[5] = (e2 - o1) >> shift;
  line[3] = (e3 + o0) >> shift;
  line[4] = (e3 - o0) >> shift;
}

/** Samples of a block less 128, in place, to coefficients times 8. */
export function forward(block: Int32Array): void {
  for (let y = 0; y < 8; y++) {
    for (let x = 0; x < 8; x++) line[x] = block[8 * y + x];
    forwardLine(BITS - PASS, 0);
    for (let x = 0; x < 8; x++) block[8 * y + x] = line[x];
  }
  for (let x = 0; x < 8; x++) {
    for (let y = 0; y < 8; y++) line[y] = block[8 * y + x];
    forwardLine(BITS + PASS, PASS);
    for (let y = 0; y < 8; y++) block[8 * y + x] = line[y];
  }
}

/** `down`: by how much the second pass shifts what the first has shifted up; 0 in the first. */
function forwardLine(shift: number, down: number): void {
  const half = 1 << (shift - 1);
  const s0 = line[0] + line[7], s1 = line[1] + line[6], s2 = line[2] + line[5], s3 = line[3] + line[4];
  const d0 = line[0] - line[7], d1 = line[1] - line[6], d2 = line[2] - line[5], d3 = line[3] - line[4];
  const t10 = s0 + s3, t13 = s0 - s3, t11 = s1 + s2, t12 = s1 - s2;
  line[0] = down === 0 ? (t10 + t11) << PASS : (t10 + t11 + (1 << (down - 1))) >> down;
  line[4] = down === 0 ? (t10 - t11) << PASS : (t10 - t11 + (1 << (down - 1))) >> down;
  const even = (t12 + t13) * C0541 + half;
  line[2] = (even + t13 * C0765) >> shift;
  line[6] = (even - t12 * C1847) >> shift;
  const z5 = (d3 + d1 + d2 + d0) * C1175;
  const z1 = -(d3 + d0) * C0899, z2 = -(d2 + d1) * C2562;
  const z3 = z5 - (d3 + d1) * C1961 + half, z4 = z5 - (d2 + d0) * C0390 + half;
  line[7] = (d3 * C0298 + z1 + z3) >> shift;
  line[5] = (d2 * C2053 + z2 + z4) >> shift;
  line[3] = (d1 * C3072 + z2 + z3) >> shift;
  line[1] = (d0 * C1501 + z1 + z4) >> shift;
}
