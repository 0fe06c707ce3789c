const form = document.querySelector("form");
const { photo: input, cancel } = form.elements;
const said = form.querySelector("output");
const send = form.querySelector("button");
const worker = new Worker("worker.js", { type: "module" });
worker.postMessage({ bundle: new URL(form.dataset.bundle, location.href).href });

form.addEventListener("submit", async (event) => {
  event.preventDefault(); // nothing leaves before it is protected
  const photo = input.files[0];
  send.disabled = input.disabled = true;
  cancel.hidden = false;
  const { status, image, name, error } = await protect(photo);
  send.disabled = input.disabled = false;
  cancel.hidden = true;
  if (status !== "protected") {
    said.value = error ?? `Nothing was sent: the photo is not protected (${status}).`;
    return;
  }
  const files = new DataTransfer();
  files.items.add(new File([image], name, { type: image.type }));
  input.files = files.files; // the protected photo takes the place of the original
  form.submit();
});

cancel.addEventListener("click", () => worker.postMessage({ cancel: true }));

function protect(photo) {
  return new Promise((settle) => {
    worker.onerror = () => settle({ error: "Nothing was sent: the worker stopped. Reload the page." });
    worker.onmessage = ({ data }) => {
      if (data.status || data.error) settle(data);
      else said.value = `${data.stage}, ${data.done} of ${data.total}`;
    };
    worker.postMessage({ photo, strength: form.dataset.strength });
  });
}
