/** Before and after under a slider, and what changed. */

import { make } from "./dom.ts";
import type { Look } from "./looks.ts";
import type { Pictures, Sight } from "./messages.ts";

let count = 0;

/** What stays the same of a sight while another face is looked at. */
type Subject = Omit<Sight, "face">;

/**
 * Shows the pictures of a finished photo in `place`; the part from near can be chosen. They are drawn when they come into view and let go
 * when they are far from it: three pictures of a photo take some 15 MB, and there may be many photos.
 */
export function showPictures(place: HTMLElement, look: Look, subject: Subject): void {
  const view = make("div", "view");
  let face = subject.protected !== null && subject.faces.length === 1 ? 0 : null;
  let near = false;
  const draw = async () => {
    const wanted = face;
    const drawn = await look({ ...subject, face }).then(viewOf, refusal);
    if (!near || wanted !== face) return; // it left, or another face was chosen meanwhile
    view.replaceChildren(drawn);
    view.style.removeProperty("min-height");
  };
  const clear = () => {
    view.style.setProperty("min-height", `${view.offsetHeight}px`);
    view.replaceChildren();
  };
  new IntersectionObserver(
    (entries) => {
      near = entries[entries.length - 1].isIntersecting;
      if (near && view.childElementCount === 0) void draw();
      else if (!near && !view.contains(document.activeElement)) clear();
    },
    { rootMargin: "100%" },
  ).observe(view);
  place.replaceChildren(view);
  if (subject.protected !== null) place.append(chooser(subject.faces, (chosen) => void ((face = chosen), draw())));
}

function viewOf({ before, after, difference }: Pictures): HTMLElement {
  return after !== null && difference !== null ? compared(before, after, difference) : alone(before);
}

function refusal(error: unknown): HTMLElement {
  return make("p", "quiet", `The pictures cannot be shown here: ${error instanceof Error ? error.message : String(error)}`);
}

/** The original by itself, where nothing else may be shown. */
function alone(before: ImageBitmap): HTMLElement {
  const stack = make("figure", "stack still");
  const box = boxFor(before);
  stack.append(canvasOf(before, "The photo as it was, unchanged"));
  box.append(stack);
  return box;
}

function boxFor({ width, height }: ImageBitmap): HTMLElement {
  const box = make("div", "compare");
  box.style.setProperty("--ratio", String(width / height));
  return box;
}

function compared(before: ImageBitmap, after: ImageBitmap, difference: ImageBitmap): HTMLElement {
  const box = boxFor(before);
  const stack = make("figure", "stack");
  const tags = [make("span", "tag old", "Before"), make("span", "tag new", "After")];
  const canvases = [canvasOf(before, "Photo before"), canvasOf(after, "Photo after")];
  const edge = make("span", "edge");
  stack.append(...canvases, edge, ...tags);
  const changed = make("figure", "stack still");
  changed.append(canvasOf(difference, "What changed, ten times as strong, on grey"), make("span", "tag old", "Change × 10"));
  changed.hidden = true;
  const slide = slider(stack);
  const which = modes((mode) => {
    changed.hidden = mode !== "difference";
    stack.hidden = slide.hidden = mode === "difference";
  });
  box.append(stack, changed, slide, which);
  return box;
}

function canvasOf(picture: ImageBitmap, label: string): HTMLCanvasElement {
  const canvas = make("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  canvas.getContext("bitmaprenderer")?.transferFromImageBitmap(picture);
  return canvas;
}

/** A range from all before to all after; figure and keyboard move it alike. */
function slider(stack: HTMLElement): HTMLElement {
  const label = make("label", "slide");
  const range = make("input");
  range.type = "range";
  range.min = "0";
  range.max = "100";
  range.value = "50";
  const set = () => {
    stack.style.setProperty("--cut", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} percent before, ${100 - Number(range.value)} percent after`);
  };
  range.addEventListener("input", set);
  set();
  label.append(make("span", "quiet", "Slide from after to before"), range);
  drag(stack, range, set);
  return label;
}

/** Dragging on the picture itself moves the slider. */
function drag(stack: HTMLElement, range: HTMLInputElement, set: () => void): void {
  const follow = (event: PointerEvent) => {
    const { left, width } = stack.getBoundingClientRect();
    range.value = String(Math.round(((event.clientX - left) / width) * 100));
    set();
  };
  stack.addEventListener("pointerdown", (event) => {
    stack.setPointerCapture(event.pointerId);
    follow(event);
  });
  stack.addEventListener("pointermove", (event) => {
    if (stack.hasPointerCapture(event.pointerId)) follow(event);
  });
  stack.style.setProperty("touch-action", "pan-y");
}

function modes(choose: (mode: string) => void): HTMLElement {
  const group = make("div", "row choices");
  group.setAttribute("role", "radiogroup");
  group.setAttribute("aria-label", "What to show");
  const name = `view-${++count}`;
  for (const [value, text] of [["slider", "Before and after"], ["difference", "What changed"]]) {
    const label = make("label", "", text);
    const radio = make("input");
    Object.assign(radio, { type: "radio", name, value, checked: value === "slider" });
    radio.addEventListener("change", () => choose(value));
    label.prepend(radio);
    group.append(label);
  }
  return group;
}

/** Whole photo or one of its faces from near. */
function chooser(faces: Sight["faces"], choose: (face: number | null) => void): HTMLElement {
  const label = make("label", "row quiet", "Look at ");
  const select = make("select");
  select.append(new Option("the whole photo", "all"), ...faces.map((face) => new Option(faces.length === 1 ? "the face" : `face ${face.index + 1}`, String(face.index))));
  select.value = faces.length === 1 ? String(faces[0].index) : "all";
  select.addEventListener("change", () => choose(select.value === "all" ? null : Number(select.value)));
  label.append(select);
  return label;
}
