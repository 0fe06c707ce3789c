/** One run of the face detector, CenterFace, and what its outputs mean (SPEC 6.1). */
import type { Face, Session, Tensor } from "../types.ts";
import { rint } from "./affine.ts";
import { eightBits, type Raster } from "./raster.ts";
import { resized } from "./resize.ts";

/** What a bundle's recipe says of its detector. */
export interface DetectorFacts {
  readonly engine: string;
  readonly stride: number;
  readonly multiple: number;
  /** Longest side and least score of each size that is looked at. */
  readonly pyramid: readonly (readonly [number, number])[];
  readonly same_face: number;
  readonly best_width: number;
}

export interface Detector {
  readonly session: Session;
  readonly facts: DetectorFacts;
  /** Called before every run; throws where the work is to stop. */
  readonly check: () => Promise<void>;
}

/** Faces of an upright photo brought to `longest` px, largest first, in pixels of the photo. */
export async function detect(detector: Detector, photo: Raster, threshold: number, longest: number): Promise<Face[]> {
  const { stride, multiple, same_face } = detector.facts;
  const scale = Math.min(longest / Math.max(photo.width, photo.height), 2);
  const [width, height] = [photo.width, photo.height].map((side) => Math.max(multiple, rint((side * scale) / multiple) * multiple));
  await detector.check();
  const image: Tensor = { data: resized(eightBits(photo), width, height, scale < 1), shape: [1, 3, height, width] };
  const outputs = await detector.session.run({ image });
  const [x, y] = [photo.width / width, photo.height / height];
  const faces = suppressed(decoded(outputs, threshold, stride), same_face).map((face) => clipped(scaled(face, x, y), photo));
  return bySize(faces);
}

/** Largest box first; of equal ones the first. */
export function bySize(faces: readonly Face[]): Face[] {
  return [...faces].sort((one, other) => area(other) - area(one));
}

export function area({ box }: Face): number {
  return Math.max(box[2] - box[0], 0) * Math.max(box[3] - box[1], 0);
}

/** Intersection over union of two boxes. */
export function overlap(one: Face, other: Face): number {
  const shared = area({ ...one, box: intersection(one, other) });
  return shared / Math.max(area(one) + area(other) - shared, 1e-9);
}

export function intersection(one: Face, other: Face): Face["box"] {
  const [a, b] = [one.box, other.box];
  return [Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])];
}

/** The same face in a photo resized by these factors. */
export function scaled({ box, points, score }: Face, x: number, y: number): Face {
  return { box: [box[0] * x, box[1] * y, box[2] * x, box[3] * y], points: points.map(([u, v]) => [u * x, v * y] as const), score };
}

/** The same face in a photo whose origin lies (x, y) further up and left. */
export function shifted({ box, points, score }: Face, x: number, y: number): Face {
  return { box: [box[0] + x, box[1] + y, box[2] + x, box[3] + y], points: points.map(([u, v]) => [u + x, v + y] as const), score };
}

/** The same face in the photo turned by quarters against the clock; `width`, `height`: of the photo before that. */
export function turned(face: Face, turns: number, width: number, height: number): Face {
  let { box, points } = face;
  for (let turn = 0; turn < ((turns % 4) + 4) % 4; turn++) {
    const right = width;
    box = [box[1], right - box[2], box[3], right - box[0]];
    points = points.map(([x, y]) => [y, right - 1 - x] as const);
    [width, height] = [height, width];
  }
  return { box, points, score: face.score };
}

function clipped(face: Face, { width, height }: Raster): Face {
  const [x0, y0, x1, y1] = face.box;
  return { ...face, box: [Math.max(x0, 0), Math.max(y0, 0), Math.min(x1, width), Math.min(y1, height)] };
}

/** The cells of the heat map above the threshold, in pixels of the network's image; row by row. */
function decoded(outputs: Readonly<Record<string, Tensor>>, threshold: number, stride: number): Face[] {
  const [heat, scale, offset, landmarks] = ["heatmap", "scale", "offset", "landmarks"].map((name) => outputs[name].data as Float32Array);
  const [rows, cols] = outputs.heatmap.shape.slice(2);
  const cells = rows * cols;
  const faces: Face[] = [];
  for (let at = 0; at < cells; at++) {
    if (!(heat[at] > threshold)) continue;
    const [row, col] = [Math.floor(at / cols), at % cols];
    const [height, width] = [stride * Math.exp(scale[at]), stride * Math.exp(scale[cells + at])];
    const y0 = (row + offset[at] + 0.5) * stride - height / 2;
    const x0 = (col + offset[cells + at] + 0.5) * stride - width / 2;
    const points = [0, 1, 2, 3, 4].map(
      (i) => [landmarks[(2 * i + 1) * cells + at] * width + x0, landmarks[2 * i * cells + at] * height + y0] as const,
    );
    faces.push({ box: [x0, y0, x0 + width, y0 + height], points, score: heat[at] });
  }
  return faces;
}

/** Surest first, without those that overlap a surer one. */
function suppressed(faces: readonly Face[], limit: number): Face[] {
  const kept: Face[] = [];
  for (const face of [...faces].sort((one, other) => other.score - one.score)) {
    if (kept.every((other) => overlap(face, other) < limit)) kept.push(face);
  }
  return kept;
}
