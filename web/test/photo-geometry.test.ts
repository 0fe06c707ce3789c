import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readNpy } from "../src/core/npy.ts";
import { carry, invert, rint, type Point } from "../src/photo/affine.ts";
import { alignedCrop, CANONICAL, cropTransform, misfit, quarterTurns, tilt } from "../src/photo/align.ts";
import { coveredFeatures, rule } from "../src/photo/covered.ts";
import { faceMask } from "../src/photo/mask.ts";
import { carriedBack, pasteInto, regionOf } from "../src/photo/paste.ts";
import { cut, eightBits, type Raster } from "../src/photo/raster.ts";
import { resized } from "../src/photo/resize.ts";
import { isMonochrome } from "../src/photo/tone.ts";
import { quarters, stored, upright } from "../src/photo/turns.ts";
import { undoingShare } from "../src/photo/undoing.ts";
import { apart, golden, picture, probes, rgb, wave } from "./photo-tools.ts";

const photo = picture(701, 533);
const crop = wave(3 * 65536, 0.011, 0, 1);
const change = wave(3 * 65536, 0.37, -0.05, 0.05);
const places = Object.entries(golden.places as Record<string, { points: Point[]; tilt: number; misfit: number; crop: number[]; pasted: number[] }>);

test("halves are rounded to the even number", () => {
  assert.deepEqual([0.5, 1.5, 2.5, -0.5, -1.5, 2.4999, 2.5001].map(rint).map((x) => x + 0), [0, 2, 2, 0, -2, 2, 3]);
});

test("the transform carries a similarity of the canonical points onto them, and its inverse leads back", () => {
  for (const [name, { points, tilt: degrees }] of places) {
    const transform = cropTransform(points);
    points.forEach((point, k) => {
      const there = carry(transform, point);
      assert.ok(apart(there, CANONICAL[k]).most < 1e-9, name);
      assert.ok(apart(carry(invert(transform), there), point).most < 1e-9, name);
    });
    assert.ok(Math.abs(tilt(points) - degrees) < 1e-9, name);
  }
});

test("tilt, misfit and quarter turns are those of Python", () => {
  for (const [name, { points, misfit: expected }] of places) {
    const moved = points.map(([x, y], k) => [x + (k === 0 ? 1 : 0), y + (k === 1 ? 2 : 0)] as Point);
    assert.ok(Math.abs(misfit(moved) - expected) < 1e-9, name);
  }
  const sideways = CANONICAL.map(([x, y]) => [y, 300 - x] as Point);
  assert.equal(quarterTurns(CANONICAL), 0);
  assert.equal(quarterTurns(sideways), 1);
});

test("points that coincide are refused", () => {
  assert.throws(() => cropTransform(new Array(5).fill([7, 7])), { name: "PhotoError", message: /coincide/ });
  assert.throws(() => cropTransform(CANONICAL.slice(1)), { name: "PhotoError", message: /five points/ });
});

test("a photo in the canonical place is its own crop", () => {
  const { data } = alignedCrop(picture(256, 256), CANONICAL);
  const pixels = picture(256, 256).data;
  for (let i = 0; i < 65536; i++) for (let c = 0; c < 3; c++) assert.equal(data[c * 65536 + i], Math.fround(pixels[4 * i + c] / 255));
});

test("a crop twice as large is averaged in blocks", () => {
  const pixels = picture(512, 512);
  const { data } = alignedCrop(pixels, CANONICAL.map(([x, y]) => [2 * x + 0.5, 2 * y + 0.5] as Point));
  for (const [x, y] of [[0, 0], [17, 93], [255, 255]]) {
    const at = [0, 1].flatMap((j) => [0, 1].map((i) => pixels.data[4 * ((2 * y + j) * 512 + 2 * x + i)]));
    assert.ok(Math.abs(data[y * 256 + x] * 255 - at.reduce((sum, value) => sum + value, 0) / 4) < 1e-3);
  }
});

test("crops are those of Python", () => {
  for (const [name, { points, crop: expected }] of places) {
    const found = alignedCrop(photo, points).data.map((value) => value * 255);
    const { most, share } = apart(probes(found), expected, 0.01);
    assert.ok(most <= 1.001 && share < 0.01, `${name}: ${most} levels, ${share}`);
  }
});

test("the detector's image is that of Python", () => {
  for (const [size, expected] of Object.entries(golden.resized as Record<string, number[]>)) {
    const [width, height] = size.split("x").map(Number);
    const { most, share } = apart(probes(resized(photo, width, height, width < 701)), expected);
    assert.ok(most <= 1 && share < 0.005, `${size}: ${most} levels, ${share}`);
  }
});

test("masks are those of Python, and 0 outside of the ellipse", () => {
  assert.ok(apart(probes(faceMask()), golden.mask.ordinary).most < 1e-6);
  const spared = [[128, 150, 17, 24, 0.6], [96, 98, 24, 12, 0.4]] as [number, number, number, number, number][];
  const mask = faceMask({ centre: [128, 134], radii: [114, 120], feather: 0.2, spared });
  assert.ok(apart(probes(mask), golden.mask.spared).most < 1e-6);
  assert.equal(mask[0], 0);
  assert.ok(mask[134 * 256 + 60] === 1 || mask[134 * 256 + 60] > 0.99);
});

test("pasted pixels are those of Python, and none changes outside of the mask", () => {
  const mask = faceMask();
  for (const [name, { points, pasted: expected }] of places) {
    const result = { ...photo, data: photo.data.slice() };
    pasteInto(result, change, mask, points);
    const { most, share } = apart(probes(rgb(result)), expected);
    assert.ok(most <= 1 && share < 0.005, `${name}: ${most} levels, ${share}`);
    const weight = carriedBack([mask], points);
    const values = new Float64Array(4);
    const box = regionOf(points, photo.width, photo.height)!;
    for (let y = 0; y < photo.height; y += 7) {
      for (let x = 0; x < photo.width; x += 5) {
        const inside = x >= box.left && x < box.right && y >= box.top && y < box.bottom;
        weight(x, y, values);
        const at = 4 * (y * photo.width + x);
        if (!inside || !(values[0] > 0)) assert.deepEqual(result.data.subarray(at, at + 4), photo.data.subarray(at, at + 4));
      }
    }
  }
});

test("16 bits change on their own scale, and are looked at as (v + 128) div 257", () => {
  const deep: Raster = { ...photo, data: Uint16Array.from(photo.data, (value) => value * 257) };
  const [, { points }] = places[0];
  const [before, flat] = [deep.data.slice(), { ...photo, data: photo.data.slice() }];
  pasteInto(deep, change, faceMask(), points);
  pasteInto(flat, change, faceMask(), points);
  assert.notDeepEqual(deep.data, before);
  assert.ok(apart(eightBits(deep).data, flat.data).most <= 1);
});

test("a black and white face stays without colour", () => {
  assert.equal(isMonochrome(photo, { left: 0, top: 0, right: 701, bottom: 533 }), golden.monochrome.colour);
  const grey = { ...photo, data: photo.data.slice() };
  for (let at = 0; at < grey.data.length; at += 4) grey.data[at + 1] = grey.data[at + 2] = grey.data[at];
  assert.equal(isMonochrome(grey, { left: 0, top: 0, right: 701, bottom: 533 }), golden.monochrome.grey);
  pasteInto(grey, change, faceMask(), places[0][1].points);
  assert.notDeepEqual(grey.data, photo.data);
  for (let at = 0; at < grey.data.length; at += 4) assert.ok(grey.data[at] === grey.data[at + 1] && grey.data[at] === grey.data[at + 2]);
});

test("sepia is monochrome, a few pixels only where they are grey", () => {
  const box = { left: 0, top: 0, right: 96, bottom: 96 };
  const sepia = picture(96, 96);
  for (let at = 0; at < sepia.data.length; at += 4) sepia.data.set([sepia.data[at], sepia.data[at] * 0.8, sepia.data[at] * 0.6], at);
  assert.equal(isMonochrome(sepia, box), true);
  assert.equal(isMonochrome(sepia, { left: 0, top: 0, right: 5, bottom: 5 }), false);
});

test("features of covered faces are those of Python, and the rule is the SDK's", () => {
  const found = coveredFeatures(crop).filter((_, i) => i % 9 === 0);
  assert.ok(apart(found, golden.covered).most < 1e-4);
  const file = readFileSync(join(import.meta.dirname, "../../sdk/faceprotect_sdk/covered.npy"));
  assert.deepEqual(rule(), readNpy(file, "covered.npy").data);
});

test("what a change undoes is what Python finds", () => {
  const mask = faceMask();
  assert.ok(Math.abs(undoingShare(crop, change, mask) - golden.undone.apart) < 1e-4);
  assert.ok(Math.abs(undoingShare(crop, crop.map((x) => -0.1 * x), mask) - golden.undone.same) < 1e-3 * golden.undone.same);
  assert.equal(undoingShare(crop, new Float32Array(3 * 65536), mask), 0);
});

test("every orientation is turned upright and back, and quarters are those of numpy", () => {
  const small = picture(5, 3);
  const at = ({ data, width }: Raster, x: number, y: number) => data[4 * (y * width + x)];
  // Where the stored pixel at (1, 0) comes to stand (EXIF 2.3, table 6).
  const stands = { 1: [1, 0], 2: [3, 0], 3: [3, 2], 4: [1, 2], 5: [0, 1], 6: [2, 1], 7: [2, 3], 8: [0, 3] };
  for (const [orientation, [x, y]] of Object.entries(stands)) {
    const turned = upright(small, Number(orientation));
    assert.equal(at(turned, x, y), at(small, 1, 0), orientation);
    assert.deepEqual(stored(turned, Number(orientation)), small, orientation);
  }
  assert.equal(at(quarters(small, 1), 0, 3), at(small, 1, 0));
  assert.deepEqual(quarters(quarters(small, 3), 1), small);
  const deep: Raster = { ...small, data: Uint16Array.from(small.data, (value) => value * 200) };
  assert.deepEqual(stored(upright(deep, 6), 6), deep);
});

test("a piece of a photo is cut out", () => {
  const piece = cut(photo, 10, 20, 30, 25);
  assert.deepEqual([piece.width, piece.height], [20, 5]);
  assert.deepEqual(piece.data.subarray(80, 160), photo.data.subarray(4 * (21 * 701 + 10), 4 * (21 * 701 + 30)));
});
