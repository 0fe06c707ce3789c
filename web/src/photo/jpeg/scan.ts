/** One scan of a JPEG file: blocks to samples, or bits of coefficients of a progressive one (ITU-T T.81, F.2 and G.2). */
import { BitReader, type DecoderTable } from "./bits.ts";
import type { Component, Frame, Tables } from "./frame.ts";
import { inverse } from "./idct.ts";
import { broken, ZIGZAG, type Segment } from "./markers.ts";

interface Part { readonly component: Component; readonly dc?: DecoderTable; readonly ac?: DecoderTable; last: number }
interface Band { readonly from: number; readonly to: number; readonly high: number; readonly low: number }
type Block = (part: Part, index: number) => void;

/** Decodes it, and says where its data end. */
export function readScan(data: Uint8Array, segment: Segment, frame: Frame, tables: Tables): number {
  const { start, end } = segment;
  const count = data[start];
  if (count < 1 || count > 4 || end - start < 4 + 2 * count) throw broken("a scan header is cut");
  const parts = Array.from({ length: count }, (_, i): Part => {
    const component = frame.components.find(({ id }) => id === data[start + 1 + 2 * i]);
    if (component === undefined) throw broken("a scan names a component that is not there");
    prepare(component, frame, tables);
    const both = data[start + 2 + 2 * i];
    return { component, dc: tables.dc[both >> 4], ac: tables.ac[both & 15], last: 0 };
  });
  const at = start + 1 + 2 * count;
  const band = { from: data[at], to: data[at + 1], high: data[at + 2] >> 4, low: data[at + 2] & 15 };
  if (frame.progressive && (band.from > band.to || band.to > 63 || band.low > 13 || (band.from > 0 && count > 1))) {
    throw broken("a scan header makes no sense");
  }
  const reader = new BitReader(data, end);
  const [block, reset] = frame.progressive ? progressive(reader, band) : [sequential(reader), () => undefined];
  overUnits(frame, parts, tables.restart, block, () => {
    reader.restart();
    parts.forEach((part) => (part.last = 0));
    reset();
  });
  reader.finish();
  return reader.at;
}

function prepare(component: Component, frame: Frame, tables: Tables): void {
  const table = tables.quantisers[component.quantiser];
  component.table ??= table === undefined ? null : Uint16Array.from(table);
  if (component.table === null) throw broken("a quantisation table is missing");
  const size = component.cols * component.rows * 64;
  if (frame.progressive) component.coefficients ??= new Int16Array(size);
  else component.plane ??= new Uint8ClampedArray(size);
}

/** Visits the blocks in the order of the scan: those of one component by its own rows, those of several by MCUs. */
function overUnits(frame: Frame, parts: readonly Part[], restart: number, block: Block, restarted: () => void): void {
  let done = 0;
  const next = () => {
    if (restart > 0 && done > 0 && done % restart === 0) restarted();
    done++;
  };
  if (parts.length === 1) {
    const { component } = parts[0];
    const [cols, rows] = [Math.ceil(component.width / 8), Math.ceil(component.height / 8)];
    for (let row = 0; row < rows; row++) {
      for (let col = 0; col < cols; col++) {
        next();
        block(parts[0], row * component.cols + col);
      }
    }
    return;
  }
  for (let row = 0; row < frame.mcuRows; row++) {
    for (let col = 0; col < frame.mcuCols; col++) {
      next();
      for (const part of parts) {
        const { h, v, cols } = part.component;
        for (let y = 0; y < v; y++) for (let x = 0; x < h; x++) block(part, (row * v + y) * cols + col * h + x);
      }
    }
  }
}

function need(table: DecoderTable | undefined): DecoderTable {
  if (table === undefined) throw broken("a Huffman table is missing");
  return table;
}

/** All coefficients of a block at once, straight to samples. */
function sequential(reader: BitReader): Block {
  const block = new Int16Array(64);
  return (part, index) => {
    const [dc, ac] = [need(part.dc), need(part.ac)];
    block.fill(0);
    part.last += reader.signed(reader.code(dc) & 15);
    block[0] = part.last;
    for (let k = 1; k < 64; k++) {
      const code = reader.code(ac);
      const size = code & 15;
      if (size === 0) {
        if (code !== 0xf0) break;
        k += 15;
        continue;
      }
      k += code >> 4;
      if (k > 63) throw broken("a block is too long");
      block[ZIGZAG[k]] = reader.signed(size);
    }
    const { component } = part;
    const across = component.cols * 8;
    const place = Math.floor(index / component.cols) * 8 * across + (index % component.cols) * 8;
    inverse(block, 0, component.table!, component.plane!, place, across);
  };
}

function progressive(reader: BitReader, band: Band): [Block, () => void] {
  const run = { left: 0 };
  const reset = () => {
    run.left = 0;
  };
  if (band.from === 0) return [band.high === 0 ? firstDc(reader, band) : nextDc(reader, band), reset];
  return [band.high === 0 ? firstAc(reader, band, run) : nextAc(reader, band, run), reset];
}

function firstDc(reader: BitReader, { low }: Band): Block {
  return (part, index) => {
    part.last += reader.signed(reader.code(need(part.dc)) & 15);
    part.component.coefficients![64 * index] = part.last << low;
  };
}

function nextDc(reader: BitReader, { low }: Band): Block {
  return (part, index) => {
    if (reader.bits(1)) part.component.coefficients![64 * index] |= 1 << low;
  };
}

function firstAc(reader: BitReader, { from, to, low }: Band, run: { left: number }): Block {
  return (part, index) => {
    if (run.left > 0) {
      run.left--;
      return;
    }
    const ac = need(part.ac);
    const coefficients = part.component.coefficients!;
    for (let k = from; k <= to; k++) {
      const code = reader.code(ac);
      const [zeros, size] = [code >> 4, code & 15];
      if (size === 0 && zeros < 15) {
        run.left = (1 << zeros) + reader.bits(zeros) - 1;
        return;
      }
      k += zeros;
      if (size === 0) continue;
      if (k > 63) throw broken("a block is too long");
      coefficients[64 * index + ZIGZAG[k]] = reader.signed(size) * (1 << low);
    }
  };
}

function nextAc(reader: BitReader, { from, to, low }: Band, run: { left: number }): Block {
  const bit = 1 << low;
  const refine = (coefficients: Int16Array, place: number) => {
    if (reader.bits(1) && (coefficients[place] & bit) === 0) coefficients[place] += coefficients[place] > 0 ? bit : -bit;
  };
  return (part, index) => {
    const coefficients = part.component.coefficients!;
    let k = from;
    while (run.left === 0 && k <= to) {
      const code = reader.code(need(part.ac));
      let [zeros, value] = [code >> 4, 0];
      if ((code & 15) !== 0) value = reader.bits(1) ? bit : -bit;
      else if (zeros < 15) {
        run.left = (1 << zeros) + reader.bits(zeros);
        break;
      }
      for (; k <= to; k++) {
        const place = 64 * index + ZIGZAG[k];
        if (coefficients[place] !== 0) refine(coefficients, place);
        else if (zeros-- === 0) {
          coefficients[place] = value;
          k++;
          break;
        }
      }
    }
    if (run.left === 0) return;
    for (; k <= to; k++) {
      const place = 64 * index + ZIGZAG[k];
      if (coefficients[place] !== 0) refine(coefficients, place);
    }
    run.left--;
  };
}
