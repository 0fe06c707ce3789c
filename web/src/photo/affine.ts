/** Plane geometry: 2 x 3 affine matrices as [a, b, c, d, e, f], x' = a x + b y + c, y' = d x + e y + f. */

export type Affine = readonly [number, number, number, number, number, number];
export type Point = readonly [number, number];

export const identity: Affine = [1, 0, 0, 0, 1, 0];

/** First `second`, then `first`. */
export function compose(first: Affine, second: Affine): Affine {
  const [a, b, c, d, e, f] = first;
  const [p, q, r, s, t, u] = second;
  return [a * p + b * s, a * q + b * t, a * r + b * u + c, d * p + e * s, d * q + e * t, d * r + e * u + f];
}

export function invert(matrix: Affine): Affine {
  const [a, b, c, d, e, f] = matrix;
  const scale = 1 / (a * e - b * d);
  const [p, q, s, t] = [e * scale, -b * scale, -d * scale, a * scale];
  return [p, q, -p * c - q * f, s, t, -s * c - t * f];
}

export function carry(matrix: Affine, [x, y]: Point): [number, number] {
  return [matrix[0] * x + matrix[1] * y + matrix[2], matrix[3] * x + matrix[4] * y + matrix[5]];
}

/** Root of the area that a unit square is carried to: the scale of a similarity. */
export function scaleOf(matrix: Affine): number {
  return Math.sqrt(Math.abs(matrix[0] * matrix[4] - matrix[1] * matrix[3]));
}

/** To the nearest integer, halves to the even one (section 1). */
export function rint(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

export function clip(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
