/** The segments of a JPEG file (ITU-T T.81, B.1). */
import { PhotoError } from "../../types.ts";

export const AGAIN = "Copy it again from where it came.";

export interface Segment {
  /** Second byte of the marker: 0xE1 for APP1. */
  readonly marker: number;
  /** Of its content, without marker and length. */
  readonly start: number;
  readonly end: number;
}

export function broken(what: string): PhotoError {
  return new PhotoError(`the JPEG is truncated or damaged: ${what}`, AGAIN);
}

/** The next segment from `at` on; bytes that are no marker are passed over. Markers without content have none. */
export function nextSegment(data: Uint8Array, at: number): Segment {
  let place = at;
  while (place + 1 < data.length && !(data[place] === 0xff && data[place + 1] !== 0 && data[place + 1] !== 0xff)) place++;
  if (place + 1 >= data.length) throw broken("the end marker is missing");
  const marker = data[place + 1];
  if (marker === 0xd8 || marker === 0xd9 || marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) {
    return { marker, start: place + 2, end: place + 2 };
  }
  if (place + 4 > data.length) throw broken("a segment is cut");
  const end = place + 2 + word(data, place + 2);
  if (end > data.length || end < place + 4) throw broken("a segment is cut");
  return { marker, start: place + 4, end };
}

export function word(data: Uint8Array, at: number): number {
  return (data[at] << 8) | data[at + 1];
}

/** Segments before the first scan's data. */
export function* headSegments(data: Uint8Array): Generator<Segment> {
  for (let at = 2; ; ) {
    const segment = nextSegment(data, at);
    yield segment;
    if (segment.marker === 0xda || segment.marker === 0xd9) return;
    at = segment.end;
  }
}

/** Zigzag place -> place in a block in row order. */
export const ZIGZAG = Uint8Array.from([
  0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
  35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
]);
