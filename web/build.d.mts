/** Builds the page into the folder `out`, emptied before; `engine`: another module in place of page/engine.ts. */
export function buildPage(out?: string, engine?: string): Promise<void>;
