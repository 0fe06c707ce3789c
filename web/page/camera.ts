/** A photo from the camera: the phone's own camera where there is one, a small window elsewhere. */

import { find } from "./dom.ts";

const REFUSED: Record<string, string> = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser, or choose a photo.",
  NotFoundError: "There is no camera here. Choose a photo instead.",
  NotReadableError: "Another program uses the camera. Close it and try again.",
};

/** Lets the button take photos; each one comes as a file. */
export function prepareCamera(take: (photo: File) => void): void {
  const snap = find<HTMLInputElement>("#snap");
  const dialog = find<HTMLDialogElement>("#viewfinder");
  const video = find<HTMLVideoElement>("#video");
  const shutter = find<HTMLButtonElement>("#shutter");
  snap.addEventListener("change", () => {
    for (const photo of snap.files ?? []) take(photo);
    snap.value = "";
  });
  find("#camera").addEventListener("click", () => {
    if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) snap.click();
    else void openFinder(dialog, video, shutter);
  });
  shutter.addEventListener("click", async () => {
    const photo = await still(video);
    dialog.close();
    take(photo);
  });
  find("#leave").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => stop(video));
}

async function openFinder(dialog: HTMLDialogElement, video: HTMLVideoElement, shutter: HTMLButtonElement): Promise<void> {
  find("#camera-said").textContent = "";
  video.hidden = false;
  shutter.disabled = true;
  dialog.showModal();
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 }, facingMode: "user" } });
    if (!dialog.open) return stream.getTracks().forEach((track) => track.stop()); // closed while the browser was asking
    video.srcObject = stream;
    await video.play();
    shutter.disabled = false;
    shutter.focus();
  } catch (error) {
    video.hidden = true;
    const name = error instanceof Error ? error.name : "";
    find("#camera-said").textContent = REFUSED[name] ?? `The camera cannot be used (${name}). Choose a photo instead.`;
  }
}

async function still(video: HTMLVideoElement): Promise<File> {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
  if (blob === null) throw new Error("the browser gave no picture of the camera");
  return new File([blob], "camera.jpg", { type: "image/jpeg" });
}

function stop(video: HTMLVideoElement): void {
  if (video.srcObject instanceof MediaStream) video.srcObject.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
}
