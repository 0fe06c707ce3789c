"""Many photos through one call, in order, a few at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from faceprotect_sdk.photo.reading import PhotoLike
from faceprotect_sdk.result import ProtectResult


@dataclass(frozen=True)
class Outcome:
    """What became of one photo: a ``result``, which may say that it is not protected, or the ``error`` that was raised."""

    photo: PhotoLike
    result: ProtectResult | None
    error: BaseException | None

    def get(self) -> ProtectResult:
        """The result; raises the error in its place."""
        if self.result is None:
            raise self.error if self.error is not None else AssertionError("an outcome has a result or an error")
        return self.result


def in_order(
    protect: Callable[[PhotoLike, threading.Event], ProtectResult], photos: Iterable[PhotoLike], workers: int
) -> Iterator[Outcome]:
    """Outcomes in the order of ``photos``, of which at most ``workers`` are worked on, and one more is waiting, at any time.

    ``protect``: is given an event that is set once nobody waits for its result any more. An error of ``photos`` itself ends the run.
    """
    stop, waiting = threading.Event(), deque[tuple[PhotoLike, "Future[ProtectResult]"]]()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="faceprotect-map")
    try:
        for photo in photos:
            waiting.append((photo, executor.submit(protect, photo, stop)))
            if len(waiting) > workers:
                yield _outcome(*waiting.popleft())
        while waiting:
            yield _outcome(*waiting.popleft())
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _outcome(photo: PhotoLike, future: Future[ProtectResult]) -> Outcome:
    error = future.exception()
    return Outcome(photo, None if error is not None else future.result(), error)
