/** A decoded photo: pixels as they stand upright, and what of its file is kept (SPEC 9). */
import type { Exif } from "./exif.ts";
import type { Raster } from "./raster.ts";

export type Container = "jpeg" | "png" | "webp";

export interface Photo {
  readonly container: Container;
  /** Upright. 16 bits only of a PNG that has them. Alpha is the file's own, or opaque. */
  readonly raster: Raster;
  /** The file has one colour channel. */
  readonly grey: boolean;
  readonly alpha: boolean;
  /** The container holds exact pixels. */
  readonly lossless: boolean;
  readonly exif: Exif;
  readonly icc: Uint8Array | null;
  /** Of a PNG: chunks that describe its colours, and its resolution, as they are. */
  readonly chunks: readonly (readonly [string, Uint8Array])[];
  /** Of a JPEG: unit and density of its JFIF header. */
  readonly density: Uint8Array | null;
  /** What could not be kept. */
  readonly notes: readonly string[];
}

export const MIME: Readonly<Record<Container, string>> = { jpeg: "image/jpeg", png: "image/png", webp: "image/webp" };
