/** What the page says about a photo, in plain words. Nothing here promises more than was found. */

import type { FaceResult, Progress, Verdict } from "../src/types.ts";
import type { Findings } from "./messages.ts";

/** Names for people, of the recognisers that ship or can be fetched; others keep theirs. */
const NAMES: Record<string, string> = {
  "dlib-resnet": "dlib's network",
  "student-conv": "our convolutional network",
  "student-attention": "our network with attention",
  sface: "SFace",
};

export function recogniserName(name: string): string {
  return NAMES[name] ?? name;
}

export interface Heading {
  readonly title: string;
  readonly text: string;
  /** "good" only where every recogniser was asked and none matches. */
  readonly tone: "good" | "bad" | "neutral";
}

/** Headline of a finished photo. */
export function headingOf(findings: Findings): Heading {
  const { status, faces } = findings;
  if (status === "protected") return { title: "Protected", text: protectedText(faces), tone: "good" };
  if (status === "no_face") {
    return { title: "No face found", text: "Nothing was changed, and there is no file to download. Try a photo in which the face is larger or sharper.", tone: "neutral" };
  }
  const left = faces.filter((face) => face.status !== "protected");
  const which = faces.length === 1 ? "The face" : left.length === 1 ? `Face ${left[0].index + 1} of ${faces.length}` : `${listed(left.map((face) => face.index + 1))} of ${faces.length} faces`;
  const why =
    status === "covered"
      ? `${which} ${left.length === 1 ? "is" : "are"} covered: there is no skin around nose and mouth to change.`
      : `${which} ${left.length === 1 ? "is" : "are"} not protected: ${stillMatching(left)}.`;
  return { title: "Not protected", text: `${why} There is no file to download.`, tone: "bad" };
}

function protectedText(faces: readonly FaceResult[]): string {
  const asked = new Set(faces.flatMap((face) => face.verdicts.map((one) => one.recogniser))).size;
  const [whom, whoever] = faces.length === 1 ? ["the face", "you"] : [`any of the ${faces.length} faces`, "everybody"];
  return (
    `None of the ${count(asked, "recogniser")} on this page matches ${whom} any more. A recogniser that nobody tuned on may still match, ` +
    `and people still recognise ${whoever}. Look at the change before you use the photo.`
  );
}

function stillMatching(left: readonly FaceResult[]): string {
  const names = [...new Set(left.flatMap((face) => face.verdicts.filter((one) => one.matched).map((one) => recogniserName(one.recogniser))))];
  return names.length === 0 ? "no recogniser could be asked" : `${listed(names)} still ${names.length === 1 ? "matches" : "match"}`;
}

/** What may help after this result; empty where nothing does. */
export function adviceOf(findings: Findings): string {
  if (findings.status === "still_matched" && findings.strength !== "high") return "A higher strength may change more, and protect it.";
  if (findings.status === "still_matched") return "Another photo of the person may be easier. Small, turned and shaded faces are hard.";
  if (findings.status === "covered") return "Try a photo without the mask, hand or scarf.";
  return "";
}

/** One recogniser's opinion as a sentence. */
export function verdictText(one: Verdict): string {
  const verdict = one.matched ? "still takes it for the same person" : "does not take it for the same person any more";
  const before = one.before === null ? "" : `, and was ${figure(one.before)} before`;
  const part = one.took_part ? " The search used it, so this proves little." : " It took no part in the search.";
  return `${capital(recogniserName(one.recogniser))} ${verdict}. Likeness ${figure(one.similarity)}; it matches from ${figure(one.threshold)}${before}.${part}`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Two digits, with the sign that the minus has in print; a number that is none is said to be none. */
function figure(value: number): string {
  return Number.isFinite(value) ? value.toFixed(2).replace("-", "\u2212") : "not a number";
}

const STAGES: Record<Progress["stage"], string> = {
  load: "Loading the method",
  decode: "Reading the photo",
  faces: "Looking for faces",
  search: "Searching",
  write: "Writing the photo",
  judge: "Asking the recognisers",
};

/** What is going on, without numbers that change with every step: a screen reader reads each change. */
export function stageText(progress: Progress): string {
  const face = progress.face !== undefined && (progress.faces ?? 1) > 1 ? `, face ${progress.face + 1} of ${progress.faces}` : "";
  const again = (progress.attempt ?? 0) > 0 ? `, attempt ${(progress.attempt ?? 0) + 1}` : "";
  return `${STAGES[progress.stage]}${face}${again}`;
}

/** Share of this stage that is done, 0 to 1; null where it is unknown. */
export function share({ done, total }: Progress): number | null {
  return total > 0 ? Math.min(1, Math.max(0, done / total)) : null;
}

/** "1 face", "2 faces". */
export function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/** "a", "a and b", "a, b and c". */
export function listed(names: readonly (string | number)[]): string {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}
