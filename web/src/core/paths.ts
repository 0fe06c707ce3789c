import { BundleError } from "../types.ts";

/** The path if it is relative, forward-slashed and free of `..` (section 2.1); raises `BundleError` otherwise. */
export function checkPath(path: unknown, where: string): string {
  const good = typeof path === "string" && path !== "" && !/[\\\0]/.test(path) && !/^(\/|[A-Za-z]:)/.test(path);
  if (!good || path.split("/").some((part) => part === ".." || part === "." || part === "")) {
    throw new BundleError(`${where}: the path ${JSON.stringify(path)} has to be relative and stay inside its folder`, "Pack the method again");
  }
  return path;
}

/** The name of an engine (section 2.1), which can never be a path; raises `BundleError` for another. */
export function checkName(name: unknown, where: string): string {
  if (typeof name !== "string" || !/^[A-Za-z0-9_-][A-Za-z0-9_.-]*$/.test(name)) {
    throw new BundleError(`${where}: an engine's name has letters, digits, '-', '_' and '.', found ${JSON.stringify(name)}`);
  }
  return name;
}
