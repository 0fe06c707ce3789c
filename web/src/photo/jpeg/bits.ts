/** Bits and Huffman codes of a scan (ITU-T T.81, F.2.2). */
import { broken } from "./markers.ts";

const FAST = 9;

export interface DecoderTable {
  /** For the next 9 bits: length of the code in the upper byte, value in the lower; 0 for longer codes. */
  readonly fast: Uint16Array;
  /** Of each length: the largest code (-1 for none), and what to add to a code for its place among the values. */
  readonly largest: Int32Array;
  readonly offset: Int32Array;
  readonly values: Uint8Array;
}

/** Null for counts that are no prefix code. */
export function decoderTable(counts: Uint8Array, values: Uint8Array): DecoderTable | null {
  const fast = new Uint16Array(1 << FAST);
  const [largest, offset] = [new Int32Array(17).fill(-1), new Int32Array(17)];
  let [code, place] = [0, 0];
  for (let length = 1; length <= 16; length++, code <<= 1) {
    offset[length] = place - code;
    for (let i = 0; i < counts[length - 1]; i++, code++, place++) {
      if (code >= 1 << length) return null;
      if (length > FAST) continue;
      const first = code << (FAST - length);
      fast.fill((length << 8) | values[place], first, first + (1 << (FAST - length)));
    }
    if (counts[length - 1] > 0) largest[length] = code - 1;
  }
  return { fast, largest, offset, values: Uint8Array.from(values) };
}

/** Reads the entropy-coded bytes of one restart interval after the other. */
export class BitReader {
  private buffer = 0;
  private held = 0;
  /** Bits beyond the data, of which none may be used. */
  private padding = 0;

  constructor(private readonly data: Uint8Array, public at: number) {}

  private fill(): void {
    const { data } = this;
    while (this.held <= 16) {
      let byte = data[this.at];
      if (this.at >= data.length || (byte === 0xff && data[this.at + 1] !== 0)) {
        byte = 0;
        this.padding += 8;
        if (this.padding > 64) throw broken("the picture ends too early");
      } else {
        this.at += byte === 0xff ? 2 : 1;
      }
      this.buffer = ((this.buffer << 8) | byte) & 0xffffff;
      this.held += 8;
    }
  }

  /** The next `count` bits, 0 to 16, as a number. */
  bits(count: number): number {
    if (count === 0) return 0;
    if (this.held < count) this.fill();
    this.held -= count;
    return (this.buffer >>> this.held) & ((1 << count) - 1);
  }

  /** A signed number of `count` bits, coded as in T.81, F.2.2.1. */
  signed(count: number): number {
    if (count === 0) return 0;
    const value = this.bits(count);
    return value < 1 << (count - 1) ? value - (1 << count) + 1 : value;
  }

  code(table: DecoderTable): number {
    if (this.held < 16) this.fill();
    const found = table.fast[(this.buffer >>> (this.held - FAST)) & ((1 << FAST) - 1)];
    if (found !== 0) {
      this.held -= found >> 8;
      return found & 255;
    }
    for (let length = FAST + 1; length <= 16; length++) {
      const code = (this.buffer >>> (this.held - length)) & ((1 << length) - 1);
      if (code <= table.largest[length]) {
        this.held -= length;
        return table.values[table.offset[length] + code];
      }
    }
    throw broken("a code makes no sense");
  }

  /** Ends an interval: the rest of the byte is padding, and no bit from beyond the data may have been read. */
  finish(): void {
    if (this.padding > this.held) throw broken("the picture ends too early");
    this.buffer = this.held = this.padding = 0;
  }

  /** Passes the restart marker that has to come now. */
  restart(): void {
    this.finish();
    while (this.data[this.at] === 0xff && this.data[this.at + 1] === 0xff) this.at++;
    const marker = this.data[this.at + 1];
    if (this.data[this.at] !== 0xff || !(marker >= 0xd0 && marker <= 0xd7)) throw broken("a restart marker is missing");
    this.at += 2;
  }
}
