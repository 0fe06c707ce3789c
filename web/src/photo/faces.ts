/** Every face of a photo: at every size, turned, in pieces of a panorama, and one face looked at from near (SPEC 6.2 to 6.4). */
import type { Face } from "../types.ts";
import { rint } from "./affine.ts";
import { misfit, quarterTurns, tilt } from "./align.ts";
import { area, bySize, detect, intersection, overlap, shifted, turned, type Detector } from "./detector.ts";
import { isWhole, piecesOf } from "./pieces.ts";
import { cut, type Raster } from "./raster.ts";
import { quarters } from "./turns.ts";

/** Tilt in degrees and misfit in pixels up to which points may be those of an upright face. */
const [UPRIGHT_TILT, UPRIGHT_MISFIT] = [40, 9];
/** Score from which on an upright face is sure; by how much a turned view has to be surer than the photo as it lies. */
const [SURE, TURNING] = [0.8, 0.1];
/** A face of fewer of the network's pixels is seen more exactly in a piece of the photo. */
const EXACT_WIDTH = 40;
/** A box by so much inside a face so many times as large is a part of it. */
const [INSIDE, LARGER] = [0.6, 4];

type Candidate = readonly [doubt: number, face: Face];

/** Faces of an upright photo, largest first. */
export async function findFaces(detector: Detector, photo: Raster): Promise<Face[]> {
  const found = await facesAllOver(detector, photo);
  if (found.length > 0 && found.every((face) => isUpright(face) && face.score >= SURE)) return found;
  const candidates: Candidate[] = found.map((face) => [doubt(face), face]);
  for (const turns of [1, 2, 3]) {
    const view = quarters(photo, turns);
    const seen = (await facesAllOver(detector, view)).filter(isUpright);
    candidates.push(...seen.map((face): Candidate => [doubt(face) + TURNING, turned(face, -turns, view.width, view.height)]));
  }
  return bySize(best(candidates, detector.facts.same_face));
}

export function isUpright(face: Face): boolean {
  return Math.abs(tilt(face.points)) <= UPRIGHT_TILT && misfit(face.points) <= UPRIGHT_MISFIT;
}

function doubt(face: Face): number {
  return (isUpright(face) ? 0 : 1) - face.score;
}

/** Of detections of one face, the one with the smallest number. */
function best(candidates: readonly Candidate[], limit: number): Face[] {
  const kept: Face[] = [];
  for (const [, face] of [...candidates].sort(([one], [other]) => one - other)) {
    if (kept.every((other) => overlap(face, other) < limit)) kept.push(face);
  }
  return kept;
}

async function facesAllOver(detector: Detector, photo: Raster): Promise<Face[]> {
  const found = await facesAsItLies(detector, photo);
  const pieces = piecesOf(photo.width, photo.height);
  if (pieces.length === 0) return found;
  const finest = detector.facts.pyramid[detector.facts.pyramid.length - 1][0];
  const scale = Math.min(finest / Math.max(photo.width, photo.height), 1);
  const candidates = found.map((face): Candidate => [(face.box[2] - face.box[0]) * scale >= EXACT_WIDTH ? -2 : 1, face]);
  for (const piece of pieces) {
    const near = await facesAsItLies(detector, cut(photo, piece.left, piece.top, piece.right, piece.bottom));
    for (const face of near.map((one) => shifted(one, piece.left, piece.top))) {
      if (!isWhole(face, piece, photo.width, photo.height) || found.some((other) => isPart(face, other))) continue;
      candidates.push([-face.score, face]);
    }
  }
  return bySize(best(candidates, detector.facts.same_face));
}

function isPart(face: Face, other: Face): boolean {
  return area(other) >= LARGER * area(face) && area({ ...face, box: intersection(face, other) }) >= INSIDE * area(face);
}

/** At every size; of detections of one face, the one nearest to the width at which the network is most exact. */
async function facesAsItLies(detector: Detector, photo: Raster): Promise<Face[]> {
  const { pyramid, best_width, same_face } = detector.facts;
  const longest = Math.max(photo.width, photo.height);
  const coarse = pyramid[1][0];
  const candidates: Candidate[] = [];
  for (const [side, threshold] of pyramid) {
    if (side > coarse && longest < 1.5 * coarse) break;
    const reach = side > coarse ? Math.min(side, longest) : side;
    const scale = Math.min(reach / longest, 2);
    for (const face of await detect(detector, photo, threshold, reach)) {
      candidates.push([Math.abs(Math.log(Math.max((face.box[2] - face.box[0]) * scale, 1) / best_width)), face]);
    }
  }
  return bySize(best(candidates, same_face));
}

/** A given face looked at from near, upright and at the best size; null where the detector sees none in its place. */
export async function faceInPlace(detector: Detector, photo: Raster, face: Face): Promise<Face | null> {
  const [x0, y0, x1, y1] = face.box;
  const half = Math.max(x1 - x0, y1 - y0) / 2;
  const [left, top] = [Math.max(Math.trunc(x0 - half), 0), Math.max(Math.trunc(y0 - half), 0)];
  const [right, bottom] = [Math.min(Math.trunc(x1 + half) + 1, photo.width), Math.min(Math.trunc(y1 + half) + 1, photo.height)];
  if (right - left < 2 || bottom - top < 2) return null;
  const turns = quarterTurns(face.points);
  const view = quarters(cut(photo, left, top, right, bottom), -turns);
  const across = turns % 2 === 0 ? x1 - x0 : y1 - y0;
  const { best_width, multiple, same_face } = detector.facts;
  const reach = rint((best_width / Math.max(across, 1)) * Math.max(view.width, view.height));
  const seen = await detect(detector, view, 0.5, Math.max(reach, 2 * multiple));
  let nearest: Face | null = null;
  for (const one of seen.map((other) => shifted(turned(other, turns, view.width, view.height), left, top))) {
    if (nearest === null || overlap(face, one) > overlap(face, nearest)) nearest = one;
  }
  return nearest !== null && overlap(face, nearest) >= same_face ? nearest : null;
}

/** Largest distance between corresponding points, as a part of the first face's width. */
export function shift(first: Face, second: Face): number {
  const width = Math.max(first.box[2] - first.box[0], 1);
  const ways = first.points.map(([x, y], i) => Math.hypot(second.points[i][0] - x, second.points[i][1] - y));
  return Math.max(...ways) / width;
}
