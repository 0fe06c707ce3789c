/**
 * What is kept of a photo's EXIF: how the camera took it, when, and its orientation; and our mark (SPEC 9). Only listed tags are copied,
 * so that whatever names a place, a person or a device is dropped, and the thumbnail, which shows the unprotected face, with it.
 */

const [ORIENTATION, EXIF_POINTER, MARK] = [0x0112, 0x8769, 0x000b];
/** Make, model, resolution, date, colour positioning. */
const MAIN = new Set([0x010f, 0x0110, ORIENTATION, 0x011a, 0x011b, 0x0128, 0x0132, 0x0213]);
/** Exposure, dates and their zones, metering, flash, focal length, colour space, size, focal plane, scene and processing modes, lens. */
const CAMERA = new Set([
  0x829a, 0x829d, 0x8822, 0x8827, 0x8830, 0x8831, 0x8832, 0x9000, 0x9003, 0x9004, 0x9010, 0x9011, 0x9012, 0x9101, 0x9102,
  ...range(0x9201, 0x920a), 0x9290, 0x9291, 0x9292, 0xa000, 0xa001, 0xa002, 0xa003, 0xa20e, 0xa20f, 0xa210, 0xa215, 0xa217,
  0xa300, 0xa301, ...range(0xa401, 0xa40a), 0xa40c, 0xa432, 0xa433, 0xa434, 0xa460, 0xa500,
]);
/** Bytes of a value of each type 1 to 12. */
const SIZES = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8];
/** No listed tag needs more bytes. */
const LONGEST = 1024;

interface Entry { readonly tag: number; readonly type: number; readonly count: number; readonly value: Uint8Array }

/** What a block says and what of it is kept. */
export interface Exif {
  readonly little: boolean;
  /** 1 to 8. */
  readonly orientation: number;
  /** The line in ProcessingSoftware, if there is one. */
  readonly software: string | null;
  readonly main: readonly Entry[];
  readonly camera: readonly Entry[];
  readonly notes: readonly string[];
}

const NOTHING: Exif = { little: true, orientation: 1, software: null, main: [], camera: [], notes: [] };

/** Reads a TIFF block (with or without "Exif\0\0" before it). A damaged one is left out with a note: it stops no photo, and turns none. */
export function readExif(block: Uint8Array | null): Exif {
  if (block === null || block.length === 0) return NOTHING;
  const data = String.fromCharCode(...block.subarray(0, 4)) === "Exif" ? block.subarray(6) : block;
  const order = data.length < 8 ? "" : String.fromCharCode(data[0], data[1]);
  if (order !== "II" && order !== "MM") return { ...NOTHING, notes: ["EXIF was damaged and left out"] };
  const little = order === "II";
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const first = directory(data, view, view.getUint32(4, little), little);
  const pointer = first.entries.find(({ tag }) => tag === EXIF_POINTER);
  const second = pointer ? directory(data, view, number(pointer, little), little) : { entries: [], damaged: 0 };
  const orientation = first.entries.find(({ tag }) => tag === ORIENTATION);
  const turned = orientation ? number(orientation, little) : 1;
  const software = first.entries.find(({ tag, type }) => tag === MARK && type === 2);
  const [main, camera] = [kept(first.entries, MAIN), kept(second.entries, CAMERA)];
  const damaged = first.damaged + second.damaged;
  return {
    little,
    orientation: turned >= 1 && turned <= 8 ? turned : 1,
    software: software ? new TextDecoder("latin1").decode(software.value).replace(/\0[^]*$/, "") : null,
    main, camera,
    notes: damaged > 0 ? [`${damaged} damaged EXIF tags were left out`] : [],
  };
}

/** The block that is written, without "Exif\0\0"; null where nothing is left. `line`: our mark. */
export function writeExif(exif: Exif, line: string | null): Uint8Array | null {
  const { little } = exif;
  const main = [...exif.main];
  if (line !== null) {
    const value = new TextEncoder().encode(`${line}\0`);
    main.push({ tag: MARK, type: 2, count: value.length, value });
  }
  if (exif.camera.length > 0) main.push({ tag: EXIF_POINTER, type: 4, count: 1, value: new Uint8Array(4) });
  if (main.length === 0) return null;
  main.sort((one, other) => one.tag - other.tag);
  const second = 8 + sizeOf(main);
  const block = new Uint8Array(second + (exif.camera.length > 0 ? sizeOf(exif.camera) : 0));
  const view = new DataView(block.buffer);
  block.set(new TextEncoder().encode(little ? "II" : "MM"));
  view.setUint16(2, 42, little);
  view.setUint32(4, 8, little);
  for (const { tag, value } of main) {
    if (tag === EXIF_POINTER) new DataView(value.buffer, value.byteOffset).setUint32(0, second, little);
  }
  writeDirectory(block, view, 8, main, little);
  if (exif.camera.length > 0) writeDirectory(block, view, second, [...exif.camera].sort((one, other) => one.tag - other.tag), little);
  return block;
}

/** Entries whose values lie inside of the block, and how many do not. */
function directory(data: Uint8Array, view: DataView, at: number, little: boolean): { entries: Entry[]; damaged: number } {
  const entries: Entry[] = [];
  if (at + 2 > data.length) return { entries, damaged: 1 };
  const count = view.getUint16(at, little);
  let damaged = 0;
  for (let i = 0; i < count; i++) {
    const place = at + 2 + 12 * i;
    if (place + 12 > data.length) return { entries, damaged: damaged + 1 };
    const [tag, type, values] = [view.getUint16(place, little), view.getUint16(place + 2, little), view.getUint32(place + 4, little)];
    const known = MAIN.has(tag) || CAMERA.has(tag) || tag === EXIF_POINTER || tag === MARK;
    const size = (SIZES[type] ?? 0) * values;
    const start = size <= 4 ? place + 8 : view.getUint32(place + 8, little);
    if (size > 0 && size <= LONGEST && start + size <= data.length) {
      entries.push({ tag, type, count: values, value: data.slice(start, start + size) });
    } else if (known) damaged++;
  }
  return { entries, damaged };
}

/** Listed entries, each tag once. */
function kept(entries: readonly Entry[], listed: ReadonlySet<number>): Entry[] {
  const found = new Map<number, Entry>();
  for (const entry of entries) if (listed.has(entry.tag) && !found.has(entry.tag)) found.set(entry.tag, entry);
  return [...found.values()];
}

function number(entry: Entry, little: boolean): number {
  const view = new DataView(entry.value.buffer, entry.value.byteOffset, entry.value.byteLength);
  if (entry.type === 3) return view.getUint16(0, little);
  return entry.type === 4 ? view.getUint32(0, little) : 0;
}

function sizeOf(entries: readonly Entry[]): number {
  return 6 + 12 * entries.length + entries.reduce((sum, { value }) => sum + (value.length > 4 ? value.length + (value.length % 2) : 0), 0);
}

function writeDirectory(block: Uint8Array, view: DataView, at: number, entries: readonly Entry[], little: boolean): void {
  let free = at + 6 + 12 * entries.length;
  view.setUint16(at, entries.length, little);
  entries.forEach(({ tag, type, count, value }, i) => {
    const place = at + 2 + 12 * i;
    view.setUint16(place, tag, little);
    view.setUint16(place + 2, type, little);
    view.setUint32(place + 4, count, little);
    if (value.length <= 4) block.set(value, place + 8);
    else {
      view.setUint32(place + 8, free, little);
      block.set(value, free);
      free += value.length + (value.length % 2);
    }
  });
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
