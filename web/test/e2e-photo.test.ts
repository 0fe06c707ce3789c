/**
 * Photos in Chromium, through the page, with a true bundle: FACEPROTECT_BUNDLE names its folder. One of `fast` takes half a minute; one of
 * `auto` is found slow and thorough. What the page gives for download is looked at again by the Python SDK.
 */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { cp, mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Browser, BrowserContext, Locator, Page } from "playwright-core";
import { buildBrowser, buildPage } from "../build.mjs";
import { ASTRONAUT, finished, held, launched, missing, opened, python, ready, scratch, served } from "./e2e-tools.ts";
import type { Served, Watched } from "./e2e-tools.ts";
import { uploadServer } from "./upload-server.ts";

const BUNDLE = process.env.FACEPROTECT_BUNDLE;
const skip = BUNDLE ? await missing() : "no bundle: faceprotect-sdk pack fast -o DIR, and name DIR in FACEPROTECT_BUNDLE";
const LONG = 300_000;

describe("photos in the browser", { skip, timeout: 1_200_000 }, () => {
  let room: Awaited<ReturnType<typeof scratch>>;
  let server: Served;
  let browser: Browser;
  let context: BrowserContext;
  let tab: Watched;
  let page: Page;
  const file = (name: string) => join(room.folder, name);

  before(async () => {
    room = await scratch();
    await mkdir(file("cache"));
    process.env.FACEPROTECT_CACHE = file("cache"); // recognisers that were fetched here and are not in the bundle have opinions of their own
    const drawn = await python([join(import.meta.dirname, "photos.py"), ASTRONAUT, room.folder]);
    assert.equal(drawn.code, 0, drawn.err);
    await buildPage(file("page"), undefined, { verify: join(import.meta.dirname, "verify-worker.ts") });
    server = await served(file("page"), BUNDLE!);
    browser = await launched();
    context = await browser.newContext({ acceptDownloads: true });
    tab = await opened(context, server.address);
    page = tab.page;
    assert.match(await ready(page, LONG), /Ready/);
    await page.getByLabel("Much").check(); // `fast` protects the astronaut at high only
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
    await room?.remove();
  });

  async function protectedBy(where: Page, ...paths: string[]): Promise<Locator> {
    const number = await where.locator("#cards > li").count();
    await where.setInputFiles("#files", paths);
    return finished(where, number, LONG);
  }

  async function downloaded(card: Locator, name: string): Promise<string> {
    assert.equal(await card.locator(".badge").textContent(), "Protected", (await card.locator(".outcome").textContent()) ?? "");
    const [download] = await Promise.all([page.waitForEvent("download"), card.locator(".download").click()]);
    assert.equal(download.suggestedFilename(), name);
    await download.saveAs(file(name));
    return file(name);
  }

  /** What `faceprotect-sdk check` finds on two files. */
  async function checked(original: string, protected_: string): Promise<{ status: string; faces: { verdicts: { recogniser: string; similarity: number }[] }[] }> {
    const { out, err } = await python(["-m", "faceprotect_sdk", "check", original, protected_, "--json", "-q", "--no-installed-judges"]);
    assert.notEqual(out, "", err);
    return JSON.parse(out);
  }

  test("a dropped photo is protected, and `faceprotect-sdk check` says the same of the two files", async () => {
    await page.evaluate(async (bytes) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0))], "astronaut.png", { type: "image/png" }));
      document.querySelector("#drop")!.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }, (await readFile(ASTRONAUT)).toString("base64"));
    const card = await finished(page, 0, LONG);
    const found = await checked(ASTRONAUT, await downloaded(card, "astronaut_protected.png"));
    assert.equal(found.status, "not_matched");
    const said = (await card.locator(".verdicts").textContent()) ?? "";
    const compared = found.faces[0].verdicts.filter(({ recogniser }) => said.includes(`(${recogniser})`));
    assert.ok(compared.length >= 3, said);
    for (const { similarity } of compared) {
      const near = [...said.matchAll(/Likeness (\u2212?[\d.]+)/g)].some(([, one]) => Math.abs(Number(one.replace("\u2212", "-")) - similarity) < 0.02);
      assert.ok(near, `${similarity} is not among: ${said}`);
    }
  });

  test("orientation is kept and GPS dropped, in a JPEG", async () => {
    const card = await protectedBy(page, file("sideways.jpg"));
    const path = await downloaded(card, "sideways_protected.jpg");
    const ask = "import sys; from PIL import Image; image = Image.open(sys.argv[1]); exif = image.getexif(); print(image.format, image.size, exif.get(0x0112), exif.get(0x010F), len(exif.get_ifd(0x8825)))";
    assert.equal((await python(["-c", ask, path])).out.trim(), "JPEG (256, 256) 6 Camera 0");
    assert.equal((await checked(file("sideways.jpg"), path)).status, "not_matched");
  });

  test("a WebP stays a WebP", async () => {
    const path = await downloaded(await protectedBy(page, file("astronaut.webp")), "astronaut_protected.webp");
    assert.equal((await checked(file("astronaut.webp"), path)).status, "not_matched");
  });

  test("a photo without a face, a broken one and a cut one are told apart, and give no file", async () => {
    const number = await page.locator("#cards > li").count();
    await page.setInputFiles("#files", [file("sky.png"), file("cut.jpg")]);
    await page.setInputFiles("#files", { name: "text.png", mimeType: "image/png", buffer: Buffer.from("text") });
    for (const [place, badge] of [[0, "No face found"], [1, "Nothing was changed"], [2, "Nothing was changed"]] as const) {
      const card = await finished(page, number + place, LONG);
      assert.equal(await card.locator(".badge").textContent(), badge, (await card.locator(".outcome").textContent()) ?? "");
      assert.equal(await card.locator("[href^='blob:']").count(), 0);
    }
  });

  test("cancelling in the middle leaves nothing, and the next photo works", async () => {
    const number = await page.locator("#cards > li").count();
    await page.setInputFiles("#files", [file("large.jpg"), ASTRONAUT]);
    const card = page.locator("#cards > li").nth(number);
    await card.getByText("Working").waitFor();
    await card.getByRole("button", { name: "Cancel" }).click();
    const asked = Date.now();
    await finished(page, number, 10_000);
    assert.ok(Date.now() - asked < 5000);
    assert.equal(await card.locator(".badge").textContent(), "Cancelled");
    assert.equal(await card.locator("[href^='blob:'], canvas").count(), 0);
    assert.equal(await (await finished(page, number + 1, LONG)).locator(".badge").textContent(), "Protected");
  });

  test("20 megapixels", async () => {
    const card = await protectedBy(page, file("large.jpg"));
    const path = await downloaded(card, "large_protected.jpg");
    assert.equal((await checked(file("large.jpg"), path)).status, "not_matched");
  });

  test("two tabs work at once", async () => {
    const other = await opened(context, server.address);
    assert.match(await ready(other.page, LONG), /Ready/);
    await other.page.getByLabel("Much").check();
    const cards = await Promise.all([protectedBy(page, ASTRONAUT), protectedBy(other.page, ASTRONAUT)]);
    for (const card of cards) assert.equal(await card.locator(".badge").textContent(), "Protected");
    await other.page.close();
  });

  test("nothing left the origin, nothing was complained about, and the main thread was never held", async () => {
    assert.deepEqual(tab.requests.filter((url) => !url.startsWith(server.address) && !url.startsWith("blob:")), []);
    assert.deepEqual(tab.complaints, []);
    assert.equal(await held(tab), "");
    assert.ok(await page.evaluate(() => crossOriginIsolated), "the page may use threads");
  });

  test("the bundle's own run is found again in the browser", async (about) => {
    const found = await page.evaluate(() => new Promise<{ ok: boolean; seconds: number }>((settle) => {
      const worker = new Worker("verify.js", { type: "module" });
      worker.onmessage = ({ data }) => settle(data);
      worker.onerror = ({ message }) => settle({ ok: false, seconds: 0, message } as { ok: boolean; seconds: number });
    }));
    about.diagnostic(JSON.stringify(found));
    assert.ok(found.ok, JSON.stringify(found));
  });

  test("without its server the page loads again and protects", async () => {
    const { port } = new URL(server.address);
    await server.stop();
    const other = await opened(context, server.address);
    assert.match(await ready(other.page, LONG), /Ready/);
    await other.page.getByLabel("Much").check();
    assert.equal(await (await protectedBy(other.page, ASTRONAUT)).locator(".badge").textContent(), "Protected");
    await other.page.close();
    server = await served(file("page"), BUNDLE!, Number(port));
  });

  test("a bundle with a flipped byte is refused in words", async (context) => {
    await cp(BUNDLE!, file("flipped"), { recursive: true });
    const whole = join(file("flipped"), "student-attention", "model.onnx");
    const model = await open(existsSync(`${whole}.gz`) ? `${whole}.gz` : whole, "r+"); // what the browser reads of a bundle for the web
    const { buffer } = await model.read(Buffer.alloc(1), 0, 1, 100_000);
    await model.write(Buffer.from([buffer[0] ^ 1]), 0, 1, 100_000);
    await model.close();
    const wrong = await served(file("page"), file("flipped"));
    context.after(() => wrong.stop());
    const fresh = await browser.newContext();
    const { page: refused } = await opened(fresh, wrong.address);
    const said = await ready(refused, LONG);
    assert.match(said, /No photo can be protected now.*student-attention/);
    await refused.setInputFiles("#files", ASTRONAUT);
    assert.match((await (await finished(refused)).locator(".outcome").textContent()) ?? "", /student-attention/);
    assert.equal(await refused.locator("[href^='blob:']").count(), 0);
    await fresh.close();
    await rm(file("flipped"), { recursive: true });
  });

  test("the example's form sends a protected photo, and nothing where there is none", async () => {
    await buildBrowser(file("browser"));
    const uploads = await uploadServer({
      "/example/": join(import.meta.dirname, "..", "example"), "/dist/browser/": file("browser"), "/example/auto.fp/": BUNDLE!,
    });
    const form = await (await browser.newContext()).newPage();
    await form.goto(`${uploads.address}example/index.html`);
    await form.setInputFiles("input", file("sky.png"));
    await form.getByRole("button", { name: "Protect and send" }).click();
    await form.getByText(/Nothing was sent.*no_face/).waitFor({ timeout: LONG });
    assert.equal(uploads.uploads.length, 0);
    await form.evaluate(() => (document.forms[0].dataset.strength = "high"));
    await form.setInputFiles("input", ASTRONAUT);
    await form.getByRole("button", { name: "Protect and send" }).click();
    await form.getByText("thank you").waitFor({ timeout: LONG });
    const [sent] = uploads.uploads;
    const start = sent.indexOf(Buffer.from("\x89PNG", "latin1"));
    assert.match(sent.subarray(0, start).toString(), /filename="photo_protected.png"/);
    await writeFile(file("sent.png"), sent.subarray(start, sent.lastIndexOf("\r\n--")));
    assert.equal((await checked(ASTRONAUT, file("sent.png"))).status, "not_matched");
    uploads.stop();
  });
});
