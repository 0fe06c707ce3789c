/** A stand-in for the SDK in tests of the page: no engines; what it finds follows from the photo's first pixel. */

import { BundleError, PhotoError } from "../src/types.ts";
import type { FaceResult, Options, ProtectResult, Status, Verdict } from "../src/types.ts";
import type { OpenEngine } from "../page/engine-shape.ts";

const STATUS: Record<number, Status> = { 0: "protected", 1: "still_matched", 2: "covered", 3: "no_face" };
const STEPS = 20;

/** Red of the first pixel: 40 times the status above; green: how long a step lasts, in ms; blue above 128: two faces. */
export const openEngine: OpenEngine = async (bundle, onProgress) => {
  onProgress({ stage: "load", done: 1, total: 2 });
  const response = await fetch(`${bundle}recipe.json`);
  if (!response.ok) throw new BundleError(`recipe.json is not there (${response.status})`, "Pack the bundle again.");
  onProgress({ stage: "load", done: 2, total: 2 });
  return { opened: { method: "stand-in", device: "nothing" }, protect };
};

async function protect(photo: Uint8Array, options: Options): Promise<ProtectResult> {
  const canvas = await decoded(photo);
  const context = canvas.getContext("2d")!;
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  const status = STATUS[Math.round(red / 40)] ?? "protected";
  for (let done = 0; done < STEPS; done++) {
    options.onProgress?.({ stage: "search", done, total: STEPS });
    await new Promise((resolve) => setTimeout(resolve, green));
    options.signal?.throwIfAborted();
  }
  context.fillStyle = "#888";
  context.fillRect(canvas.width / 4, canvas.height / 4, canvas.width / 2, canvas.height / 2);
  const image = await canvas.convertToBlob({ type: "image/png" }); // even where it may not be offered: the page has to see to that
  return {
    status, image, pixels: null, faces: status === "no_face" ? [] : facesOf(status, canvas, blue > 128), container: "png",
    size: [canvas.width, canvas.height], method: "stand-in", goal: "dodge", strength: options.strength ?? "medium", seed: options.seed ?? 0,
    device: "nothing", timings: { search: 1.25 }, version: "0", notes: [],
  };
}

async function decoded(photo: Uint8Array): Promise<OffscreenCanvas> {
  const bitmap = await createImageBitmap(new Blob([photo as BlobPart])).catch(() => {
    throw new PhotoError("This file is no photo that can be read.", "Choose a JPEG, PNG or WebP.");
  });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d")!.drawImage(bitmap, 0, 0);
  return canvas;
}

function facesOf(status: Status, { width, height }: OffscreenCanvas, two: boolean): FaceResult[] {
  const box = [width / 4, height / 4, width * 0.75, height * 0.75] as const;
  const made = status === "no_face" ? "protected" : status;
  const face = { points: [], score: 0.9, attempts: 1, search_passed: true, steps: STEPS, psnr: 40 };
  const first: FaceResult = { ...face, index: 0, box, status: made, verdicts: verdictsOf(made === "still_matched") };
  return two ? [first, { ...first, index: 1, status: "protected", verdicts: verdictsOf(false) }] : [first];
}

function verdictsOf(matched: boolean): Verdict[] {
  const one = { threshold: 0.36, before: 0.97 };
  return [
    { ...one, recogniser: "student-conv", similarity: 0.12, matched: false, took_part: true },
    { ...one, recogniser: "student-attention", similarity: matched ? 0.5 : -0.08, matched, took_part: false },
  ];
}
