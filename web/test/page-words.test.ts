/** Words and names of the page: nothing promises more than was found. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Findings } from "../page/messages.ts";
import { protectedName } from "../page/names.ts";
import { headingOf, listed, share, stageText, verdictText } from "../page/words.ts";
import type { FaceResult, Status, Verdict } from "../src/types.ts";

const VERDICT: Verdict = { recogniser: "sface", similarity: -0.126, threshold: 0.363, matched: false, took_part: true, before: 1 };

function face(index: number, status: FaceResult["status"], verdicts: readonly Verdict[] = [VERDICT]): FaceResult {
  return { index, box: [0, 0, 1, 1], points: [], score: 1, status, verdicts, attempts: 1, search_passed: true, steps: 1, psnr: 40 };
}

function findings(status: Status, faces: readonly FaceResult[]): Findings {
  const rest = { container: "jpeg", size: [1, 1], method: "auto", goal: "dodge", strength: "medium", seed: 0, device: "wasm", timings: {}, version: "", notes: [] } as const;
  return { status, faces, ...rest };
}

test("a download is named after its photo and its container", () => {
  assert.equal(protectedName("me.JPG", "jpeg"), "me_protected.JPG");
  assert.equal(protectedName("me.jpg", "png"), "me_protected.png");
  assert.equal(protectedName("a.b.webp", "webp"), "a.b_protected.webp");
  assert.equal(protectedName("photo", "jpeg"), "photo_protected.jpg");
  assert.equal(protectedName(".jpg", "jpeg"), ".jpg_protected.jpg");
  assert.equal(protectedName("", "png"), "photo_protected.png");
});

test("only a protected photo has a good tone, and says what may still match", () => {
  const good = headingOf(findings("protected", [face(0, "protected")]));
  assert.equal(good.tone, "good");
  assert.match(good.text, /may still match/);
  for (const status of ["still_matched", "covered", "no_face"] as const) {
    const heading = headingOf(findings(status, status === "no_face" ? [] : [face(0, status)]));
    assert.notEqual(heading.tone, "good");
    assert.match(heading.text, /no file to download/);
    assert.notEqual(heading.title, good.title);
  }
});

test("faces that are not protected are named by their numbers", () => {
  const matched = { ...VERDICT, matched: true, recogniser: "student-attention" };
  const { text } = headingOf(findings("still_matched", [face(0, "protected"), face(1, "still_matched", [VERDICT, matched]), face(2, "still_matched", [matched])]));
  assert.match(text, /2 and 3 of 3 faces are not protected: our network with attention still matches/);
});

test("a verdict says who took part, and shows a number that is none", () => {
  assert.match(verdictText(VERDICT), /^SFace does not take it for the same person any more\. Likeness \u22120\.13; it matches from 0\.36, and was 1\.00 before\..*proves little/);
  assert.match(verdictText({ ...VERDICT, similarity: NaN, matched: true, took_part: false, before: null }), /still takes.*not a number.*took no part/);
});

test("progress is told in words that change with the stage alone", () => {
  const progress = { stage: "search", total: 40, face: 1, faces: 2, attempt: 1 } as const;
  assert.equal(stageText({ ...progress, done: 1 }), stageText({ ...progress, done: 30 }));
  assert.equal(stageText({ ...progress, done: 1 }), "Searching, face 2 of 2, attempt 2");
  assert.equal(share({ stage: "load", done: 3, total: 0 }), null);
  assert.equal(share({ stage: "load", done: 3, total: 2 }), 1);
  assert.equal(listed(["a", "b", "c"]), "a, b and c");
});

test("the page promises nothing", async () => {
  const folder = join(import.meta.dirname, "..", "page");
  for (const name of ["index.html", "words.ts", "card.ts", "main.ts"]) {
    const text = await readFile(join(folder, name), "utf8");
    assert.doesNotMatch(text, /undetectable|invisible|100 ?%|guarantee|anonymous|untraceable|completely/i, name);
  }
});
