/** An original compared with another photo of it, on the pixels as decoded. */
import type { Bundle } from "./core/bundle.ts";
import { alignedCrop, tilt } from "./photo/align.ts";
import { overlap, scaled, turned } from "./photo/detector.ts";
import { findFaces } from "./photo/faces.ts";
import type { Raster } from "./photo/raster.ts";
import { readPhoto } from "./photo/read.ts";
import { dependentOf, embedAll, panelOf, similarityTo, verdictOf, type Embeddings, type Recogniser } from "./photo/recognisers.ts";
import { detectorOf } from "./protect.ts";
import type { CheckResult, Face, FaceCheck } from "./types.ts";
import { VERSION } from "./version.ts";

/** Overlap of one face in two photos; how alike their sides and tilts have to be. */
const [SAME_PLACE, SAME_ASPECT, SAME_TILT] = [0.5, 0.02, 45];

/**
 * Verdicts on every face of the original. The face is looked for in the other photo, too, and each recogniser gets the better of the two
 * cuts: a shift of the detector's points must not pass for protection.
 */
export async function checkPhotos(bundle: Bundle, original: Uint8Array, other: Uint8Array, signal?: AbortSignal): Promise<CheckResult> {
  const detector = await detectorOf(bundle, signal);
  const [first, second] = [(await readPhoto(original)).raster, (await readPhoto(other)).raster];
  const [chosen, seen] = [await findFaces(detector, first), await findFaces(detector, second)];
  const [panel, dependent] = [panelOf(bundle), dependentOf(bundle)];
  const faces: FaceCheck[] = [];
  for (const [index, face] of chosen.entries()) {
    const places = placesOf(face, first, second, seen);
    if (places.length === 0) continue;
    const own = await embedAll(bundle, panel, alignedCrop(first, face.points), signal);
    const cuts = await embeddingsAt(bundle, panel, second, places, signal);
    const verdicts = panel.map((one) => verdictOf(one, similarityTo(own[one.name], cuts.map((cut) => cut[one.name])), dependent, null));
    faces.push({ index, box: face.box, verdicts });
  }
  const missing = chosen.length - faces.length;
  const matched = faces.some(({ verdicts }) => verdicts.some((one) => one.matched));
  const independent = panel.filter(({ name }) => !dependent.has(name)).length;
  return {
    status: faces.length === 0 ? "no_face" : matched ? "still_matched" : "not_matched",
    faces, independent, identical: isSame(first, second), version: VERSION,
    notes: [
      ...(missing > 0 ? [`${missing} of the original's faces are not in the protected photo: not compared`] : []),
      ...(independent === 0 ? ["no recogniser of this bundle is independent of the search"] : []),
    ],
  };
}

async function embeddingsAt(
  bundle: Bundle, panel: readonly Recogniser[], photo: Raster, places: readonly Face[], signal?: AbortSignal,
): Promise<Embeddings[]> {
  const found: Embeddings[] = [];
  for (const { points } of places) found.push(await embedAll(bundle, panel, alignedCrop(photo, points), signal));
  return found;
}

/** Where the face may lie in the second photo: the same place, in any of four turns, and where the detector finds it; else all its faces. */
function placesOf(face: Face, first: Raster, second: Raster, others: readonly Face[]): Face[] {
  for (const turns of [0, 1, 2, 3]) {
    const moved = carriedOver(face, turns, first, second);
    if (moved === null) continue;
    const nearest = others.reduce<Face | null>((best, one) => (best === null || overlap(moved, one) > overlap(moved, best) ? one : best), null);
    if (nearest !== null && overlap(moved, nearest) >= SAME_PLACE && tiltedAlike(moved, nearest)) return [moved, nearest];
  }
  const moved = carriedOver(face, 0, first, second);
  return moved === null ? [...others] : [moved, ...others];
}

/** The face in the second photo, where that is the first in another size and after so many quarter turns. */
function carriedOver(face: Face, turns: number, first: Raster, second: Raster): Face | null {
  const [width, height] = turns % 2 === 0 ? [first.width, first.height] : [first.height, first.width];
  const [x, y] = [second.width / width, second.height / height];
  return Math.abs(x / y - 1) >= SAME_ASPECT ? null : scaled(turned(face, turns, first.width, first.height), x, y);
}

function tiltedAlike(one: Face, other: Face): boolean {
  const apart = (((tilt(one.points) - tilt(other.points) + 180) % 360) + 360) % 360;
  return Math.abs(apart - 180) < SAME_TILT;
}

function isSame(one: Raster, other: Raster): boolean {
  if (one.width !== other.width || one.height !== other.height || one.data.BYTES_PER_ELEMENT !== other.data.BYTES_PER_ELEMENT) return false;
  for (let i = 0; i < one.data.length; i++) if (i % 4 !== 3 && one.data[i] !== other.data[i]) return false;
  return true;
}
