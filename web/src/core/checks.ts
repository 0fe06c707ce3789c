import { RecipeError } from "./errors.ts";

/** Checks of a recipe's JSON, each of which names the field that is wrong (section 3). */
export type Json = Readonly<Record<string, unknown>>;
export type Names = Readonly<Record<string, string>>;

/** The value with every "$name" in it replaced by that parameter. */
export function fill(value: unknown, parameters: Json): unknown {
  if (Array.isArray(value)) return value.map((part) => fill(part, parameters));
  if (typeof value === "object" && value !== null) return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, fill(part, parameters)]));
  if (typeof value !== "string" || !value.startsWith("$")) return value;
  if (!Object.hasOwn(parameters, value.slice(1))) throw new RecipeError(`recipe uses the parameter '${value}', which its "parameters" do not list`);
  return parameters[value.slice(1)];
}

/** Refuses fields that are not among `known`. */
export function only(document: Json, known: readonly string[], where: string): void {
  const other = Object.keys(document).find((key) => !known.includes(key));
  if (other !== undefined) throw new RecipeError(`${where}: unknown field '${other}'; known: ${known.join(", ")}`);
}

export function object(value: unknown, where: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(value, where, "an object");
  return value as Json;
}

export function list(value: unknown, where: string): readonly unknown[] {
  if (!Array.isArray(value) || !value.length) throw wrong(value, where, "a list that is not empty");
  return value;
}

export function text(value: unknown, where: string): string {
  if (typeof value !== "string" || !value) throw wrong(value, where, "a name");
  return value;
}

export function names(value: unknown, where: string): Names {
  return Object.fromEntries(Object.entries(object(value, where)).map(([key, name]) => [key, text(name, `${where}, ${key}`)]));
}

export function number(value: unknown, where: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw wrong(value, where, "a number");
  return value;
}

/** A number above 0 and at most 1. */
export function share(value: unknown, where: string): number {
  const found = number(value, where);
  if (!(found > 0 && found <= 1)) throw wrong(value, where, "a share above 0 and at most 1");
  return found;
}

export function pair(value: unknown, where: string): [number, number] {
  if (!Array.isArray(value) || value.length !== 2) throw wrong(value, where, "[low, high]");
  return [number(value[0], where), number(value[1], where)];
}

/** A whole number of at least 1. */
export function count(value: unknown, where: string): number {
  const found = number(value, where);
  if (!Number.isInteger(found) || found < 1) throw wrong(value, where, "a whole number of at least 1");
  return found;
}

/** `defaults` with the numbers and pairs that `document` has in their place; each of the kind that the default is of. */
export function settings<T extends object>(document: Json, defaults: T, where: string): T {
  const read = ([key, standard]: [string, unknown]) => {
    const value = document[key];
    if (value === undefined) return [key, standard];
    return [key, Array.isArray(standard) ? pair(value, `${where}, ${key}`) : number(value, `${where}, ${key}`)];
  };
  return Object.fromEntries(Object.entries(defaults).map(read)) as T;
}

function wrong(value: unknown, where: string, expected: string): RecipeError {
  return new RecipeError(`${where}: expected ${expected}, found ${JSON.stringify(value)}`);
}
