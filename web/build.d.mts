/** Builds the page into the folder `out`, emptied before; `engine`: another module in place of page/engine.ts; `further` scripts by name. */
export function buildPage(out?: string, engine?: string, further?: Readonly<Record<string, string>>): Promise<void>;
/** Builds the library for pages without a bundler into the folder `out`, emptied before. */
export function buildBrowser(out: string): Promise<void>;
