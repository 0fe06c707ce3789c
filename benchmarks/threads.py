"""Whether calls of one protector run side by side: throughput, latency beside a search, and memory over many photos.

    python benchmarks/threads.py --out benchmarks/results/threads.json
    python benchmarks/threads.py --photos 200 --out benchmarks/results/threads_memory.json

The photo is scikit-image's astronaut. ``throughput``: several threads with a photo each on one protector, against one thread with as many
photos after each other; the two take turns, so that other work on the machine disturbs both alike. ``faces``: the latency of ``faces()``
alone, and beside a search of ``auto``. ``memory``: resident megabytes after every photo, and how much they grow after the tenth.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from faceprotect_sdk import EnginePool, Protector
from harness.provenance import command_line, environment

#: Photos before which memory is still being taken for good: engines, arenas, caches.
SETTLED = 10


def astronaut() -> bytes:
    """JPEG q95 of scikit-image's astronaut, 512 px."""
    from PIL import Image
    from skimage import data

    buffer = io.BytesIO()
    Image.fromarray(data.astronaut()).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    return cost(work)[0]


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call, and seconds of the processor in all threads of this process, which other programs hardly disturb."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - used


def together(work: Callable[[int], object], count: int) -> None:
    """Run ``work`` in so many threads; raises what the first that failed raised."""
    failed: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            work(index)
        except BaseException as error:  # noqa: BLE001 - a thread's error is raised where it was started
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def throughput(protector: Protector, photo: bytes, threads: int, repeat: int) -> dict[str, Any]:
    """Seconds of ``threads`` photos side by side and one after the other, in turns, and the ratio of their medians."""
    images: set[bytes | None] = set()

    def one(seed: int) -> None:
        images.add(_bytes(protector.protect(photo, seed=0)))

    def after_each_other() -> None:
        for index in range(threads):
            one(index)

    one(0)
    side, after = list[tuple[float, float]](), list[tuple[float, float]]()
    for _ in range(repeat):
        after.append(cost(after_each_other))
        side.append(cost(lambda: together(one, threads)))
    wall, processor = ([(first[kind], second[kind]) for first, second in zip(side, after, strict=True)] for kind in (0, 1))
    return {
        "method": protector.settings.method,
        "photos": threads,
        "repeat": repeat,
        "wall": _compared(wall),
        "processor": _compared(processor),
        "same_bytes": len(images) == 1,
    }


def _compared(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Seconds side by side and one after the other, and the first over the second: pair by pair, and their medians."""
    side, after = zip(*pairs, strict=True)
    return {
        "side_by_side_s": _rounded(side),
        "one_after_the_other_s": _rounded(after),
        "ratios": _rounded(one / other for one, other in pairs),
        "ratio_of_medians": round(statistics.median(side) / statistics.median(after), 3),
    }


def latency(quick: Protector, searching: Protector, photo: bytes) -> dict[str, Any]:
    """Seconds of ``faces()`` alone, and for as long as a search of another protector on the same engines runs."""
    quick.faces(photo)
    alone = [timed(lambda: quick.faces(photo)) for _ in range(10)]
    beside: list[float] = []
    search = threading.Thread(target=lambda: searching.protect(photo))
    took = time.perf_counter()
    search.start()
    while search.is_alive():
        beside.append(timed(lambda: quick.faces(photo)))
    took = time.perf_counter() - took
    return {
        "alone_p50_s": round(statistics.median(alone), 4),
        "beside_p50_s": round(statistics.median(beside), 4),
        "beside_max_s": round(max(beside), 4),
        "calls": len(beside),
        "search_s": round(took, 2),
    }


def memory(protector: Protector, photo: bytes, photos: int) -> dict[str, Any]:
    """Resident megabytes (10^6 bytes) while so many photos are protected one after the other; growth from the tenth to the last ten."""
    resident = []
    for _ in range(photos):
        protector.protect(photo)
        resident.append(resident_mb())
    settled, last = resident[SETTLED - 1], statistics.median(resident[-SETTLED:])
    return {
        "photos": photos,
        "after_tenth_mb": settled,
        "last_ten_median_mb": last,
        "largest_mb": max(resident),
        "growth_percent": round(100 * (last / settled - 1), 2),
        "every_twentieth_mb": resident[::20],
    }


def resident_mb() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _bytes(result: Any) -> bytes | None:
    return result.image or result.unconfirmed


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 3) for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--method", default="fast")
    parser.add_argument("--threads", type=int, default=3, help="photos side by side")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--photos", type=int, default=0, help="measure memory over so many photos, at least 20, and nothing else")
    given = parser.parse_args()
    if given.photos and given.photos < 2 * SETTLED:
        parser.error(f"--photos: {2 * SETTLED} at least")
    photo = astronaut()
    document: dict[str, Any] = {"command": command_line(), **environment(1), "load": round(os.getloadavg()[0], 1)}
    with EnginePool() as pool, Protector(given.method, pool=pool) as protector, Protector("auto", pool=pool) as searching:
        if given.photos:
            document["memory"] = memory(protector, photo, given.photos)
        else:
            document["throughput"] = throughput(protector, photo, given.threads, given.repeat)
            searching.warm()
            document["faces"] = latency(protector, searching, photo)
    text = json.dumps(document, indent=1)
    if given.out is not None:
        given.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
