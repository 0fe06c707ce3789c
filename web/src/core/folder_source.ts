import { readFile, realpath } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { BundleError, type Source } from "../types.ts";
import { checkPath } from "./paths.ts";

/** The files of a folder on disk, for Node. Links that lead out of it are refused (section 2.1). */
export function folderSource(folder: string): Source {
  return {
    async read(path, signal, onBytes) {
      checkPath(path, folder);
      try {
        const inside = relative(await realpath(folder), await realpath(join(folder, path)));
        if (inside.split(sep)[0] === "..") throw new BundleError(`${path} in ${folder} leads out of the folder`, "Put the file in the place of the link");
        const bytes = await readFile(join(folder, path), { signal });
        onBytes?.(bytes.byteLength);
        return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof BundleError) throw error;
        throw new BundleError(`${path} in ${folder} cannot be read: ${error instanceof Error ? error.message : error}`, "Is this the folder of a bundle?");
      }
    },
  };
}
