import { browserCache, createProtector, httpSource, openBundle, webRuntime } from "../dist/browser/faceprotect.js";

const ENDINGS = { jpeg: "jpg", png: "png", webp: "webp" };
let protector, controller;

onmessage = async ({ data }) => {
  if (data.cancel) return controller?.abort();
  if (data.bundle) return void (protector = open(data.bundle));
  controller = new AbortController();
  try {
    const { photo, strength } = data;
    const options = { strength, signal: controller.signal, onProgress: (progress) => postMessage(progress) };
    const { status, image, container } = await (await protector).protect(photo, options);
    postMessage({ status, image, name: `photo_protected.${ENDINGS[container]}` });
  } catch (error) {
    postMessage({ error: `Nothing was sent: ${error.message}` });
  }
};

async function open(bundle) {
  const opened = await openBundle(httpSource(bundle), await webRuntime(), { cache: browserCache() });
  await opened.load({ onProgress: (progress) => postMessage(progress) });
  return createProtector(opened);
}
