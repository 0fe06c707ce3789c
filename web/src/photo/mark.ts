/** What says of a photo that it has been protected: a line in EXIF's tag ProcessingSoftware (SPEC 9). */
import { sha256 } from "../core/digest.ts";
import { VERSION } from "../version.ts";
import { topOf, type Raster } from "./raster.ts";

const LINE = /^faceprotect-sdk [\w.+-]{1,40} method=[\w-]{1,40} id=[0-9a-f]{16}$/;

/** Whether the line is one of ours, whichever version wrote it. */
export function isMark(line: string | null): line is string {
  return line !== null && LINE.test(line);
}

/** The line for upright pixels as a method has changed them. The id is of RGB, 16 bits as little endian. */
export async function markOf(raster: Raster, method: string): Promise<string> {
  const deep = topOf(raster) > 255;
  const count = raster.width * raster.height;
  const bytes = new Uint8Array(count * (deep ? 6 : 3));
  for (let i = 0, at = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) {
      const value = raster.data[4 * i + c];
      bytes[at++] = value & 255;
      if (deep) bytes[at++] = value >> 8;
    }
  }
  return `faceprotect-sdk ${VERSION} method=${method} id=${(await sha256(bytes)).slice(0, 16)}`;
}
