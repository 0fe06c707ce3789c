/** A server for the example's form: its files, the library, a bundle, and an address that takes uploads. */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";

const TYPES: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };
const THREADS = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export interface UploadServer {
  readonly address: string;
  /** Bodies of the uploads so far. */
  readonly uploads: Buffer[];
  stop(): void;
}

/** `roots`: folders by the beginning of the path. */
export async function uploadServer(roots: Readonly<Record<string, string>>): Promise<UploadServer> {
  const uploads: Buffer[] = [];
  const server = createServer(async (request, response) => {
    if (request.method === "POST") {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      uploads.push(Buffer.concat(parts));
      return void response.writeHead(200, { "Content-Type": "text/html" }).end("<p>thank you</p>");
    }
    const path = normalize(new URL(request.url ?? "/", "http://localhost").pathname);
    const root = Object.keys(roots).filter((one) => path.startsWith(one)).sort((a, b) => b.length - a.length)[0];
    const data = root === undefined ? null : await readFile(join(roots[root], path.slice(root.length))).catch(() => null);
    if (data === null) response.writeHead(404).end();
    else response.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "application/octet-stream", ...THREADS }).end(data);
  });
  await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
  return { address: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, uploads, stop: () => void (server.closeAllConnections(), server.close()) };
}
