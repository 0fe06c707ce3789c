import assert from "node:assert/strict";
import { test } from "node:test";
import { CANONICAL } from "../src/photo/align.ts";
import { detect, overlap, turned, type Detector } from "../src/photo/detector.ts";
import { faceInPlace, findFaces, isUpright, shift } from "../src/photo/faces.ts";
import { piecesOf } from "../src/photo/pieces.ts";
import type { Face, Feeds, Tensor } from "../src/types.ts";
import { picture } from "./photo-tools.ts";

const facts: Detector["facts"] = {
  engine: "face-detector", stride: 4, multiple: 32, pyramid: [[320, 0.5], [640, 0.5], [1600, 0.6]], same_face: 0.3, best_width: 130,
};
/** Points relative to a box, y before x, as the network gives them: upright ones. */
const UPRIGHT = CANONICAL.flatMap(([x, y]) => [(y - 62) / 178, (x - 62) / 132]);

interface Seen { readonly x: number; readonly y: number; readonly width: number; readonly height: number; readonly score: number }

/** A detector that sees the same faces, in parts of the picture's sides, whatever the picture is. */
function standIn(faces: readonly Seen[] | ((width: number, height: number) => readonly Seen[]), runs: number[][] = []): Detector {
  const run = async ({ image }: Feeds): Promise<Record<string, Tensor>> => {
    const [height, width] = image.shape.slice(2);
    runs.push([width, height]);
    const [rows, cols] = [height / 4, width / 4];
    const plane = (count: number) => ({ data: new Float32Array(count * rows * cols), shape: [1, count, rows, cols] });
    const outputs = { heatmap: plane(1), scale: plane(2), offset: plane(2), landmarks: plane(10) };
    for (const { x, y, width: w, height: h, score } of typeof faces === "function" ? faces(width, height) : faces) {
      const [cx, cy] = [(x * width) / 4 - 0.5, (y * height) / 4 - 0.5];
      const at = Math.round(cy) * cols + Math.round(cx);
      outputs.heatmap.data[at] = score;
      [Math.log((h * height) / 4), Math.log((w * width) / 4)].forEach((value, i) => (outputs.scale.data[i * rows * cols + at] = value));
      [cy - Math.round(cy), cx - Math.round(cx)].forEach((value, i) => (outputs.offset.data[i * rows * cols + at] = value));
      UPRIGHT.forEach((value, i) => (outputs.landmarks.data[i * rows * cols + at] = value));
    }
    return outputs;
  };
  return { session: { run, close: async () => undefined }, facts, check: async () => undefined };
}

const near = (found: readonly number[], expected: readonly number[], within: number) =>
  found.forEach((value, i) => assert.ok(Math.abs(value - expected[i]) <= within, `${found} is not ${expected}`));

test("boxes and points come back in pixels of the photo, and the sides are multiples of 32", async () => {
  const runs: number[][] = [];
  const [face] = await detect(standIn([{ x: 0.5, y: 0.4, width: 0.2, height: 0.3, score: 0.9 }], runs), picture(500, 300), 0.5, 320);
  assert.deepEqual(runs, [[320, 192]]);
  near(face.box, [200, 75, 300, 165], 1e-3);
  near(face.points[2], [200 + 100 * UPRIGHT[5], 75 + 90 * UPRIGHT[4]], 1e-3);
  assert.ok(Math.abs(face.score - 0.9) < 1e-6);
});

test("boxes end at the photo, overlapping ones give way to the surest, the largest comes first", async () => {
  const faces = [
    { x: 0.1, y: 0.5, width: 0.3, height: 0.3, score: 0.7 }, { x: 0.12, y: 0.52, width: 0.3, height: 0.3, score: 0.8 },
    { x: 0.7, y: 0.5, width: 0.4, height: 0.4, score: 0.6 }, { x: 0.4, y: 0.1, width: 0.1, height: 0.1, score: 0.4 },
  ];
  const found = await detect(standIn(faces), picture(320, 320), 0.5, 320);
  assert.deepEqual(found.map(({ score }) => Math.round(10 * score)), [6, 8]);
  assert.equal(found[1].box[0], 0);
});

test("sure upright faces are looked for at two sizes only, or three in a large photo", async () => {
  for (const [width, height, looks] of [[400, 300, [[320, 256], [640, 480]]], [1920, 1080, [[320, 192], [640, 352], [1600, 896]]]] as const) {
    const runs: number[][] = [];
    const found = await findFaces(standIn([{ x: 0.5, y: 0.5, width: 0.2, height: (0.2 * width * 178) / 132 / height, score: 0.9 }], runs), picture(width, height));
    assert.equal(found.length, 1);
    assert.deepEqual(runs, looks);
  }
});

test("a face on its side is found in the view in which it stands", async () => {
  // Stands only where the picture is higher than wide: in the photo turned by a quarter against the clock, and by three.
  const detector = standIn((width, height) => (height > width ? [{ x: 0.3, y: 0.6, width: 0.2, height: 0.2, score: 0.9 }] : []));
  const found = await findFaces(detector, picture(480, 320));
  assert.equal(found.length, 2); // the stand-in sees one in both of those views, at different places
  assert.ok(found.every((face) => !isUpright(face)));
  // At (0.3, 0.6) of the photo turned by a quarter: x = W - y', y = x'.
  assert.ok(found.some(({ box }) => Math.abs((box[0] + box[2]) / 2 - 0.4 * 480) < 2 && Math.abs((box[1] + box[3]) / 2 - 0.3 * 320) < 2));
});

test("four quarter turns lead back, and one leads where numpy's does", () => {
  const face: Face = { box: [10, 20, 40, 60], points: [[15, 30], [35, 31], [25, 40], [17, 50], [33, 52]], score: 1 };
  assert.deepEqual(turned(face, 1, 100, 80), { box: [20, 60, 60, 90], points: face.points.map(([x, y]) => [y, 99 - x]), score: 1 });
  assert.deepEqual(turned(turned(face, 3, 100, 80), 1, 80, 100), face);
  assert.deepEqual(turned(face, 4, 100, 80), face);
  assert.equal(overlap(face, face), 1);
});

test("the second look comes to the same place, and gives none where no face is", async () => {
  const face: Face = { box: [100, 80, 232, 258], points: CANONICAL.map(([x, y]) => [x + 38, y + 18] as const), score: 1 };
  assert.equal(await faceInPlace(standIn([]), picture(400, 400), face), null);
  // The piece is the box with half of its longer side around it, cut to the photo: (11, 0) to (322, 348).
  const there = { x: 155 / 311, y: 169 / 348, width: 132 / 311, height: 178 / 348, score: 0.9 };
  const seen = await faceInPlace(standIn([there]), picture(400, 400), face);
  assert.ok(seen !== null && overlap(seen, face) > 0.95);
  assert.ok(shift(face, seen) < 0.02);
});

test("only panoramas and very large photos are looked at in pieces, which cover them and overlap", () => {
  assert.deepEqual(piecesOf(6000, 4000), []);
  assert.deepEqual(piecesOf(2400, 700), []);
  const pieces = piecesOf(14000, 400);
  assert.ok(pieces.length > 5);
  assert.deepEqual([pieces[0].left, pieces[pieces.length - 1].right], [0, 14000]);
  pieces.slice(1).forEach((piece, i) => assert.ok(piece.left < pieces[i].right - 300));
});
