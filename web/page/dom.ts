/** Small helpers for elements. */

/** The element that a selector finds; the page is broken where there is none. */
export function find<T extends Element = HTMLElement>(selector: string, within: ParentNode = document): T {
  const found = within.querySelector<T>(selector);
  if (found === null) throw new Error(`the page lacks ${selector}`);
  return found;
}

/** A new element with its text. */
export function make<K extends keyof HTMLElementTagNameMap>(tag: K, className = "", text = ""): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** Sets a progress bar to a share of 0 to 1; without one it moves to and fro. */
export function setBar(bar: HTMLProgressElement, share: number | null): void {
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
}
