/** Lets messages in and pictures be drawn, then raises the signal's reason where it was aborted: a worker hears of that only between tasks. */
export async function breathe(signal?: AbortSignal): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
  signal?.throwIfAborted();
}
