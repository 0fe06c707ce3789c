import { BundleError, type Feeds, type Session, type Tensor } from "../types.ts";
import { RecipeError } from "./errors.ts";
import type { Manifest, TensorSpec } from "./manifest.ts";

/** An engine that is open: a graph and its manifest. */
export interface Engine {
  readonly name: string;
  readonly manifest: Manifest;
  /** What runs it. */
  readonly device: string;
  /** All inputs are to be given; only `outputs` are computed (default: all). A gradient costs about half of the time. */
  run(feeds: Feeds, outputs?: readonly string[]): Promise<Record<string, Tensor>>;
  close(): Promise<void>;
}

/** The engine of a session, which checks what it is fed. */
export function engineOf(manifest: Manifest, session: Session, device: string): Engine {
  return {
    name: manifest.name,
    manifest,
    device,
    async run(feeds, outputs) {
      for (const spec of manifest.inputs) checkFeed(manifest.name, spec, feeds[spec.name]);
      // What the graph does not take is left out: a recipe names every array that some engine of its kind reads.
      const taken = Object.fromEntries(manifest.inputs.map(({ name }) => [name, feeds[name]]));
      return session.run(taken, outputs);
    },
    close: () => session.close(),
  };
}

/** The description of an input; raises `BundleError` where the engine has none of that name. */
export function inputOf(manifest: Manifest, name: string): TensorSpec {
  return named(manifest, "input", manifest.inputs, name);
}

/** The description of an output; raises `BundleError` where the engine has none of that name. */
export function outputOf(manifest: Manifest, name: string): TensorSpec {
  return named(manifest, "output", manifest.outputs, name);
}

/** The shape of an input whose sizes are all known. */
export function fixedShape(manifest: Manifest, name: string): number[] {
  return inputOf(manifest, name).shape.map((size) => {
    if (size === null) throw new BundleError(`engine '${manifest.name}': the input '${name}' has a size that is free, so no array can be made for it`);
    return size;
  });
}

function named(manifest: Manifest, kind: string, list: readonly TensorSpec[], name: string): TensorSpec {
  const found = list.find((spec) => spec.name === name);
  if (!found) throw new BundleError(`engine '${manifest.name}' has no ${kind} '${name}'; it has: ${list.map((spec) => spec.name).join(", ")}`);
  return found;
}

function checkFeed(engine: string, spec: TensorSpec, given: Tensor | undefined): void {
  if (!given) throw new RecipeError(`engine '${engine}' is not given its input '${spec.name}'`);
  const fits = given.shape.length === spec.shape.length && spec.shape.every((size, axis) => size === null || size === given.shape[axis]);
  if (!fits) throw new RecipeError(`engine '${engine}': the input '${spec.name}' has the shape [${given.shape}], expected [${spec.shape}]`);
}
