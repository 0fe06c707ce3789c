/** Synthetic faces of a bundle, and which of them a search leads to (SPEC 8.3). */
import type { Bundle } from "../core/bundle.ts";
import { cosine } from "../core/embed.ts";
import { BundleError } from "../types.ts";
import { alignedCrop, CANONICAL } from "./align.ts";
import { readPhoto } from "./read.ts";
import { embedAll, type Embeddings, type Recogniser } from "./recognisers.ts";

export interface Decoy {
  readonly name: string;
  readonly embeddings: Embeddings;
}

/** The decoys of a bundle, as these recognisers see them. */
export async function readDecoys(bundle: Bundle, searched: readonly Recogniser[], signal?: AbortSignal): Promise<Decoy[]> {
  const index = await bundle.json("decoys/decoys.json", signal);
  const counts = Object.values(index.recognisers ?? {}).map((one) => (one as { decoys?: unknown[] }).decoys?.length ?? 0);
  const count = Math.max(0, ...counts);
  if (count === 0) throw new BundleError("decoys/decoys.json names no decoys", "Pack the method again, or use the goal dodge");
  const found: Decoy[] = [];
  for (let number = 1; number <= count; number++) {
    const { raster } = await readPhoto(await bundle.read(`decoys/${number}.png`, signal));
    found.push({ name: String(number), embeddings: await embedAll(bundle, searched, alignedCrop(raster, CANONICAL), signal) });
  }
  return found;
}

/** The decoy that is least like the face: on the way to one that resembles it, a face stays like itself for long. */
export function leastAlike(decoys: readonly Decoy[], own: Embeddings, searched: readonly Recogniser[]): Decoy {
  const likeness = ({ embeddings }: Decoy) =>
    Math.max(...searched.map(({ name, threshold, spread }) => (cosine(own[name], embeddings[name]) - threshold) / spread));
  const all = decoys.map(likeness);
  return decoys[all.indexOf(Math.min(...all))];
}
