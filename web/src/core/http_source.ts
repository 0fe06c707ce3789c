import { BundleError, type Source } from "../types.ts";

/** The files below an address, by `fetch`. `base` is the bundle's folder, with or without a slash at its end. */
export function httpSource(base: string | URL, request: typeof fetch = fetch): Source {
  const folder = new URL(String(base).replace(/\/?$/, "/"), typeof location === "undefined" ? undefined : location.href);
  return {
    async read(path, signal, onBytes) {
      const address = new URL(path.split("/").map(encodeURIComponent).join("/"), folder);
      const response = await request(address, { signal }).catch((error) => {
        signal?.throwIfAborted();
        throw new BundleError(`${address.href} could not be fetched: ${error instanceof Error ? error.message : error}`, "Is the server there?");
      });
      if (!response.ok) {
        throw new BundleError(`${address.href} could not be fetched: ${response.status} ${response.statusText}`, "Is the bundle complete there?");
      }
      return await body(response, address.href, signal, onBytes);
    },
  };
}

async function body(response: Response, address: string, signal?: AbortSignal, onBytes?: (done: number) => void): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let done = 0;
  try {
    const reader = response.body?.getReader();
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      parts.push(part.value);
      done += part.value.byteLength; // not among the arguments below, which are not computed where nobody listens
      onBytes?.(done);
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw new BundleError(`${address} broke off after ${done} bytes: ${error instanceof Error ? error.message : error}`, "Try again");
  }
  const whole = new Uint8Array(done);
  parts.reduce((at, part) => (whole.set(part, at), at + part.byteLength), 0);
  return whole;
}
