/** Shapes that the parts of the package agree on. Section numbers are those of SPEC.md. */

/** A dense array in C order. Images are NCHW with N = 1, RGB, 0 to 1. */
export interface Tensor {
  readonly data: Float32Array | BigInt64Array | Int32Array;
  readonly shape: readonly number[];
}

export type Feeds = Readonly<Record<string, Tensor>>;

/** One opened ONNX graph. */
export interface Session {
  run(feeds: Feeds, outputs?: readonly string[]): Promise<Record<string, Tensor>>;
  close(): Promise<void>;
}

/** What opens graphs: onnxruntime-web in browsers, onnxruntime-node in Node. */
export interface Runtime {
  /** Opens a graph whose external data has the given paths. `device` is what will really run it. */
  open(graph: Uint8Array, external: readonly { path: string; data: Uint8Array }[]): Promise<Session>;
  readonly device: string;
}

/** Where the files of a bundle come from: a server's folder in browsers, a folder in Node. */
export interface Source {
  /** Bytes of a file by its path in the bundle; `onBytes` says how many are there. Raises `BundleError` where there is none. */
  read(path: string, signal?: AbortSignal, onBytes?: (done: number) => void): Promise<Uint8Array>;
}

/** A photo as it stands upright; interleaved RGBA, 8 bits, the file's own numbers. */
export interface Pixels {
  readonly data: Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
}

/** A face of a photo (section 6); pixels of the upright photo, the centre of the top left pixel is (0, 0). */
export interface Face {
  readonly box: readonly [number, number, number, number];
  /** Left eye, right eye, nose, left and right mouth corner, as seen in the picture. */
  readonly points: readonly (readonly [number, number])[];
  readonly score: number;
}

export type Strength = "low" | "medium" | "high";
export type Goal = "dodge" | "decoy";
export type Status = "protected" | "still_matched" | "covered" | "no_face";

export interface Options {
  strength?: Strength;
  goal?: Goal;
  /** Of every draw; the same seed, photo and bundle give the same protected photo. */
  seed?: number;
  /** Searches a face, each going further, while the written bytes are still matched. */
  attempts?: number;
  /** Of JPEG and lossy WebP, 1 to 100. */
  quality?: number;
  /** Which faces (default: all). */
  faces?: "all" | "largest";
  /** Also take a photo that has been protected before: it may lead back to the person. */
  again?: boolean;
  /** Also change faces before which something is held or worn, which is painted over then. */
  evenCovered?: boolean;
  /** Stops the work; the promise is rejected with the signal's reason, and nothing of the photo is kept. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
}

/** How far a call has got. `done` of `total` are bytes, faces or steps of this stage. */
export interface Progress {
  readonly stage: "load" | "decode" | "faces" | "search" | "write" | "judge";
  readonly done: number;
  readonly total: number;
  readonly face?: number;
  readonly faces?: number;
  readonly attempt?: number;
}

/** One recogniser's opinion on the written bytes (section 8); names are those of the Python SDK's JSON. */
export interface Verdict {
  readonly recogniser: string;
  readonly similarity: number;
  readonly threshold: number;
  readonly matched: boolean;
  /** The search descended on it, or a network in the method was trained against it: its verdict proves little. */
  readonly took_part: boolean;
  /** The same for the original, written with the same settings. */
  readonly before: number | null;
}

export interface FaceResult {
  readonly index: number;
  readonly box: Face["box"];
  readonly points: Face["points"];
  readonly score: number;
  readonly status: "protected" | "still_matched" | "covered";
  readonly verdicts: readonly Verdict[];
  readonly attempts: number;
  readonly search_passed: boolean | null;
  readonly steps: number;
  readonly psnr: number;
}

/** What `protect` found; `image` is there only where `status` is "protected". */
export interface ProtectResult {
  readonly status: Status;
  readonly faces: readonly FaceResult[];
  readonly image: Blob | null;
  /** Of the protected photo where there is one, for showing; null otherwise. */
  readonly pixels: Pixels | null;
  readonly container: "jpeg" | "png" | "webp";
  readonly size: readonly [number, number];
  readonly method: string;
  readonly goal: Goal;
  readonly strength: string;
  readonly seed: number;
  readonly device: string;
  readonly timings: Readonly<Record<string, number>>;
  readonly version: string;
  readonly notes: readonly string[];
}

/** One face of an original against another photo; `verdicts[].before` is null. */
export interface FaceCheck {
  readonly index: number;
  readonly box: Face["box"];
  readonly verdicts: readonly Verdict[];
}

/** What `check` found. `independent`: how many recognisers took no part in the search; `identical`: of all pixels. */
export interface CheckResult {
  readonly status: "not_matched" | "still_matched" | "no_face";
  readonly faces: readonly FaceCheck[];
  readonly independent: number;
  readonly identical: boolean;
  readonly version: string;
  readonly notes: readonly string[];
}

/** `code` is for programs, the message for people: what, where, and what to do next. */
export class FaceprotectError extends Error {
  constructor(readonly code: string, message: string, readonly hint = "") {
    super(message);
    this.name = "FaceprotectError";
  }
}

/** A file of the bundle is missing, differs from its sha256, or asks for what this version does not know. */
export class BundleError extends FaceprotectError {
  constructor(message: string, hint = "") {
    super("bundle", message, hint);
    this.name = "BundleError";
  }
}

/** Bytes that are no photo of a kind that is read. */
export class PhotoError extends FaceprotectError {
  constructor(message: string, hint = "") {
    super("photo", message, hint);
    this.name = "PhotoError";
  }
}

/** The photo, or a face in it, has been protected before. */
export class AlreadyProtected extends FaceprotectError {
  constructor(message: string, hint = "Protect the original, or insist: again: true.") {
    super("already_protected", message, hint);
    this.name = "AlreadyProtected";
  }
}

/** The call cannot mean anything. */
export class UsageError extends FaceprotectError {
  constructor(message: string, hint = "") {
    super("usage", message, hint);
    this.name = "UsageError";
  }
}
