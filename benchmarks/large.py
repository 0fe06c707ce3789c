"""Seconds and peak memory of ``faceprotect-sdk protect`` on a JPEG of 200 megapixels.

The photo is made here from scikit-image's cup of coffee with its astronaut's head beside it, enlarged until the face is 1500 px wide, with
noise as a sensor has it. It is made and each setting is run in a process of its own; the peak is the kernel's ``ru_maxrss``,
which a process inherits from the one that starts it: this one stays small.

    python benchmarks/large.py --out benchmarks/results/large.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np

WIDTH, HEIGHT = 16320, 12240
NOISE = 3.0
BAND = 1024


def make_photo(path: Path, width: int, height: int, seed: int) -> None:
    """JPEG q90, 4:2:0, of a cup of coffee and a head, in the size asked for."""
    import cv2
    from skimage import data

    photo = data.coffee()
    photo[:120, :126] = cv2.resize(data.astronaut()[20:220, 120:330], (126, 120), interpolation=cv2.INTER_AREA)
    large = cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(seed).normal(0, NOISE, (BAND, width, 1)).astype(np.float32)
    for top in range(0, height, BAND):
        band = large[top : top + BAND]
        noisy = band + noise[: len(band)]
        large[top : top + BAND] = np.clip(np.rint(noisy), 0, 255)
    large = large[..., ::-1]
    written, coded = cv2.imencode(".jpg", np.ascontiguousarray(large), [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not written:
        raise SystemExit("the photo could not be encoded")
    path.write_bytes(coded.tobytes())


def measured(photo: Path, output: Path, options: list[str]) -> dict[str, object]:
    """What one run of the command took, and what it said."""
    command = [sys.executable, "-m", "faceprotect_sdk", "protect", str(photo), "-o", str(output)]
    command += ["--force", "--keep-unconfirmed", "--json", *options]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        said = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    document = json.loads(said.splitlines()[0])
    faces = [[round(side) for side in face["box"]] for face in document.get("faces", [])]
    return {
        "options": options,
        "exit_code": process.returncode,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_gb": round(used.ru_maxrss * 1024 / 1e9, 3),
        "timings": document.get("timings"),
        "faces": faces,
        "status": document.get("status"),
        "error": document.get("error"),
        "bytes_written": next((file.stat().st_size for file in output.parent.glob("large_[pu]*.jpg")), None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--height", type=int, default=HEIGHT)
    parser.add_argument("--methods", default="fast,auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--make", type=Path, help="only make the photo")
    given = parser.parse_args()
    if given.make is not None:
        make_photo(given.make, given.width, given.height, given.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "large.jpg"
        size = ["--width", str(given.width), "--height", str(given.height), "--seed", str(given.seed)]
        subprocess.run([sys.executable, __file__, "--make", str(photo), *size], check=True)  # noqa: S603 - this very script
        written = photo.with_name("large_protected.jpg")
        runs = [measured(photo, written, ["--method", method, "--threads", "1"]) for method in given.methods.split(",")]
        document = {
            "versions": {name: metadata.version(name) for name in ("onnxruntime", "opencv-python", "pillow", "numpy")},
            "command": "python benchmarks/large.py " + " ".join(sys.argv[1:]),
            "commit": os.environ.get("COMMIT", ""),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} while it ran",
            "photo": {"width": given.width, "height": given.height, "bytes": photo.stat().st_size, "seed": given.seed},
            "runs": runs,
        }
    if given.out is not None:
        given.out.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
