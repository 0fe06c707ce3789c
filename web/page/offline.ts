/** The service worker that lets the page work without a network. */

/** The worker that computes is started through it, so that what that loads is kept; a browser without one goes on online. */
const PATIENCE_MS = 20_000;

/** Whether the page will work offline; settles once the service worker serves this page, or when it is clear that none will. */
export async function prepareOffline(script: string): Promise<boolean> {
  if (!("serviceWorker" in navigator)) return false;
  try {
    const { active } = await navigator.serviceWorker.register(script);
    if (active !== null && navigator.serviceWorker.controller === null) return false; // loaded past it, by shift and reload
    return await Promise.race([controlled(), after(PATIENCE_MS)]);
  } catch {
    return navigator.serviceWorker.controller !== null; // offline, an update cannot be looked for
  }
}

function controlled(): Promise<boolean> {
  if (navigator.serviceWorker.controller !== null) return Promise.resolve(true);
  return new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", () => resolve(true), { once: true }));
}

function after(time: number): Promise<boolean> {
  return new Promise((resolve) => setTimeout(() => resolve(false), time));
}
