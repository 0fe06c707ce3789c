/** Pictures for showing: before, after, and what changed. Scaled down here in the worker, so that the page only puts them up. */

import type { Face } from "../src/types.ts";
import type { Findings, Pictures, Sight } from "./messages.ts";

/** Longest side of a picture, in pixels: sharp on a phone's and on a wide screen, and small enough to hold several. */
const LONGEST = 1280;
/** Factor of the difference, as on the sheets that `faceprotect-sdk protect --sheet` draws. */
const AMPLIFY = 10;
const GREY = 128;

/** A rectangle of the upright photo, in pixels. */
interface Window {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The three pictures of a sight. Raises what decoding raises. */
export async function picturesOf(sight: Sight): Promise<Pictures> {
  const whole = await createImageBitmap(sight.original);
  const window = sight.face === null ? { x: 0, y: 0, width: whole.width, height: whole.height } : around(sight.faces[sight.face], whole);
  const before = scaled(whole, window);
  whole.close();
  if (sight.protected === null) {
    if (sight.face === null) frame(before, window, sight.faces);
    return { before: before.canvas.transferToImageBitmap(), after: null, difference: null };
  }
  const changed = await createImageBitmap(sight.protected);
  const after = scaled(changed, window);
  changed.close();
  const difference = differenceOf(before, after);
  return { before: before.canvas.transferToImageBitmap(), after: after.canvas.transferToImageBitmap(), difference };
}

/** A face's box with half of its longer side around it, cut at the photo's rim. */
function around(face: Face, photo: { width: number; height: number }): Window {
  const [x0, y0, x1, y1] = face.box;
  const margin = Math.max(x1 - x0, y1 - y0) / 2;
  const x = Math.max(0, Math.floor(x0 - margin));
  const y = Math.max(0, Math.floor(y0 - margin));
  return { x, y, width: Math.min(photo.width, Math.ceil(x1 + margin)) - x, height: Math.min(photo.height, Math.ceil(y1 + margin)) - y };
}

function scaled(photo: ImageBitmap, { x, y, width, height }: Window): OffscreenCanvasRenderingContext2D {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("this browser gives no canvas in a worker");
  context.imageSmoothingQuality = "high";
  context.drawImage(photo, x, y, width, height, 0, 0, canvas.width, canvas.height);
  return context;
}

/** Grey where nothing changed, and ten times the change elsewhere. */
function differenceOf(before: OffscreenCanvasRenderingContext2D, after: OffscreenCanvasRenderingContext2D): ImageBitmap {
  const { width, height } = before.canvas;
  const old = before.getImageData(0, 0, width, height).data;
  const image = after.getImageData(0, 0, width, height);
  const pixels = image.data;
  for (let i = 0; i < pixels.length; i += 4) {
    for (let c = i; c < i + 3; c++) pixels[c] = GREY + AMPLIFY * (pixels[c] - old[c]); // the array clips to 0 .. 255
    pixels[i + 3] = 255;
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  return canvas.transferToImageBitmap();
}

/** Frames with the faces' numbers, so that "face 2" means something. */
function frame(context: OffscreenCanvasRenderingContext2D, window: Window, faces: Findings["faces"]): void {
  const scale = context.canvas.width / window.width;
  const line = Math.max(2, context.canvas.width / 320);
  context.font = `bold ${Math.round(line * 9)}px sans-serif`;
  for (const face of faces) {
    const [x0, y0, x1, y1] = face.box.map((value) => value * scale);
    for (const [colour, width] of [["#000", line * 2], ["#fff", line]] as const) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    label(context, String(face.index + 1), x0, y0, line);
  }
}

function label(context: OffscreenCanvasRenderingContext2D, text: string, x: number, y: number, line: number): void {
  const side = line * 12;
  context.fillStyle = "#000";
  context.fillRect(x, y, side, side);
  context.fillStyle = "#fff";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, x + side / 2, y + side / 2);
}
