/** The luma of a pixel (SPEC 1). */
import { rint } from "./affine.ts";
import type { Raster } from "./raster.ts";

/** In whole levels; exact where the three channels are equal. */
export function lumaRounded(data: Raster["data"], at: number): number {
  return rint(Math.fround(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]));
}
