import { browserCache, createProtector, httpSource, openBundle, webRuntime } from "../dist/browser/faceprotect.js";

const ENDINGS = { jpeg: "jpg", png: "png", webp: "webp" };
let protector, controller;

onmessage = async ({ data }) => {
  if (data.cancel) return controller?.abort();
  if (data.bundle) return void (protector = open(data.bundle));
  controller = new AbortController();
  try {
    const photo = new Uint8Array(await data.photo.arrayBuffer());
    const { status, image, container } = await (await protector).protect(photo, { signal: controller.signal, onProgress: postMessage });
    postMessage({ status, image, name: `photo_protected.${ENDINGS[container]}` });
  } catch (error) {
    postMessage({ error: `Nothing was sent: ${error.message}` });
  }
};

async function open(bundle) {
  const opened = await openBundle(httpSource(bundle), await webRuntime(), { cache: browserCache() });
  await opened.load({ onProgress: postMessage });
  return createProtector(opened);
}
