/** Pixels in memory: interleaved RGBA rows, 8 or 16 bits, the file's own numbers (SPEC 1). */

export interface Raster {
  readonly data: Uint8ClampedArray | Uint16Array;
  readonly width: number;
  readonly height: number;
}

/** The largest level: 255, or 65535. */
export function topOf(raster: Raster): number {
  return raster.data instanceof Uint16Array ? 65535 : 255;
}

/** Reads a level by its index as 0..255: what detector and recognisers look at (SPEC 7.2). */
export function levels(raster: Raster): (index: number) => number {
  const { data } = raster;
  if (data instanceof Uint16Array) return (index) => Math.floor((data[index] + 128) / 257);
  return (index) => data[index];
}

/** The same pixels with 8 bits; the raster itself where it has no more. */
export function eightBits(raster: Raster): Raster & { readonly data: Uint8ClampedArray } {
  if (!(raster.data instanceof Uint16Array)) return raster as Raster & { readonly data: Uint8ClampedArray };
  const data = new Uint8ClampedArray(raster.data.length);
  for (let i = 0; i < data.length; i++) data[i] = Math.floor((raster.data[i] + 128) / 257);
  return { data, width: raster.width, height: raster.height };
}

/** A raster of the same depth. */
export function blank(like: Raster, width: number, height: number): Raster {
  const size = width * height * 4;
  return { data: like.data instanceof Uint16Array ? new Uint16Array(size) : new Uint8ClampedArray(size), width, height };
}

/** A rectangle of it, copied. Edges are whole pixels inside of the raster; right and bottom are not included. */
export function cut(raster: Raster, left: number, top: number, right: number, bottom: number): Raster {
  const piece = blank(raster, right - left, bottom - top);
  for (let y = top; y < bottom; y++) {
    const start = (y * raster.width + left) * 4;
    piece.data.set(raster.data.subarray(start, start + piece.width * 4), (y - top) * piece.width * 4);
  }
  return piece;
}
