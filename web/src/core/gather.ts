import type { Feeds } from "../types.ts";
import { RecipeError } from "./errors.ts";
import type { Arrays } from "./tensors.ts";

/** Feeds of an engine: `inputs` is engine input to array name; raises `RecipeError` for an array that is not there. */
export function gather(inputs: Readonly<Record<string, string>>, arrays: Arrays, where: string): Feeds {
  return Object.fromEntries(Object.entries(inputs).map(([name, array]) => {
    if (!Object.hasOwn(arrays, array)) {
      throw new RecipeError(`${where}: input '${name}' needs the array '${array}'; there are: ${Object.keys(arrays).sort().join(", ")}`);
    }
    return [name, arrays[array]];
  }));
}
