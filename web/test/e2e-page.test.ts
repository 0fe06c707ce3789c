/** The page in Chromium with a stand-in for the SDK: what a person sees and can do, and that nothing more is offered than was found. */

import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { buildPage } from "../build.mjs";
import { coloured, finished, held, launched, missing, opened, ready, scratch, served } from "./e2e-tools.ts";
import type { Served, Watched } from "./e2e-tools.ts";

const skip = await missing();
/** rgb(status, ms of a step, two faces), as stand-in.ts reads it. */
const PROTECTED = "rgb(0,0,0)", MATCHED = "rgb(40,0,200)", COVERED = "rgb(80,0,0)", NO_FACE = "rgb(120,0,0)", SLOW = "rgb(0,255,0)";

describe("the page", { skip, timeout: 180_000 }, () => {
  let room: Awaited<ReturnType<typeof scratch>>;
  let server: Served;
  let browser: Browser;
  let context: BrowserContext;
  let tab: Watched;
  let page: Page;

  before(async () => {
    room = await scratch();
    await mkdir(join(room.folder, "bundle"));
    await writeFile(join(room.folder, "bundle", "recipe.json"), "{}");
    await buildPage(join(room.folder, "page"), join(import.meta.dirname, "stand-in.ts"));
    server = await served(join(room.folder, "page"), join(room.folder, "bundle"));
    browser = await launched();
    context = await browser.newContext({ acceptDownloads: true });
    tab = await opened(context, server.address);
    page = tab.page;
    await ready(page);
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
    await room?.remove();
  });

  async function add(...photos: { name: string; colour: string }[]): Promise<number> {
    const number = await page.locator("#cards > li").count();
    const files = await Promise.all(photos.map(async ({ name, colour }) => ({ name, mimeType: "image/png", buffer: await coloured(page, colour) })));
    await page.setInputFiles("#files", files);
    return number;
  }

  test("a protected photo can be downloaded under a name that says so", async () => {
    const card = await finished(page, await add({ name: "me at the sea.png", colour: PROTECTED }));
    assert.equal(await card.locator(".badge").textContent(), "Protected");
    const [download] = await Promise.all([page.waitForEvent("download"), card.locator(".download").click()]);
    assert.equal(download.suggestedFilename(), "me at the sea_protected.png");
    assert.deepEqual([...(await readFile(await download.path())).subarray(1, 4)], [...Buffer.from("PNG")]);
    assert.match((await card.locator(".text").textContent()) ?? "", /nobody tuned on may still match/);
  });

  test("whatever is not protected has no file and no picture of it, even where the SDK gave one", async () => {
    for (const [colour, title, words] of [
      [MATCHED, "Not protected", /Face 1 of 2 is not protected: our network with attention still matches/],
      [COVERED, "Not protected", /covered/],
      [NO_FACE, "No face found", /larger or sharper/],
    ] as const) {
      const card = await finished(page, await add({ name: "x.png", colour }));
      assert.equal(await card.locator(".badge").textContent(), title);
      assert.match((await card.locator(".text").textContent()) ?? "", words);
      assert.match((await card.locator(".text").textContent()) ?? "", /no file to download/);
      await card.locator(".picture canvas").first().waitFor();
      assert.equal(await card.locator(".download").getAttribute("href"), null);
      assert.equal(await card.locator("[href^='blob:'], .stack canvas + canvas, .tag").count(), 0);
      assert.ok(await card.locator(".download").isHidden());
    }
  });

  test("a photo that is still matched can be tried with more change", async () => {
    const number = await add({ name: "again.png", colour: MATCHED });
    const card = await finished(page, number);
    await card.locator(".stronger").click();
    const again = await finished(page, number);
    assert.match((await again.locator(".verdicts").textContent()) ?? "", /strength high/);
    assert.ok(await again.locator(".stronger").isHidden());
  });

  test("a broken file is refused in words, and the next one goes on", async () => {
    const number = await page.locator("#cards > li").count();
    await page.setInputFiles("#files", [
      { name: "broken.jpg", mimeType: "image/jpeg", buffer: Buffer.from("no photo at all") },
      { name: "fine.png", mimeType: "image/png", buffer: await coloured(page, PROTECTED) },
    ]);
    assert.match((await (await finished(page, number)).locator(".outcome").textContent()) ?? "", /no photo that can be read/);
    assert.equal(await (await finished(page, number + 1)).locator(".badge").textContent(), "Protected");
  });

  test("cancelling at work or in the queue leaves nothing", async () => {
    const number = await add({ name: "slow.png", colour: SLOW }, { name: "queued.png", colour: PROTECTED }, { name: "last.png", colour: PROTECTED });
    const cards = page.locator("#cards > li");
    await cards.nth(number).getByText("Working").waitFor();
    await cards.nth(number + 1).getByRole("button", { name: "Cancel" }).click();
    await cards.nth(number).getByRole("button", { name: "Cancel" }).click();
    for (const one of [number, number + 1]) {
      const card = await finished(page, one);
      assert.equal(await card.locator(".badge").textContent(), "Cancelled");
      assert.equal(await card.locator("[href^='blob:'], canvas").count(), 0);
    }
    assert.equal(await (await finished(page, number + 2)).locator(".badge").textContent(), "Protected");
  });

  test("the slider, the difference and the part from near work by keyboard", async () => {
    const card = await finished(page, await add({ name: "keys.png", colour: PROTECTED }));
    const range = card.getByRole("slider");
    await range.focus();
    await page.keyboard.press("Home");
    assert.equal(await range.getAttribute("aria-valuetext"), "0 percent before, 100 percent after");
    assert.equal(await card.locator(".stack").first().evaluate((stack) => (stack as HTMLElement).style.getPropertyValue("--cut")), "0%");
    await card.getByLabel("What changed", { exact: true }).check();
    assert.ok(await card.getByRole("img", { name: /ten times/ }).isVisible());
    assert.ok(await range.isHidden());
    await card.getByLabel(/Look at/).selectOption("all");
    await card.getByRole("slider").waitFor();
  });

  test("the focus order is that of the page, and every control has a name", async () => {
    const { page: fresh } = await opened(context, server.address);
    const order: string[] = [];
    for (let i = 0; i < 4; i++) {
      await fresh.keyboard.press("Tab");
      order.push(await fresh.evaluate(() => document.activeElement?.id || (document.activeElement as HTMLInputElement).name || document.activeElement!.className));
    }
    assert.deepEqual(order, ["skip", "files", "camera", "strength"]);
    await fresh.close();
    const nameless = await page.locator("button, input, select, a[href], progress, canvas, video").evaluateAll((all) =>
      all.filter((one) => one.checkVisibility() && !(one.getAttribute("aria-label") || one.textContent?.trim() || (one as HTMLInputElement).labels?.length)).map((one) => one.outerHTML));
    assert.deepEqual(nameless, []);
    assert.equal(await page.locator("[role=status][aria-live=polite]").count(), 1);
  });

  test("a photo from the camera is protected like any other", async () => {
    const number = await page.locator("#cards > li").count();
    await context.grantPermissions(["camera"]);
    await page.getByRole("button", { name: "Take a photo" }).click();
    await page.locator("#shutter:enabled").click();
    assert.equal(await (await finished(page, number)).locator(".name").textContent(), "camera.jpg");
    assert.equal(await page.evaluate(() => document.querySelector("video")!.srcObject), null, "the camera is off again");
  });

  test("nothing leaves the origin, nothing is complained about, and the main thread is never held", async () => {
    assert.deepEqual(tab.requests.filter((url) => !url.startsWith(server.address) && !url.startsWith("blob:")), []);
    assert.deepEqual(tab.complaints, []);
    assert.equal(await held(tab), "");
    const refused = await page.evaluate(() => fetch("https://example.org/").then(() => "answered", () => "refused"));
    assert.equal(refused, "refused");
  });

  test("two tabs work at once", async () => {
    const other = await opened(context, server.address);
    await ready(other.page);
    const number = await add({ name: "one.png", colour: SLOW.replace("255", "30") });
    await other.page.setInputFiles("#files", { name: "two.png", mimeType: "image/png", buffer: await coloured(page, PROTECTED) });
    assert.equal(await (await finished(other.page)).locator(".badge").textContent(), "Protected");
    assert.equal(await (await finished(page, number)).locator(".badge").textContent(), "Protected");
    await other.page.close();
  });

  test("pictures far from view are let go, and come back", async () => {
    const photo = { name: "another.png", mimeType: "image/png", buffer: await coloured(page, PROTECTED) };
    const first = page.locator("#cards > li").first();
    await first.locator(".name").scrollIntoViewIfNeeded();
    await first.locator("canvas").first().waitFor();
    const number = await page.locator("#cards > li").count();
    await page.setInputFiles("#files", [photo, photo, photo, photo]);
    for (let i = 0; i < 4; i++) await (await finished(page, number + i)).locator("canvas").first().waitFor();
    await first.locator("canvas").first().waitFor({ state: "detached" });
    await first.locator(".name").scrollIntoViewIfNeeded();
    await first.locator("canvas").first().waitFor();
  });

  test("nothing is wider than a phone", async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 390);
    await page.setViewportSize({ width: 1280, height: 800 });
  });

  test("without its server the page loads again and works", async () => {
    const { port } = new URL(server.address);
    await server.stop();
    await page.reload();
    assert.match(await ready(page), /Ready/);
    assert.equal(await (await finished(page, await add({ name: "offline.png", colour: PROTECTED }))).locator(".badge").textContent(), "Protected");
    server = await served(join(room.folder, "page"), join(room.folder, "bundle"), Number(port));
  });
});
