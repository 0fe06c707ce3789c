/** What the end-to-end tests share: Chromium, `faceprotect-sdk web` as a process, and photos. */

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import type { Browser, BrowserContext, Page } from "playwright-core";

process.env.PW_EXPERIMENTAL_SERVICE_WORKER_NETWORK_EVENTS = "1"; // the service worker's requests are to be seen too

export const ROOT = resolve(import.meta.dirname, "..", "..");
export const ASTRONAUT = join(ROOT, "sdk", "faceprotect_sdk", "bundle", "astronaut.png");
const PYTHON = process.env.FACEPROTECT_PYTHON ?? "python3";
const CHROMIUM = [process.env.FACEPROTECT_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => path && existsSync(path));

/** Why the end-to-end tests cannot run here; false where they can. */
export async function missing(): Promise<string | false> {
  if (!CHROMIUM) return "no Chromium: install it, or name it in FACEPROTECT_CHROMIUM";
  const { code } = await python(["-c", "import faceprotect_sdk.cli.main, cv2"]);
  return code === 0 ? false : `${PYTHON} cannot import faceprotect_sdk: name a Python that can in FACEPROTECT_PYTHON`;
}

function environment(): NodeJS.ProcessEnv {
  const paths = ["sdk", "engines", "export"].map((name) => join(ROOT, name));
  return { ...process.env, PYTHONPATH: [...paths, process.env.PYTHONPATH].filter(Boolean).join(delimiter), ORT_DISABLE_TELEMETRY: "1" };
}

/** Runs Python to its end. */
export async function python(given: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(PYTHON, given, { env: environment(), stdio: ["ignore", "pipe", "pipe"] });
  const said = { out: "", err: "" };
  child.stdout.on("data", (data) => (said.out += data));
  child.stderr.on("data", (data) => (said.err += data));
  return new Promise((settle) => {
    child.on("error", () => settle({ code: 127, ...said }));
    child.on("close", (code) => settle({ code: code ?? 1, ...said }));
  });
}

export interface Served {
  readonly address: string;
  stop(): Promise<void>;
}

/** `faceprotect-sdk web` with another page than the installed one. */
export async function served(page: string, bundle: string, port = 0): Promise<Served> {
  const start = `import sys; from pathlib import Path; from faceprotect_sdk.cli import main, web; web.PAGE = Path(${JSON.stringify(page)}); main.entry()`;
  const child = spawn(PYTHON, ["-c", start, "web", "--no-browser", "--port", String(port), "--bundle", bundle], { env: environment(), stdio: ["ignore", "pipe", "inherit"] });
  const address = await firstLine(child);
  return { address, stop: () => stopped(child) };
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((settle, fail) => {
    createInterface({ input: child.stdout! }).once("line", settle);
    child.once("close", (code) => fail(new Error(`faceprotect-sdk web ended with ${code} before it said its address`)));
  });
}

async function stopped(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const closed = new Promise((settle) => child.once("close", settle));
  child.kill("SIGTERM");
  await closed;
}

export async function launched(further: readonly string[] = []): Promise<Browser> {
  const quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
  return chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", ...quiet, ...camera, ...further] });
}

/** A tab that is watched: its requests, its long tasks, and what it complains about. */
export interface Watched {
  readonly page: Page;
  readonly requests: string[];
  readonly complaints: string[];
  /** Durations in ms of the tasks of the main thread that took longer than 50 ms. */
  longTasks(): Promise<number[]>;
}

export async function opened(context: BrowserContext, address: string): Promise<Watched> {
  const page = await context.newPage();
  const requests: string[] = [];
  const complaints: string[] = [];
  context.on("request", (request) => requests.push(request.url()));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.addInitScript(() => {
    const seen: number[] = ((window as unknown as { long: number[] }).long = []);
    new PerformanceObserver((list) => seen.push(...list.getEntries().map((one) => one.duration))).observe({ type: "longtask", buffered: true });
  });
  await page.goto(address);
  return { page, requests, complaints, longTasks: () => page.evaluate(() => (window as unknown as { long: number[] }).long) };
}

/** The longest task of the main thread may take this many ms. It is a wall time, so nothing follows from it where others keep the cores. */
const HELD_MS = 100;

/** What is wrong with the tab's longest task; empty where it is short, or the machine too busy to tell. */
export async function held(tab: Watched): Promise<string> {
  const longest = Math.max(0, ...(await tab.longTasks()));
  return longest <= HELD_MS || loadavg()[0] > 2 * cpus().length ? "" : `a task of ${longest} ms on the main thread`;
}

/** Waits until the page has opened its bundle, or said why not. */
export async function ready(page: Page, timeout = 120_000): Promise<string> {
  await page.waitForSelector("html[data-state]", { state: "attached", timeout });
  return (await page.locator("#state").textContent()) ?? "";
}

/** A card by its number, from 0, once its work has ended. */
export async function finished(page: Page, number = 0, timeout = 120_000) {
  const card = page.locator("#cards > li").nth(number);
  await card.locator(".outcome").waitFor({ state: "visible", timeout });
  await card.scrollIntoViewIfNeeded(); // pictures are drawn when they come into view
  return card;
}

export async function scratch(): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "faceprotect-e2e-"));
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** A picture of one colour (a page's canvas draws it), for the stand-in: see stand-in.ts. */
export async function coloured(page: Page, colour: string, side = 64): Promise<Buffer> {
  const url = await page.evaluate(async ([fill, size]) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = Number(size);
    const context = canvas.getContext("2d")!;
    context.fillStyle = fill;
    context.fillRect(0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/png");
  }, [colour, String(side)]);
  return Buffer.from(url.split(",")[1], "base64");
}
