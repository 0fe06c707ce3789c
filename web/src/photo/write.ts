/** Pixels back into the container that they came from (SPEC 9). */
import { writeExif } from "./exif.ts";
import { writeJpeg } from "./jpeg/file.ts";
import type { Photo } from "./photo.ts";
import { writePng } from "./png-write.ts";
import type { Raster } from "./raster.ts";
import { stored } from "./turns.ts";
import { writeWebp } from "./webp.ts";

/**
 * The bytes of `photo` with these upright pixels, turned back to the stored orientation, whose tag is kept. JPEG is 4:4:4, PNG exact,
 * WebP lossless where the original was. `quality`: 1 to 100. `mark`: the line that goes into EXIF, none for null.
 */
export async function writePhoto(photo: Photo, raster: Raster, quality: number, mark: string | null): Promise<Uint8Array> {
  const { container, grey, alpha, icc, chunks, density, lossless } = photo;
  const exif = writeExif(photo.exif, mark);
  const turned = stored(raster, photo.exif.orientation);
  if (container === "jpeg") return writeJpeg(turned, quality, grey, icc, exif, density);
  if (container === "png") return writePng(turned, { grey, alpha, icc, exif, chunks });
  return writeWebp(turned, quality, lossless, alpha, icc, exif);
}
