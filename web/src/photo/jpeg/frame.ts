/** What a JPEG file's headers say: size, components, tables (ITU-T T.81, B.2). */
import { PhotoError } from "../../types.ts";
import { decoderTable, type DecoderTable } from "./bits.ts";
import { broken, word, ZIGZAG, type Segment } from "./markers.ts";

export interface Component {
  readonly id: number;
  /** Sampling factors. */
  readonly h: number;
  readonly v: number;
  readonly quantiser: number;
  /** Samples of its own, without padding. */
  readonly width: number;
  readonly height: number;
  /** Blocks of whole MCUs, across and down. */
  readonly cols: number;
  readonly rows: number;
  /** Of 8 x 8 samples each, [rows * 8, cols * 8]; made at the first scan. */
  plane: Uint8ClampedArray | null;
  /** 64 a block, of a progressive picture. */
  coefficients: Int16Array | null;
  /** Dequantisation table as it stood at the component's first scan, in row order. */
  table: Uint16Array | null;
}

export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly progressive: boolean;
  readonly components: readonly Component[];
  readonly hMax: number;
  readonly vMax: number;
  readonly mcuCols: number;
  readonly mcuRows: number;
}

export interface Tables {
  readonly quantisers: (Uint16Array | undefined)[];
  readonly dc: (DecoderTable | undefined)[];
  readonly ac: (DecoderTable | undefined)[];
  restart: number;
}

const OTHERS: Readonly<Record<number, string>> = { 0xc3: "lossless", 0xc5: "hierarchical", 0xc6: "hierarchical", 0xc7: "hierarchical" };

export function isFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
}

/** Width and height of the picture, of the frame header's segment. */
export function frameSize(data: Uint8Array, { start, end }: Segment): [number, number] {
  if (end - start < 6) throw broken("its frame header is cut");
  return [word(data, start + 3), word(data, start + 1)];
}

export function readFrame(data: Uint8Array, segment: Segment): Frame {
  const { marker, start, end } = segment;
  const kind = OTHERS[marker] ?? (marker > 0xc7 ? "arithmetically coded" : "");
  const [width, height] = frameSize(data, segment);
  const said = kind !== "" ? `${kind}` : data[start] !== 8 ? `of ${data[start]} bits a channel` : "";
  if (said !== "") throw new PhotoError(`the JPEG is ${said}, which is not read`, "Save it as an ordinary JPEG or a PNG first.");
  const count = data[start + 5];
  if (width < 1 || height < 1 || ![1, 3, 4].includes(count) || end - start < 6 + 3 * count) throw broken("its frame header makes no sense");
  const factors = Array.from({ length: count }, (_, i) => data.subarray(start + 6 + 3 * i, start + 9 + 3 * i));
  const sampling = factors.map(([, both]) => (count === 1 ? [1, 1] : [both >> 4, both & 15]));
  if (sampling.some(([h, v]) => h < 1 || h > 4 || v < 1 || v > 4)) throw broken("its sampling factors make no sense");
  const [hMax, vMax] = [Math.max(...sampling.map(([h]) => h)), Math.max(...sampling.map(([, v]) => v))];
  const [mcuCols, mcuRows] = [Math.ceil(width / (8 * hMax)), Math.ceil(height / (8 * vMax))];
  const components = factors.map(([id, , quantiser], i): Component => {
    const [h, v] = sampling[i];
    const own = { width: Math.ceil((width * h) / hMax), height: Math.ceil((height * v) / vMax), cols: mcuCols * h, rows: mcuRows * v };
    return { id, h, v, quantiser, ...own, plane: null, coefficients: null, table: null };
  });
  return { width, height, progressive: marker === 0xc2, components, hMax, vMax, mcuCols, mcuRows };
}

export function readQuantisers(data: Uint8Array, { start, end }: Segment, tables: Tables): void {
  for (let at = start; at < end; ) {
    const [wide, index] = [data[at] >> 4, data[at] & 15];
    at++;
    if (index > 3 || at + (wide ? 128 : 64) > end) throw broken("a quantisation table is cut");
    const table = new Uint16Array(64);
    for (let i = 0; i < 64; i++, at += wide ? 2 : 1) table[ZIGZAG[i]] = wide ? word(data, at) : data[at];
    tables.quantisers[index] = table;
  }
}

export function readHuffman(data: Uint8Array, { start, end }: Segment, tables: Tables): void {
  for (let at = start; at < end; ) {
    const [kind, index] = [data[at] >> 4, data[at] & 15];
    const counts = data.subarray(at + 1, at + 17);
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (kind > 1 || index > 3 || counts.length < 16 || total > 256 || at + 17 + total > end) throw broken("a Huffman table is cut");
    const table = decoderTable(counts, data.subarray(at + 17, at + 17 + total));
    if (table === null) throw broken("a Huffman table makes no sense");
    (kind === 0 ? tables.dc : tables.ac)[index] = table;
    at += 17 + total;
  }
}
