import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { encoderTable } from "../src/photo/jpeg/huffman.ts";
import { decodeJpeg } from "../src/photo/jpeg/decode.ts";
import { encodeJpeg, quantiser } from "../src/photo/jpeg/encode.ts";
import { readExif, writeExif } from "../src/photo/exif.ts";
import { isMark, markOf } from "../src/photo/mark.ts";
import type { Photo } from "../src/photo/photo.ts";
import { chunk, chunksOf, crc } from "../src/photo/png-chunks.ts";
import { joined, writePng } from "../src/photo/png-write.ts";
import type { Raster } from "../src/photo/raster.ts";
import { MAX_PIXELS, readPhoto } from "../src/photo/read.ts";
import { upright } from "../src/photo/turns.ts";
import { writePhoto } from "../src/photo/write.ts";
import { apart, digestOf, fileOf, golden, picture, rgb, smooth } from "./photo-tools.ts";

const text = (letters: string) => Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
const latin = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
const small = smooth(37, 29);
const none = readExif(null);
const bare: Photo = {
  container: "png", raster: small, grey: false, alpha: false, lossless: true, exif: none, icc: null, chunks: [], density: null, notes: [],
};
const profile = Uint8Array.from({ length: 70000 }, (_, i) => (i < 4 ? [0, 1, 0x11, 0x70][i] : i % 251));

/** A TIFF block by hand: tag, type, count and content of each entry; a second directory behind 0x8769, a third behind 0x8825. */
function tiff(main: [number, number, number, number[]][], camera: [number, number, number, number[]][] = [], place: typeof main = []): Uint8Array {
  const directories = [main, camera, place].map((entries) => [...entries]);
  if (camera.length > 0) directories[0].push([0x8769, 4, 1, [0, 0, 0, 0]]);
  if (place.length > 0) directories[0].push([0x8825, 4, 1, [0, 0, 0, 0]]);
  const block: number[] = [...text("II"), 42, 0, 8, 0, 0, 0];
  const starts: number[] = [];
  for (const entries of directories) {
    starts.push(block.length);
    let free = block.length + 6 + 12 * entries.length;
    const tail: number[] = [];
    block.push(entries.length, 0);
    for (const [tag, type, count, content] of entries) {
      block.push(tag & 255, tag >> 8, type, 0, count & 255, count >> 8, 0, 0);
      if (content.length <= 4) block.push(...content, ...new Array(4 - content.length).fill(0));
      else {
        block.push(free & 255, free >> 8, 0, 0);
        free += content.length;
        tail.push(...content);
      }
    }
    block.push(0, 0, 0, 0, ...tail);
  }
  const pointers = directories[0].map(([tag]) => tag);
  for (const [tag, start] of [[0x8769, starts[1]], [0x8825, starts[2]]]) {
    const index = pointers.indexOf(tag);
    if (index >= 0) [block[8 + 2 + 12 * index + 8], block[8 + 2 + 12 * index + 9]] = [start & 255, start >> 8];
  }
  return Uint8Array.from(block);
}

const ascii = (tag: number, line: string): [number, number, number, number[]] => [tag, 2, line.length + 1, [...text(line), 0]];
const full = tiff(
  [ascii(0x010e, "a picnic"), ascii(0x010f, "Maker"), [0x0112, 3, 1, [6, 0]], ascii(0x013b, "Jane Doe"), ascii(0x0132, "2024:05:06 07:08:09")],
  [[0x829a, 5, 1, [1, 0, 0, 0, 100, 0, 0, 0]], ascii(0x9003, "2024:05:06 07:08:09"), ascii(0xa431, "serial 12345"), ascii(0xa434, "A Lens"), [0x927c, 7, 8, [...text("MakerNot")]]],
  [ascii(0x001d, "2024:05:06"), [0x0001, 2, 2, [...text("N"), 0]]],
);

describe("JPEG", () => {
  for (const [name, expected] of Object.entries(golden.jpeg as Record<string, { file: string; pixels: string; again: string }>)) {
    test(`${name}: the pixels are libjpeg's, and so are those of what is written`, async () => {
      const found = decodeJpeg(fileOf(expected.file));
      assert.equal(await digestOf(rgb(found.raster)), expected.pixels);
      if (found.cmyk) return;
      const again = decodeJpeg(encodeJpeg(found.raster, 95, found.grey, []));
      assert.equal(await digestOf(rgb(again.raster)), expected.again);
    });
  }

  test("quantisers are those of Annex K, scaled", () => {
    assert.deepEqual([...quantiser([16, 11, 99], 50)], [16, 11, 99]);
    assert.deepEqual([...quantiser([16, 11, 99], 95)], [2, 1, 10]);
    assert.deepEqual([...quantiser([16, 11, 99], 100)], [1, 1, 1]);
    assert.deepEqual([...quantiser([16, 11, 99], 1)], [255, 255, 255]);
  });

  test("Huffman codes are prefix codes of at most 16 bits, none of them all ones, however unlike the counts", () => {
    for (const counts of [[1], [5, 5], Array.from({ length: 40 }, (_, i) => 2 ** Math.min(i, 31)), new Array(256).fill(1)]) {
      const { counts: lengths, symbols, code, length } = encoderTable(Uint32Array.from({ length: 256 }, (_, i) => counts[i] ?? 0));
      assert.equal(symbols.length, counts.length);
      assert.equal(lengths.reduce((sum, count) => sum + count, 0), counts.length);
      assert.ok(lengths.reduce((sum, count, i) => sum + count * 2 ** (15 - i), 0) < 65536);
      for (const symbol of symbols) assert.ok(length[symbol] >= 1 && length[symbol] <= 16 && code[symbol] !== 2 ** length[symbol] - 1);
    }
  });

  test("broken files are refused in words, wherever they are cut", async () => {
    const whole = fileOf(golden.jpeg["420 progressive"].file);
    const baseline = fileOf(golden.jpeg["444"].file);
    for (const file of [whole, baseline]) {
      for (let size = 3; size < file.length; size += 1 + (size >> 5)) {
        await assert.rejects(readPhoto(file.slice(0, size)), { name: "PhotoError", message: /truncated or damaged/ }, `${size} bytes`);
      }
    }
    for (let at = 20; at < baseline.length; at += 3) {
      const changed = baseline.slice();
      changed[at] ^= 0x55;
      await readPhoto(changed).catch((error) => assert.equal(error.name, "PhotoError", `byte ${at}: ${error.stack}`));
    }
  });

  test("further pictures behind the first are named and left out", async () => {
    const file = fileOf(golden.jpeg["444"].file);
    const { notes, raster } = await readPhoto(joined([file, file]));
    assert.match(notes.join(), /more than one picture/);
    assert.deepEqual([raster.width, raster.height], [37, 29]);
    assert.match((await readPhoto(joined([file, text("....ftypmp42")]))).notes.join(), /motion clip/);
  });
});

describe("PNG", () => {
  for (const [name, expected] of Object.entries(golden.png as Record<string, { file: string; pixels: string }>)) {
    test(`${name}: the pixels are Pillow's`, async () => {
      const { raster } = await readPhoto(fileOf(expected.file));
      assert.equal(await digestOf(Uint8Array.from(raster.data)), expected.pixels);
    });
  }

  test("8 and 16 bits, grey and colour, with and without alpha come back exactly", async () => {
    for (const grey of [false, true]) {
      for (const alpha of [false, true]) {
        for (const deep of [false, true]) {
          const values = Array.from({ length: 4 * 11 * 7 }, (_, i) => (deep ? (i * 2657) % 65536 : (i * 41) % 256));
          for (let at = 0; at < values.length; at += 4) {
            if (grey) values[at + 1] = values[at + 2] = values[at];
            if (!alpha) values[at + 3] = deep ? 65535 : 255;
          }
          const raster: Raster = { data: deep ? Uint16Array.from(values) : Uint8ClampedArray.from(values), width: 11, height: 7 };
          const found = await readPhoto(await writePng(raster, { grey, alpha, icc: null, exif: null, chunks: [] }));
          assert.deepEqual([found.raster, found.grey, found.alpha], [raster, grey, alpha]);
        }
      }
    }
  });

  test("an interlaced picture is put together from its seven passes", async () => {
    const [width, height] = [13, 9];
    const raster = picture(width, height);
    const rows: number[] = [];
    for (const [x0, y0, dx, dy] of [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]]) {
      for (let y = y0; y < height; y += dy) {
        if (x0 >= width) continue;
        rows.push(0);
        for (let x = x0; x < width; x += dx) rows.push(...raster.data.subarray(4 * (y * width + x), 4 * (y * width + x) + 3));
      }
    }
    const plain = await writePng(raster, { grey: false, alpha: false, icc: null, exif: null, chunks: [] });
    const header = chunksOf(plain)[0].content.slice();
    header[12] = 1;
    const packed = new Uint8Array(await new Response(new Blob([Uint8Array.from(rows)]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer());
    const file = joined([plain.subarray(0, 8), chunk("IHDR", header), chunk("IDAT", packed), chunk("IEND", new Uint8Array(0))]);
    assert.deepEqual((await readPhoto(file)).raster, raster);
  });

  test("broken files are refused in words", async () => {
    const file = await writePhoto(bare, small, 95, null);
    for (let size = 8; size < file.length; size += 1 + (size >> 4)) {
      await assert.rejects(readPhoto(file.slice(0, size)), { name: "PhotoError", message: /truncated or damaged/ }, `${size} bytes`);
    }
    const changed = file.slice();
    changed[60] ^= 1;
    await assert.rejects(readPhoto(changed), { name: "PhotoError", message: /checksum/ });
  });

  test("checksums are CRC-32", () => assert.equal(crc(text("123456789")), 0xcbf43926));
});

describe("WebP", () => {
  test("lossless comes back exactly, with colours under transparent pixels", async () => {
    const raster = picture(40, 30);
    raster.data.forEach((_, i) => i % 4 === 3 && (raster.data[i] = i % 251));
    const photo: Photo = { ...bare, container: "webp", raster, alpha: true };
    const found = await readPhoto(await writePhoto(photo, raster, 95, null));
    assert.deepEqual([found.raster, found.lossless, found.alpha], [raster, true, true]);
  });

  test("lossy comes back nearly, with profile and EXIF", async () => {
    const photo: Photo = { ...bare, container: "webp", lossless: false, icc: profile, exif: readExif(full) };
    const found = await readPhoto(await writePhoto(photo, upright(small, 6), 95, "a line"));
    assert.deepEqual([found.container, found.lossless, found.exif.orientation, found.exif.software], ["webp", false, 6, "a line"]);
    assert.deepEqual(found.icc, profile);
    assert.ok(apart(found.raster.data, upright(small, 6).data).most < 25);
  });

  test("broken and animated files are refused in words", async () => {
    const file = await writePhoto({ ...bare, container: "webp", lossless: false }, small, 90, null);
    for (const size of [12, 15, 25, 40, file.length - 1]) {
      await assert.rejects(readPhoto(file.slice(0, size)), { name: "PhotoError", message: /truncated or damaged/ });
    }
    const moving = joined([text("RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02"), new Uint8Array(9)]);
    await assert.rejects(readPhoto(moving), { name: "PhotoError", message: /animated/ });
  });
});

describe("metadata", () => {
  for (const container of ["jpeg", "png", "webp"] as const) {
    test(`${container}: what the camera says is kept, what names a place or a person is not`, async () => {
      const photo: Photo = { ...bare, container, exif: readExif(full), icc: profile };
      const line = await markOf(small, "auto");
      const file = await writePhoto(photo, upright(small, 6), 95, line);
      for (const word of ["Jane Doe", "picnic", "serial 12345", "MakerNot"]) assert.ok(!latin(file).includes(word), word);
      for (const word of ["Maker\0", "A Lens", "2024:05:06 07:08:09", line]) assert.ok(latin(file).includes(word), word);
      const { exif, icc, raster } = await readPhoto(file);
      assert.equal(exif.orientation, 6);
      assert.equal(exif.software, line);
      assert.deepEqual(exif.main.map(({ tag }) => tag), [0x010f, 0x0112, 0x0132]);
      assert.deepEqual(exif.camera.map(({ tag }) => tag), [0x829a, 0x9003, 0xa434]);
      assert.deepEqual(icc, profile);
      assert.deepEqual([raster.width, raster.height], [29, 37]);
    });
  }

  test("of a JPEG's segments, JFIF, cleaned EXIF and the profile are written, and no others", async () => {
    const first = await writePhoto({ ...bare, container: "jpeg", icc: profile, density: Uint8Array.of(1, 1, 44, 1, 44), exif: readExif(full) }, upright(small, 6), 95, null);
    const further = [text("\xff\xe1\0\x24http://ns.adobe.com/xap/1.0/\0<x:Jane>"), text("\xff\xed\0\x0cPhotoshop\0"), text("\xff\xfe\0\x0ccomment...")];
    further[0][3] = further[0].length - 2;
    const { container, ...kept } = await readPhoto(joined([first.subarray(0, 2), ...further, first.subarray(2)]));
    const again = await writePhoto({ container, ...kept }, kept.raster, 95, null);
    const markers: string[] = [];
    for (let at = 2; again[at + 1] !== 0xda; at += 2 + ((again[at + 2] << 8) | again[at + 3])) markers.push(again[at + 1].toString(16));
    assert.deepEqual(markers, ["e0", "e1", "e2", "e2", "db", "db", "c0", "c4", "c4", "c4", "c4"]);
    assert.deepEqual([...again.subarray(13, 18)], [1, 1, 44, 1, 44]);
    assert.ok(!latin(again).includes("Jane"));
  });

  test("every orientation is kept, and the pixels stand upright", async () => {
    for (const container of ["jpeg", "png", "webp"] as const) {
      for (let orientation = 1; orientation <= 8; orientation++) {
        const photo: Photo = { ...bare, container, exif: readExif(tiff([[0x0112, 3, 1, [orientation, 0]]])) };
        const standing = upright(small, orientation);
        const found = await readPhoto(await writePhoto(photo, standing, 100, null));
        assert.equal(found.exif.orientation, orientation);
        assert.deepEqual([found.raster.width, found.raster.height], [standing.width, standing.height]);
        assert.ok(apart(found.raster.data, standing.data).most <= 3, `${container} ${orientation}`);
      }
    }
  });

  test("damaged EXIF stops no photo, turns none, and is not copied", () => {
    for (let size = 1; size < full.length; size++) {
      const found = readExif(full.slice(0, size));
      assert.ok(found.orientation === 1 || found.orientation === 6);
      writeExif(found, "a line");
    }
    for (let at = 0; at < full.length; at++) {
      const changed = full.slice();
      changed[at] = 0xff;
      assert.doesNotThrow(() => writeExif(readExif(changed), null));
    }
    assert.match(readExif(text("no EXIF at all")).notes.join(), /damaged/);
    assert.equal(readExif(tiff([[0x0112, 3, 1, [9, 0]]])).orientation, 1);
    assert.equal(writeExif(none, null), null);
  });

  test("a mark is one line of a fixed form, and its id the digest of the pixels", async () => {
    const line = await markOf(small, "auto");
    assert.equal(line, `faceprotect-sdk 0.1.0 method=auto id=${(await digestOf(rgb(small))).slice(0, 16)}`);
    assert.ok(isMark(line));
    for (const other of [`${line}0`, ` ${line}`, line.replace("id=", "id=G"), "another program 1.0", "", null]) assert.equal(isMark(other), false);
  });

  test("a PNG's colour chunks stay, its texts do not", async () => {
    const file = await writePhoto({ ...bare, chunks: [["gAMA", Uint8Array.of(0, 0, 0xb1, 0x8f)], ["pHYs", new Uint8Array(9)]] }, small, 95, null);
    const with_text = joined([file.subarray(0, 33), chunk("tEXt", text("Author\0Jane Doe")), chunk("gAMA", text("Jane Doe")), file.subarray(33)]);
    const found = await readPhoto(with_text);
    assert.deepEqual(found.chunks.map(([kind]) => kind), ["gAMA", "pHYs"]);
    assert.ok(!latin(await writePhoto(found, found.raster, 95, null)).includes("Jane"));
  });
});

describe("what is refused before it is decoded", () => {
  const cases: [string, Uint8Array, RegExp][] = [
    ["nothing", new Uint8Array(0), /empty/],
    ["words", text("These are no pixels."), /no JPEG, PNG or WebP/],
    ["HEIC", text("\0\0\0\x18ftypheic\0\0\0\0"), /AVIF or HEIC is not read/],
    ["GIF", text("GIF89a......"), /GIF is not read/],
    ["TIFF", text("II*\0........"), /TIFF is not read/],
  ];
  for (const [name, file, said] of cases) {
    test(name, () => assert.rejects(readPhoto(file), ({ name: kind, message, hint }) => kind === "PhotoError" && said.test(message) && hint.length > 10));
  }

  test("pictures of more than 64 megapixels, by their headers alone", async () => {
    const side = Math.ceil(Math.sqrt(MAX_PIXELS)) + 1;
    const header = new Uint8Array(13);
    new DataView(header.buffer).setUint32(0, side);
    new DataView(header.buffer).setUint32(4, side);
    header.set([8, 2], 8);
    const png = joined([text("\x89PNG\r\n\x1a\n"), chunk("IHDR", header)]);
    const jpeg = fileOf(golden.jpeg["444"].file);
    const frame = jpeg.findIndex((byte, at) => byte === 0xff && jpeg[at + 1] === 0xc0);
    jpeg.set([side >> 8, side & 255, side >> 8, side & 255], frame + 5);
    const webp = joined([text("RIFF\x16\0\0\0WEBPVP8L\x0a\0\0\0\x2f"), Uint8Array.of(0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0)]);
    for (const file of [png, jpeg, webp]) await assert.rejects(readPhoto(file), { name: "PhotoError", message: /megapixels; the limit is 64/ });
  });

  test("a PNG whose pixels go on for ever is not read to their end", async () => {
    const bomb = new Uint8Array(await new Response(new Blob([new Uint8Array(5_000_000)]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer());
    const header = Uint8Array.of(0, 0, 0, 2, 0, 0, 0, 2, 8, 2, 0, 0, 0);
    const file = joined([text("\x89PNG\r\n\x1a\n"), chunk("IHDR", header), chunk("IDAT", bomb), chunk("IEND", new Uint8Array(0))]);
    assert.deepEqual((await readPhoto(file)).raster.width, 2);
  });
});
