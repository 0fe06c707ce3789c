/** Overlapping pieces of a photo too long, or too large, for the detector to see its small faces as a whole (SPEC 6.2). */
import type { Face } from "../types.ts";
import { rint } from "./affine.ts";

export interface Piece { readonly left: number; readonly top: number; readonly right: number; readonly bottom: number }

/** Sides of a piece; how many times as long as the photo is high it is, and from how much on a photo is a panorama. */
const [LEAST, MOST, ASPECT, WORTH] = [1600, 8192, 2, 1.5];
/** What neighbours share, of the longest side; nearer to an inner edge than this part of its box a face may be cut. */
const [SHARED, RIM] = [0.042, 0.1];

/** None for an ordinary photo. */
export function piecesOf(width: number, height: number): Piece[] {
  const [longest, shortest] = [Math.max(width, height), Math.min(width, height)];
  let length = Math.max(ASPECT * shortest, LEAST);
  if (longest <= Math.min(WORTH * length, MOST)) return [];
  length = Math.min(length, MOST);
  const shared = Math.min(Math.ceil(SHARED * longest), shortest, Math.floor(length / 2));
  const rows = spans(height, length, shared);
  return rows.flatMap(([top, bottom]) => spans(width, length, shared).map(([left, right]) => ({ left, top, right, bottom })));
}

function spans(whole: number, length: number, shared: number): [number, number][] {
  if (whole <= length) return [[0, whole]];
  const count = Math.ceil((whole - shared) / (length - shared));
  return Array.from({ length: count }, (_, i) => {
    const start = rint((i * (whole - length)) / (count - 1));
    return [start, start + length];
  });
}

/** Whether the box, in pixels of the photo, keeps away from those edges of its piece that are none of the photo's. */
export function isWhole({ box }: Face, { left, top, right, bottom }: Piece, width: number, height: number): boolean {
  const [across, down] = [RIM * (box[2] - box[0]), RIM * (box[3] - box[1])];
  return (
    (left === 0 || box[0] - across > left) && (top === 0 || box[1] - down > top) &&
    (right === width || box[2] + across < right) && (bottom === height || box[3] + down < bottom)
  );
}
