/** One photo through a protection: search, paste, write, score the bytes, and search again for as long as that may help (SPEC 8, 9). */
import type { Bundle } from "./core/bundle.ts";
import type { StrengthPlan } from "./core/method.ts";
import { breathe } from "./core/pause.ts";
import { faceSeed } from "./core/philox.ts";
import type { Float } from "./core/tensors.ts";
import { CROP } from "./photo/align.ts";
import { readDecoys } from "./photo/decoys.ts";
import type { Detector } from "./photo/detector.ts";
import { findFaces } from "./photo/faces.ts";
import { isMark, markOf } from "./photo/mark.ts";
import { faceMask, type Region } from "./photo/mask.ts";
import { pasteInto } from "./photo/paste.ts";
import { MIME, type Photo } from "./photo/photo.ts";
import { eightBits, type Raster } from "./photo/raster.ts";
import { readPhoto } from "./photo/read.ts";
import { dependentOf, panelOf, searchedOf } from "./photo/recognisers.ts";
import { resultOf, score, search, startSession, wantsSearch, type FaceSession, type Setting } from "./photo/session.ts";
import { undoingShare } from "./photo/undoing.ts";
import { writePhoto } from "./photo/write.ts";
import { AlreadyProtected, UsageError, type Face, type FaceResult, type Options, type ProtectResult, type Status, type Strength } from "./types.ts";
import { VERSION } from "./version.ts";

const [ATTEMPTS, QUALITY] = [3, 95];

/** A call's settings with every default filled in. */
interface Call extends Omit<Options, "strength"> {
  readonly strength: Strength;
  readonly plan: StrengthPlan;
  readonly goal: "dodge" | "decoy";
  readonly seed: number;
  readonly quality: number;
  readonly searches: number;
  readonly timings: Record<string, number>;
}

/** The result of one photo's bytes; raises `PhotoError`, `AlreadyProtected`, `UsageError`, what engines raise, and the signal's reason. */
export async function protectPhoto(bundle: Bundle, data: Uint8Array, options: Options = {}): Promise<ProtectResult> {
  const call = callOf(bundle, options);
  const photo = await timed(call, "decode", async () => {
    await report(call, { stage: "decode", done: 0, total: 1 });
    return readPhoto(data);
  });
  if (isMark(photo.exif.software) && !call.again) {
    throw new AlreadyProtected(
      `the photo has been protected before (${photo.exif.software}), and protecting it again may lead back to the person`,
    );
  }
  const chosen = await timed(call, "detect", async () => {
    await report(call, { stage: "faces", done: 0, total: 1 });
    const found = await findFaces(await detectorOf(bundle, call.signal), photo.raster);
    return call.faces === "largest" ? found.slice(0, 1) : found;
  });
  await report(call, { stage: "faces", done: chosen.length, total: chosen.length, faces: chosen.length });
  if (chosen.length === 0) return resultWith(bundle, call, photo, [], null, null);
  return protectFaces(bundle, call, photo, chosen);
}

async function protectFaces(bundle: Bundle, call: Call, photo: Photo, chosen: readonly Face[]): Promise<ProtectResult> {
  const setting = await settingOf(bundle, call);
  const sessions = await timed(call, "embed", () => startAll(setting, call, photo, chosen));
  let [file, written]: [Uint8Array, Raster] = [new Uint8Array(0), photo.raster];
  for (let attempt = 0; attempt < call.searches; attempt++) {
    await searchAll(setting, call, sessions, attempt);
    written = photo.raster; // that of the attempt before is let go
    file = await timed(call, "encode", () => writeFaces(setting, call, photo, sessions));
    written = await timed(call, "score", () => scoreAll(setting, call, sessions, file));
    if (!sessions.some((session) => wantsSearch(session, setting))) break;
  }
  call.signal?.throwIfAborted();
  return resultWith(bundle, call, photo, sessions.map((session) => resultOf(session, written)), file, written);
}

/** The detector of a bundle. It lets messages in before every run, and stops there. */
export async function detectorOf(bundle: Bundle, signal?: AbortSignal): Promise<Detector> {
  const { detector } = bundle.facts;
  const engine = await bundle.engine(detector.engine, signal);
  return { session: engine, facts: detector, check: () => breathe(signal) };
}

async function settingOf(bundle: Bundle, call: Call): Promise<Setting> {
  const { signal } = call;
  const searched = searchedOf(bundle);
  const mask: Float = { data: faceMask(bundle.recipe.method.region as Region), shape: [1, 1, CROP, CROP] };
  return {
    bundle, searched, mask, signal,
    detector: await detectorOf(bundle, signal),
    panel: panelOf(bundle),
    dependent: dependentOf(bundle),
    decoys: call.goal === "decoy" ? await readDecoys(bundle, searched, signal) : null,
    evenCovered: call.evenCovered ?? false,
  };
}

/** The recipe's numbers for what was asked; raises `UsageError` for what it has not, or what is out of range. */
function callOf(bundle: Bundle, options: Options): Call {
  const { method, name, stages } = bundle.recipe;
  const { strength = "medium", goal = "dodge", seed = 0, quality = QUALITY, attempts = ATTEMPTS } = options;
  const plan = method.strengths[strength];
  const known = Object.keys(method.strengths).join(", ");
  if (plan === undefined) throw new UsageError(`'${name}' has no strength '${strength}'; choose one of: ${known || "none"}`);
  if (goal !== "dodge" && goal !== "decoy") throw new UsageError(`there is no goal '${goal}'; choose dodge or decoy`);
  whole("seed", seed, 0, Number.MAX_SAFE_INTEGER);
  whole("quality", quality, 1, 100);
  whole("attempts", attempts, 1, 1000);
  const searches = stages.some(({ kind }) => kind === "descend");
  const most = method.attempts.length || (searches ? attempts : 1);
  return { ...options, strength, plan, goal, seed, quality, searches: Math.min(attempts, most), timings: {} };
}

function whole(name: string, value: number, low: number, high: number): void {
  if (!Number.isInteger(value) || value < low || value > high) throw new UsageError(`${name} is a whole number from ${low} to ${high}, got ${value}`);
}

/** Looks at every face of the original, and at what writing alone does to it. */
async function startAll(setting: Setting, call: Call, photo: Photo, chosen: readonly Face[]): Promise<FaceSession[]> {
  const written = photo.lossless ? null : (await readPhoto(await writePhoto(photo, photo.raster, call.quality, null))).raster;
  const sessions: FaceSession[] = [];
  for (const [index, face] of chosen.entries()) {
    await breathe(call.signal);
    sessions.push(await startSession(setting, index, face, photo.raster, written, call.plan.margin));
  }
  return sessions;
}

/** Searches once for every face that wants it. */
async function searchAll(setting: Setting, call: Call, sessions: readonly FaceSession[], attempt: number): Promise<void> {
  const { undoes } = setting.bundle.recipe.method;
  for (const session of sessions.filter((one) => wantsSearch(one, setting))) {
    const where = { stage: "search", face: session.index, faces: sessions.length, attempt } as const;
    const seed = faceSeed(call.seed, session.index, attempt);
    await report(call, { ...where, done: 0, total: 1 });
    await timed(call, "search", () =>
      search(session, setting, call.plan, seed, (done, total) => call.onProgress?.({ ...where, done, total })),
    );
    const share = call.again ? -Infinity : undoingShare(session.crop.data, session.found!.difference, setting.mask.data);
    if (share > undoes) {
      throw new AlreadyProtected(
        `face ${session.index + 1} looks as if it had been protected before: the change that was found takes away a pattern that stands ` +
          "in it, and may lead back to the person",
      );
    }
  }
}

/** The file with every face's change, and with our mark. */
async function writeFaces(setting: Setting, call: Call, photo: Photo, sessions: readonly FaceSession[]): Promise<Uint8Array> {
  await report(call, { stage: "write", done: 0, total: 1 });
  const changed: Raster = { ...photo.raster, data: photo.raster.data.slice() };
  for (const { found, covered, face } of sessions) {
    if (found !== null && !covered) pasteInto(changed, found.difference, setting.mask.data, face.points, photo.grey);
  }
  return writePhoto(photo, changed, call.quality, await markOf(changed, setting.bundle.recipe.name));
}

/** Verdicts on the file as it is decoded again. */
async function scoreAll(setting: Setting, call: Call, sessions: readonly FaceSession[], file: Uint8Array): Promise<Raster> {
  const { raster } = await readPhoto(file);
  for (const session of sessions) {
    await report(call, { stage: "judge", done: session.index, total: sessions.length, face: session.index, faces: sessions.length });
    await score(session, setting, raster);
  }
  return raster;
}

function resultWith(
  bundle: Bundle, call: Call, photo: Photo, faces: readonly FaceResult[], file: Uint8Array | null, written: Raster | null,
): ProtectResult {
  const status = statusOf(faces);
  const given = status === "protected" && file !== null && written !== null;
  return {
    status, faces,
    image: given ? new Blob([file as BlobPart], { type: MIME[photo.container] }) : null,
    pixels: given ? eightBits(written) : null,
    container: photo.container,
    size: [photo.raster.width, photo.raster.height],
    method: bundle.recipe.name, goal: call.goal, strength: call.strength, seed: call.seed, device: bundle.device,
    timings: call.timings, version: VERSION, notes: photo.notes.concat(photo.exif.notes),
  };
}

function statusOf(faces: readonly FaceResult[]): Status {
  if (faces.length === 0) return "no_face";
  if (faces.every(({ status }) => status === "protected")) return "protected";
  return faces.some(({ status }) => status === "still_matched") ? "still_matched" : "covered";
}

/** Tells the page, and lets it stop the work. */
async function report(call: Call, progress: Parameters<NonNullable<Options["onProgress"]>>[0]): Promise<void> {
  call.onProgress?.(progress);
  await breathe(call.signal);
}

/** Adds the seconds that it takes to those of a stage. */
async function timed<Value>(call: Call, stage: string, work: () => Promise<Value>): Promise<Value> {
  const started = performance.now();
  try {
    return await work();
  } finally {
    call.timings[stage] = (call.timings[stage] ?? 0) + (performance.now() - started) / 1000;
  }
}
