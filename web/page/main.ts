/** The page: photos in, cards out. Nothing here computes; the worker does. */

import type { Strength } from "../src/types.ts";
import { prepareCamera } from "./camera.ts";
import { makeCard } from "./card.ts";
import { startClient } from "./client.ts";
import { find, setBar } from "./dom.ts";
import { startPainter } from "./looks.ts";
import type { Opened, Said } from "./messages.ts";
import { prepareOffline } from "./offline.ts";
import { count } from "./words.ts";

/** The same photo gives the same result, whoever asks. */
const SEED = 0;

const state = find("#state");
const bar = find<HTMLProgressElement>("#load");
const cards = find("#cards");
const look = startPainter("painter.js");
let worksOffline = false;

function say(text: string): void {
  find("#said").textContent = text;
}

function chosenStrength(): Strength {
  return find<HTMLInputElement>("input[name=strength]:checked").value as Strength;
}

/** Takes photos from wherever they came; each gets a card, and its turn. */
function take(photos: Iterable<File>, strength: Strength = chosenStrength()): void {
  const taken = [...photos];
  if (taken.length === 0) return;
  say(`${count(taken.length, "photo")} added`);
  for (const photo of taken) addCard(photo, strength);
}

function addCard(photo: File, strength: Strength): void {
  const wishes = { strength, seed: SEED };
  let cancel = (): void => undefined;
  const card = makeCard(photo.name, photo, wishes, {
    look,
    say,
    cancel: () => cancel(),
    stronger: (more) => {
      take([photo], more);
      cards.lastElementChild?.querySelector<HTMLElement>(".name")?.focus();
    },
    removed: afterRemoval,
  });
  cards.append(card.element);
  find("#photos-title").hidden = false;
  cancel = client.add({ photo, wishes, ...card });
}

function afterRemoval(): void {
  find("#photos-title").hidden = cards.childElementCount === 0;
  const next = cards.querySelector<HTMLElement>(".name") ?? find<HTMLElement>("#files");
  next.focus();
}

function opened({ method, device }: Opened): void {
  bar.hidden = true;
  state.textContent = `Ready (method ${method}, ${device}).${worksOffline ? " Works without a network from now on." : ""}`;
  document.documentElement.dataset.state = "ready";
}

function closed(error: Said): void {
  bar.hidden = true;
  state.className = "bad";
  state.setAttribute("role", "alert");
  state.textContent = `No photo can be protected now. ${error.message} ${error.hint}`.trim();
  document.documentElement.dataset.state = "closed";
}

function loading(done: number, total: number): void {
  bar.hidden = false;
  state.textContent = "Loading the method. Only the first time takes long.";
  setBar(bar, total > 0 ? done / total : null);
}

function prepareDrop(): void {
  const drop = find("#drop");
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.classList.remove("over");
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer?.files ?? []);
  });
  window.addEventListener("paste", (event) => take(event.clipboardData?.files ?? []));
}

const before = prepareOffline("sw.js").then((works) => (worksOffline = works));
const client = startClient("worker.js", new URL("bundle/", location.href).href, before, { onLoading: loading, onOpened: opened, onClosed: closed });

const files = find<HTMLInputElement>("#files");
files.addEventListener("change", () => {
  take(files.files ?? []);
  files.value = ""; // so that the same file can be chosen again
});
find("#choose").addEventListener("submit", (event) => event.preventDefault());
prepareDrop();
prepareCamera((photo) => take([photo]));
