/** File names of downloads. */

import type { ProtectResult } from "../src/types.ts";

const ENDINGS: Record<ProtectResult["container"], readonly string[]> = { jpeg: ["jpg", "jpeg", "jpe", "jfif"], png: ["png"], webp: ["webp"] };

/** NAME_protected.EXT: the photo's own ending where it fits what the file holds, else the usual one. */
export function protectedName(name: string, container: ProtectResult["container"]): string {
  const dot = name.lastIndexOf(".");
  const stem = dot > 0 ? name.slice(0, dot) : name;
  const ending = dot > 0 ? name.slice(dot + 1) : "";
  const kept = ENDINGS[container].includes(ending.toLowerCase()) ? ending : ENDINGS[container][0];
  return `${stem || "photo"}_protected.${kept}`;
}
