import { FaceprotectError } from "../types.ts";

/** A recipe that cannot be run: a field that is wrong, an array that is missing, numbers that are no longer finite. */
export class RecipeError extends FaceprotectError {
  constructor(message: string, hint = "") {
    super("recipe", message, hint);
    this.name = "RecipeError";
  }
}
