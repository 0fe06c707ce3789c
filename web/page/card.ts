/** One photo on the page: its progress, and what became of it. */

import type { Progress, Strength } from "../src/types.ts";
import { showPictures } from "./compare.ts";
import { find, make, setBar } from "./dom.ts";
import type { Look } from "./looks.ts";
import type { Findings, Said, Wishes } from "./messages.ts";
import { protectedName } from "./names.ts";
import { adviceOf, headingOf, recogniserName, share, stageText, verdictText } from "./words.ts";

/** What a card needs from the page around it. */
export interface Around {
  readonly look: Look;
  /** Says something to people who listen. */
  say(text: string): void;
  cancel(): void;
  /** Asks for the same photo again with more change. */
  stronger(strength: Strength): void;
  removed(): void;
}

export interface Card {
  readonly element: HTMLElement;
  onProgress(progress: Progress): void;
  onDone(findings: Findings, image: Blob | null): void;
  onFailed(error: Said): void;
  onCancelled(): void;
  focus(): void;
}

export function makeCard(name: string, photo: Blob, wishes: Wishes, around: Around): Card {
  const element = find<HTMLTemplateElement>("#card").content.firstElementChild!.cloneNode(true) as HTMLElement;
  const part = <T extends Element = HTMLElement>(selector: string) => find<T>(selector, element);
  const bar = part<HTMLProgressElement>("progress");
  let address = "";
  let stage = "";

  part(".name").textContent = name;
  bar.setAttribute("aria-label", `Progress of ${name}`);
  setText("Waiting", "neutral", "Waits for its turn.");
  part(".cancel").addEventListener("click", () => {
    stage = "Stopping";
    part(".stage").textContent = stage;
    around.cancel();
  });
  part(".remove").addEventListener("click", remove);

  function setText(badge: string, tone: string, text: string): void {
    part(".badge").textContent = badge;
    part(".badge").className = `badge ${tone}`;
    part(".stage").textContent = text;
  }

  function remove(): void {
    if (address) URL.revokeObjectURL(address);
    element.remove();
    around.removed();
  }

  /** Work is over: what belongs to it goes, and the outcome comes. */
  function finish(badge: string, tone: string, text: string, advice: string): void {
    const held = element.contains(document.activeElement);
    setText(badge, tone, "");
    part(".work").hidden = true;
    part(".cancel").hidden = true;
    part(".remove").hidden = false;
    part(".outcome").hidden = false;
    part(".text").textContent = text;
    part(".advice").textContent = advice;
    around.say(`${name}: ${badge}. ${text} ${advice}`.trim());
    if (held) part(".name").focus(); // the button that had the focus is gone
  }

  /** Only for a photo with the status "protected": nothing else gets a file. */
  function offer(image: Blob, findings: Findings): void {
    const link = part<HTMLAnchorElement>(".download");
    address = URL.createObjectURL(image);
    link.href = address;
    link.download = protectedName(name, findings.container);
    link.setAttribute("aria-label", `Download ${link.download}`);
    link.hidden = false;
  }

  function offerStronger(): void {
    const next: Strength = wishes.strength === "low" ? "medium" : "high";
    const button = part(".stronger");
    button.hidden = false;
    button.addEventListener("click", () => {
      remove();
      around.stronger(next);
    }, { once: true });
  }

  return {
    element,
    focus: () => part(".name").focus(),
    onProgress(progress) {
      const text = stageText(progress);
      if (stage === "Stopping") return;
      if (text !== stage) {
        stage = text;
        setText("Working", "neutral", text);
        around.say(`${name}: ${text}`);
      }
      setBar(bar, share(progress));
    },
    onDone(findings, image) {
      const { title, text, tone } = headingOf(findings);
      finish(title, tone, text, adviceOf(findings));
      if (findings.status === "protected" && image !== null) offer(image, findings);
      if (findings.status === "still_matched" && wishes.strength !== "high") offerStronger();
      part(".details").hidden = findings.faces.length === 0;
      part(".verdicts").replaceChildren(...reportOf(findings));
      part(".picture").hidden = false;
      showPictures(part(".picture"), around.look, { original: photo, protected: findings.status === "protected" ? image : null, faces: findings.faces });
    },
    onFailed: (error) => finish("Nothing was changed", "bad", error.message, error.hint),
    onCancelled: () => finish("Cancelled", "neutral", "Nothing of this photo was kept.", ""),
  };
}

/** Verdicts face by face, then how it was made and what else is to be known. */
function reportOf(findings: Findings): HTMLElement[] {
  const parts: HTMLElement[] = [];
  for (const face of findings.faces) {
    if (findings.faces.length > 1) parts.push(make("h4", "", `Face ${face.index + 1}`));
    const list = make("ul");
    list.append(...face.verdicts.map((one) => make("li", "", verdictText(one))));
    parts.push(list);
  }
  const seconds = Object.values(findings.timings).reduce((sum, value) => sum + value, 0);
  const names = [...new Set(findings.faces.flatMap((face) => face.verdicts.map((one) => one.recogniser)))];
  parts.push(make("p", "quiet", `Method ${findings.method}, strength ${findings.strength}, ${seconds.toFixed(1)} s on ${findings.device}. Recognisers: ${names.map((one) => `${recogniserName(one)} (${one})`).join(", ")}.`));
  for (const note of findings.notes) parts.push(make("p", "quiet", `Note: ${note}`));
  return parts;
}
