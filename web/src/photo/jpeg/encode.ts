/** A baseline JPEG, 4:4:4 or grey, with the tables of Annex K and the shortest Huffman codes for its picture (SPEC 9). */
import type { Raster } from "../raster.ts";
import { blueOf, lumaOf, redOf } from "./colour.ts";
import { encoderTable, type EncoderTable } from "./huffman.ts";
import { forward } from "./idct.ts";
import { ZIGZAG } from "./markers.ts";

/** ITU-T T.81, tables K.1 and K.2, in row order. */
const LUMA = [
  16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
  18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];
const CHROMA = [
  17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
  ...new Array<number>(32).fill(99),
];

/** Quantisers of a quality 1 to 100, as every JPEG program scales them. */
export function quantiser(table: readonly number[], quality: number): Int32Array {
  const scale = quality < 50 ? Math.floor(5000 / quality) : 200 - 2 * quality;
  return Int32Array.from(table, (value) => Math.min(Math.max(Math.floor((value * scale + 50) / 100), 1), 255));
}

/** `segments`: whole segments, markers included, that go behind the first. `grey`: one channel, the raster's red. */
export function encodeJpeg(raster: Raster, quality: number, grey: boolean, segments: readonly Uint8Array[]): Uint8Array {
  const quantisers = [LUMA, CHROMA].map((table) => quantiser(table, quality));
  const channels = grey ? 1 : 3;
  // The picture is transformed twice, to count and to write: that takes less memory than to keep its coefficients.
  const counts = Array.from({ length: 4 }, () => new Uint32Array(256));
  overBlocks(raster, channels, quantisers, (block, channel, last) => {
    const kind = channel === 0 ? 0 : 1;
    symbols(block, last, (symbol, ac) => counts[2 * kind + (ac ? 1 : 0)][symbol]++);
  });
  const tables = counts.map(encoderTable);
  const writer = new BitWriter(Math.ceil((raster.width * raster.height) / 2) + 65536);
  head(writer, raster, quantisers, channels, tables, segments);
  overBlocks(raster, channels, quantisers, (block, channel, last) => {
    const kind = channel === 0 ? 0 : 1;
    symbols(block, last, (symbol, ac, value, size) => {
      const table = tables[2 * kind + (ac ? 1 : 0)];
      writer.bits(table.code[symbol], table.length[symbol]);
      if (size > 0) writer.bits(value & ((1 << size) - 1), size);
    });
  });
  writer.end();
  writer.bytes([0xff, 0xd9]);
  return writer.result();
}

type Visit = (block: Int32Array, channel: number, lastDc: number) => void;

/** Visits the quantised blocks in zigzag order. Beyond the picture its border is repeated. */
function overBlocks(raster: Raster, channels: number, quantisers: readonly Int32Array[], visit: Visit): void {
  const { data, width, height } = raster;
  const [samples, block] = [new Int32Array(64), new Int32Array(64)];
  const last = [0, 0, 0];
  const channel = channels === 1 ? [(r: number) => r] : [lumaOf, blueOf, redOf];
  for (let top = 0; top < height; top += 8) {
    for (let left = 0; left < width; left += 8) {
      for (let c = 0; c < channels; c++) {
        for (let y = 0; y < 8; y++) {
          const row = Math.min(top + y, height - 1) * width;
          for (let x = 0; x < 8; x++) {
            const at = 4 * (row + Math.min(left + x, width - 1));
            samples[8 * y + x] = channel[c](data[at], data[at + 1], data[at + 2]) - 128;
          }
        }
        forward(samples);
        quantised(samples, quantisers[c === 0 ? 0 : 1], block);
        visit(block, c, last[c]);
        last[c] = block[0];
      }
    }
  }
}

/** Divided and rounded, halves away from zero. */
function quantised(samples: Int32Array, divisors: Int32Array, block: Int32Array): void {
  for (let k = 0; k < 64; k++) {
    const place = ZIGZAG[k];
    const divisor = divisors[place] * 8;
    const value = samples[place];
    const size = ((Math.abs(value) + (divisor >> 1)) / divisor) | 0;
    block[k] = value < 0 ? -size : size;
  }
}

type Emit = (symbol: number, ac: boolean, value: number, size: number) => void;

/** The symbols of a block, with the bits that follow each (T.81, F.1.2). */
function symbols(block: Int32Array, lastDc: number, emit: Emit): void {
  const step = block[0] - lastDc;
  const bits = sizeOf(step);
  emit(bits, false, step < 0 ? step - 1 : step, bits);
  let zeros = 0;
  for (let k = 1; k < 64; k++) {
    const value = block[k];
    if (value === 0) {
      zeros++;
      continue;
    }
    for (; zeros > 15; zeros -= 16) emit(0xf0, true, 0, 0);
    const size = sizeOf(value);
    emit((zeros << 4) | size, true, value < 0 ? value - 1 : value, size);
    zeros = 0;
  }
  if (zeros > 0) emit(0, true, 0, 0);
}

function sizeOf(value: number): number {
  return 32 - Math.clz32(Math.abs(value));
}

function head(
  writer: BitWriter, { width, height }: Raster, quantisers: readonly Int32Array[], channels: number, tables: readonly EncoderTable[],
  segments: readonly Uint8Array[],
): void {
  const kinds = channels === 1 ? [0] : [0, 1];
  writer.bytes([0xff, 0xd8]);
  for (const segment of segments) writer.bytes(segment);
  for (const kind of kinds) writer.segment(0xdb, [kind, ...Array.from(ZIGZAG, (place) => quantisers[kind][place])]);
  const parts = Array.from({ length: channels }, (_, c) => [c + 1, 0x11, c === 0 ? 0 : 1]).flat();
  writer.segment(0xc0, [8, height >> 8, height & 255, width >> 8, width & 255, channels, ...parts]);
  for (const kind of kinds) {
    for (const ac of [0, 1]) {
      const { counts, symbols: values } = tables[2 * kind + ac];
      writer.segment(0xc4, [(ac << 4) | kind, ...counts, ...values]);
    }
  }
  writer.segment(0xda, [channels, ...Array.from({ length: channels }, (_, c) => [c + 1, c === 0 ? 0 : 0x11]).flat(), 0, 63, 0]);
}

/** Bytes that grow, and bits among them with a 0 behind every 0xFF (T.81, F.1.2.3). */
class BitWriter {
  private data: Uint8Array;
  private size = 0;
  private buffer = 0;
  private held = 0;

  constructor(expected: number) {
    this.data = new Uint8Array(expected);
  }

  bytes(bytes: ArrayLike<number>): void {
    while (this.size + bytes.length > this.data.length) this.grow();
    this.data.set(bytes, this.size);
    this.size += bytes.length;
  }

  segment(marker: number, content: readonly number[]): void {
    this.bytes([0xff, marker, (content.length + 2) >> 8, (content.length + 2) & 255, ...content]);
  }

  bits(value: number, count: number): void {
    this.buffer = (this.buffer << count) | value;
    this.held += count;
    while (this.held >= 8) {
      this.held -= 8;
      this.put((this.buffer >>> this.held) & 255);
    }
    this.buffer &= (1 << this.held) - 1;
  }

  /** Fills the last byte with ones. */
  end(): void {
    if (this.held > 0) this.bits((1 << (8 - this.held)) - 1, 8 - this.held);
  }

  result(): Uint8Array {
    return this.data.slice(0, this.size);
  }

  private put(byte: number): void {
    if (this.size + 2 > this.data.length) this.grow();
    this.data[this.size++] = byte;
    if (byte === 0xff) this.data[this.size++] = 0;
  }

  private grow(): void {
    const larger = new Uint8Array(this.data.length * 2);
    larger.set(this.data.subarray(0, this.size));
    this.data = larger;
  }
}
