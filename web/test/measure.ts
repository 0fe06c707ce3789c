/**
 * Seconds and memory of the page in Chromium, with a bundle: node --import tsx test/measure.ts BUNDLE [STRENGTH] [PHOTO...]
 *
 * Every photo is protected three times (REPEATS), one after the other, after a first one that is not counted; memory is the renderer's largest
 * resident set (Linux), whose workers are threads of the same process. One JSON object on stdout.
 */

import { readFile, readdir } from "node:fs/promises";
import { cpus } from "node:os";
import { basename, join } from "node:path";
import type { Page } from "playwright-core";
import { buildPage } from "../build.mjs";
import { ASTRONAUT, finished, launched, opened, ready, scratch, served } from "./e2e-tools.ts";

const REPEATS = Number(process.env.REPEATS ?? 3);
const LONG = 600_000;
const [bundle, strength = "medium", ...given] = process.argv.slice(2);
const photos = given.length > 0 ? given : [ASTRONAUT];

async function protect(page: Page, photo: string): Promise<{ seconds: number; badge: string; said: string }> {
  const number = await page.locator("#cards > li").count();
  const started = performance.now();
  await page.setInputFiles("#files", photo);
  const card = await finished(page, number, LONG);
  const seconds = (performance.now() - started) / 1000;
  return { seconds, badge: (await card.locator(".badge").textContent()) ?? "", said: (await card.locator(".verdicts .quiet").first().textContent()) ?? "" };
}

/** Largest resident set so far, in MB, of the renderers among a process's children. */
async function peaks(parent: number): Promise<number[]> {
  const found: number[] = [];
  for (const name of (await readdir("/proc")).filter((one) => /^\d+$/.test(one))) {
    const line = await readFile(join("/proc", name, "cmdline"), "utf8").catch(() => "");
    if (!line.includes("--type=renderer") || !line.includes(`fp-measure-${parent}`)) continue;
    const status = await readFile(join("/proc", name, "status"), "utf8").catch(() => "");
    found.push(Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
  }
  return found;
}

const room = await scratch();
await buildPage(join(room.folder, "page"));
const server = await served(join(room.folder, "page"), bundle);
const browser = await launched([`--user-agent=fp-measure-${process.pid}`]);
try {
  const tab = await opened(await browser.newContext(), server.address);
  const loading = performance.now();
  await ready(tab.page, LONG);
  const load = (performance.now() - loading) / 1000;
  await tab.page.locator(`input[value=${strength}]`).check();
  const opening = Math.round(Math.max(0, ...(await peaks(process.pid))));
  const runs: Record<string, unknown> = {};
  if (REPEATS > 0) await protect(tab.page, photos[0]);
  for (const photo of photos) {
    const seen = [];
    for (let i = 0; i < REPEATS; i++) seen.push(await protect(tab.page, photo));
    runs[basename(photo)] = { ...seen[REPEATS - 1], seconds: seen.map((one) => Number(one.seconds.toFixed(2))) };
  }
  const longest = Math.max(0, ...(await tab.longTasks()));
  const memory = Math.round(Math.max(opening, ...(await peaks(process.pid)))); // Chromium sets the mark back at times
  const loaded = (await readFile("/proc/loadavg", "utf8").catch(() => "")).split(" ")[0];
  process.stdout.write(`${JSON.stringify({ browser: browser.version(), cores: cpus().length, loaded, strength, load_s: load, opening_peak_mb: opening, runs, peak_mb: memory, longest_task_ms: longest })}\n`);
} finally {
  await browser.close();
  await server.stop();
  await room.remove();
}
