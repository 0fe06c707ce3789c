import { BundleError } from "../types.ts";
import { checkName, checkPath } from "./paths.ts";

/** A file of an engine's folder (section 2.1). `gzip`: it lies compressed, under `path` with ".gz" added (section 2.1). */
export interface FileEntry {
  readonly path: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly gzip?: boolean;
}

/** A tensor of a graph; `null` is a size that is free at run time. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly (number | null)[];
}

/** What the free fields of a manifest hold, as far as they are read at run time (section 2.4). */
export interface Metadata {
  readonly thresholds?: Readonly<Record<string, number>>;
  readonly impostor_mean?: number;
  readonly surrogates?: readonly string[];
  readonly goals?: readonly string[];
  readonly trained_goals?: readonly string[];
  readonly looks?: readonly string[];
  readonly learnt_from?: readonly string[];
  readonly [other: string]: unknown;
}

/** Golden values (section 2.3), as the manifest has them. */
export interface Golden {
  readonly inputs?: Readonly<Record<string, GoldenInput>>;
  readonly outputs?: Readonly<Record<string, GoldenOutput>>;
  readonly tolerance?: number;
}

export interface GoldenInput {
  readonly file?: string;
  readonly shape?: readonly number[];
  readonly wave?: { readonly step: number; readonly low: number; readonly high: number };
  readonly eye?: number;
}

export interface GoldenOutput {
  readonly file?: string;
  readonly shape?: readonly number[];
  readonly norm?: number;
  readonly probes?: readonly number[];
}

/** One engine, described (section 2.1). */
export interface Manifest {
  readonly name: string;
  readonly role: string;
  readonly files: Readonly<Record<string, FileEntry>>;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly source: Readonly<Record<string, unknown>>;
  readonly golden: Golden;
  readonly metadata: Metadata;
}

/** The manifest in a document of JSON; raises `BundleError` that says what is wrong with it. */
export function parseManifest(document: any, folder: string): Manifest {
  const where = `${folder}/manifest.json`;
  if (document?.schema !== 1) {
    throw new BundleError(`${where}: schema is ${JSON.stringify(document?.schema)}, this version reads 1`, "Take a newer version of this package");
  }
  if (checkName(document.name, where) !== folder) {
    throw new BundleError(`${where} names the engine '${document.name}', but lies in '${folder}'`, "Pack the method again");
  }
  if (document.metadata?.chain) throw new BundleError(`${where}: '${folder}' is a chain of engines, which this version cannot run`, "Use another method");
  if (document.weights?.length) {
    throw new BundleError(`${where} asks for weights from elsewhere; a bundle has them beside the graph`, "Pack the method again: faceprotect-sdk pack");
  }
  const entries = Object.entries(document.files ?? {}).map(([key, entry]) => [key, fileEntry(entry, `${where}, ${key}`)]);
  const files: Manifest["files"] = Object.fromEntries(entries);
  if (!files.graph) throw new BundleError(`${where} lists no file 'graph'`, "Pack the method again");
  return {
    name: document.name,
    role: String(document.role),
    files,
    inputs: specs(document.inputs, where),
    outputs: specs(document.outputs, where),
    source: document.source ?? {},
    golden: document.golden ?? {},
    metadata: document.metadata ?? {},
  };
}

function fileEntry(entry: any, where: string): FileEntry {
  const path = checkPath(entry?.path, where);
  if (!/^[0-9a-f]{64}$/.test(entry.sha256) || !Number.isSafeInteger(entry.bytes) || entry.bytes < 0) {
    throw new BundleError(`${where}: 'sha256' has to be 64 lower-case hexadecimal digits, and 'bytes' a size`, "Pack the method again");
  }
  return { path, sha256: entry.sha256, bytes: entry.bytes, gzip: entry.gzip === true };
}

function specs(list: any, where: string): TensorSpec[] {
  if (!Array.isArray(list)) throw new BundleError(`${where}: 'inputs' and 'outputs' have to be lists`);
  return list.map((item) => {
    if (typeof item?.name !== "string" || !Array.isArray(item.shape)) throw new BundleError(`${where}: a tensor has no name or no shape`);
    return { name: item.name, dtype: String(item.dtype), shape: item.shape };
  });
}
