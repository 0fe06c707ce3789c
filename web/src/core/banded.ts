/** Smaller numbers of a matrix, whose rows add up to one, are lost in a product's rounding to float32. */
const NOTHING = 1e-9;

/**
 * A matrix [rows, columns] in float32, with the columns [from, to) of each row outside of which there is nothing. The matrices of a draw
 * (section 4.3) have some twenty numbers a row: leaving the others out makes their products ten times as fast.
 */
export interface Banded {
  readonly data: Float32Array;
  readonly rows: number;
  readonly columns: number;
  readonly from: Int32Array;
  readonly to: Int32Array;
}

/** The matrix with its bands found. */
export function banded(data: Float32Array, rows: number, columns: number): Banded {
  const from = new Int32Array(rows), to = new Int32Array(rows);
  for (let row = 0; row < rows; row++) {
    const start = row * columns;
    let low = 0, high = columns;
    while (low < columns && Math.abs(data[start + low]) < NOTHING) low++;
    while (high > low && Math.abs(data[start + high - 1]) < NOTHING) high--;
    from[row] = low;
    to[row] = high;
  }
  return { data, rows, columns, from, to };
}

/** The matrix whose entry (i, j) is `entry(i, j)`; `normalised`: each row divided by its sum, in double. */
export function made(rows: number, columns: number, entry: (row: number, column: number) => number, normalised = false): Banded {
  const data = new Float32Array(rows * columns);
  const line = new Float64Array(columns);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let column = 0; column < columns; column++) sum += line[column] = entry(row, column);
    for (let column = 0; column < columns; column++) data[row * columns + column] = normalised ? line[column] / sum : line[column];
  }
  return banded(data, rows, columns);
}

/** The product, summed in double and rounded to float32. */
export function product(a: Banded, b: Banded): Banded {
  const data = new Float32Array(a.rows * b.columns);
  const line = new Float64Array(b.columns);
  for (let row = 0; row < a.rows; row++) {
    line.fill(0);
    for (let inner = a.from[row]; inner < a.to[row]; inner++) {
      addScaled(line, a.data[row * a.columns + inner], b.data, inner * b.columns, b.from[inner], b.to[inner]);
    }
    data.set(line, row * b.columns);
  }
  return banded(data, a.rows, b.columns);
}

export function transposed(a: Banded): Banded {
  const data = new Float32Array(a.data.length);
  for (let row = 0; row < a.rows; row++) {
    for (let column = a.from[row]; column < a.to[row]; column++) data[column * a.rows + row] = a.data[row * a.columns + column];
  }
  return banded(data, a.columns, a.rows);
}

/** The columns in reverse order. */
export function mirrored(a: Banded): Banded {
  const data = new Float32Array(a.data.length);
  for (let row = 0; row < a.rows; row++) {
    for (let column = a.from[row]; column < a.to[row]; column++) data[(row + 1) * a.columns - 1 - column] = a.data[row * a.columns + column];
  }
  return banded(data, a.rows, a.columns);
}

/** `left @ plane @ right` for each plane [size, size] of an image, each product rounded to float32. */
export function between(left: Banded, image: Float32Array, right: Banded): Float32Array {
  const size = left.rows;
  const found = new Float32Array(image.length);
  const half = new Float32Array(size * size), line = new Float64Array(size);
  for (let plane = 0; plane < image.length; plane += size * size) {
    for (let row = 0; row < size; row++) {
      line.fill(0);
      for (let inner = left.from[row]; inner < left.to[row]; inner++) {
        addScaled(line, left.data[row * size + inner], image, plane + inner * size, 0, size);
      }
      half.set(line, row * size);
    }
    for (let row = 0; row < size; row++) {
      line.fill(0);
      for (let inner = 0; inner < size; inner++) addScaled(line, half[row * size + inner], right.data, inner * size, right.from[inner], right.to[inner]);
      found.set(line, plane + row * size);
    }
  }
  return found;
}

function addScaled(line: Float64Array, factor: number, values: Float32Array, start: number, from: number, to: number): void {
  for (let column = from; column < to; column++) line[column] += factor * values[start + column];
}
