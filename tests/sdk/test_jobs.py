"""``protect --jobs``: what one job makes, made by several, whichever of them is killed; and the manifest that a rerun goes on from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import toy_zoo
from cli_tools import QUIET, folder, run
from PIL import Image

from faceprotect_sdk.cli.manifest import Lines
from faceprotect_sdk.errors import OutputError
from faceprotect_sdk.workers.worker import share
from harness.command import command, surroundings

#: In the toy zoo, whose faces are dots without nose and mouth.
TOY = ["--method", "latent", "--even-covered", *QUIET]
PATIENCE = 60.0


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Four photos with a face, one without, and one that is none."""
    made = tmp_path / "photos"
    made.mkdir()
    for number, faces in enumerate((1, 1, 0, 1, 1)):
        Image.fromarray(toy_zoo.photo(faces=faces, seed=number)).save(made / f"{number}.png")
    (made / "5.png").write_bytes(b"no photo")
    return sorted(made.iterdir())


def batch(capsys: pytest.CaptureFixture[str], photos: list[Path], out: Path, *options: object) -> tuple[int, list[dict], str]:
    return run(capsys, "protect", *photos, "-o", f"{out}{os.sep}", *TOY, "--json", *options)


@pytest.mark.usefixtures("toy_cli")
def test_several_jobs_make_the_bytes_of_one_in_the_order_of_the_inputs(
    capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path
) -> None:
    alone = batch(capsys, photos, tmp_path / "one", "--seed", 3, "--sheet", f"{tmp_path / 'one'}{os.sep}")
    both = batch(capsys, photos, tmp_path / "two", "--seed", 3, "--jobs", 2, "--sheet", f"{tmp_path / 'two'}{os.sep}")
    assert folder(tmp_path / "one") == folder(tmp_path / "two")
    assert len(folder(tmp_path / "one")) == 8
    assert (alone[0], [one["status"] for one in alone[1]]) == (both[0], [one["status"] for one in both[1]])
    assert [one["input"] for one in both[1]] == [str(photo) for photo in photos]
    assert both[1][5]["error"]["code"] == "unreadable_input"
    assert both[2].count("5.png: not a JPEG") == 1


@pytest.mark.usefixtures("toy_cli")
def test_photos_that_would_have_one_output_wait_for_each_other(
    capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.png").write_bytes(photos[1].read_bytes())
    code, documents, _ = batch(capsys, [photos[0], other / "0.png", photos[3]], tmp_path / "out", "--jobs", 3, "--force")
    assert [one["status"] for one in documents] == ["protected", "error", "protected"]
    assert "was written for another photo of this run" in documents[1]["error"]["message"]
    assert code == 2


@pytest.mark.usefixtures("toy_cli")
def test_a_rerun_passes_over_what_is_done_and_lies_as_it_was_written(
    capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path
) -> None:
    out, manifest = tmp_path / "out", tmp_path / "m.jsonl"
    code, first, _ = batch(capsys, photos, out, "--manifest", manifest)
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [line["input"] for line in lines] == [str(photo) for photo in photos], "one line an input"
    assert not manifest.with_name("m.jsonl.begun").exists()
    written = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "0_protected.png").unlink()
    (out / "1_protected.png").write_bytes(b"other")
    again = batch(capsys, photos, out, "--manifest", manifest)
    assert [one.get("done_before", False) for one in again[1]] == [False, False, True, True, True, False]
    assert [one["status"] for one in again[1]] == ["protected", "error", "no_face", "protected", "protected", "error"]
    assert "already exists" in again[1][1]["error"]["message"], "what somebody else put there is not replaced"
    assert (code, again[0]) == (4, 2)
    assert (out / "3_protected.png").stat().st_mtime_ns == written[out / "3_protected.png"]
    (out / "1_protected.png").unlink()
    other = batch(capsys, photos[3:4], out, "--manifest", manifest, "--seed", 7)
    assert "already exists" in other[1][0]["error"]["message"], "with other settings it is another piece of work"
    words = run(capsys, "protect", *photos[3:5], "-o", f"{out}{os.sep}", *TOY, "--manifest", manifest)
    assert words[0] == 0
    assert first[3]["output"] == str(out / "3_protected.png")


@pytest.mark.usefixtures("toy_cli")
def test_a_torn_line_is_passed_over_and_what_is_no_manifest_is_left_alone(
    capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path
) -> None:
    out, manifest = tmp_path / "out", tmp_path / "m.jsonl"
    batch(capsys, photos[:2], out, "--manifest", manifest)
    manifest.write_bytes(manifest.read_bytes()[:-20])
    assert run(capsys, "protect", photos[0], "-o", f"{out}{os.sep}", *TOY, "--manifest", manifest, "--json")[1][0]["done_before"]
    (out / "1_protected.png").unlink()
    assert batch(capsys, photos[:2], out, "--manifest", manifest)[0] == 0
    assert all(line.get("done_before") for line in batch(capsys, photos[:2], out, "--manifest", manifest)[1])
    before = photos[3].read_bytes()
    for wrong in (photos[3], photos[0]):
        assert batch(capsys, photos[:2], out, "--manifest", wrong)[0] == 2
    assert photos[3].read_bytes() == before
    assert batch(capsys, [Path("-")], out, "--manifest", manifest)[0] == 2


def test_one_run_at_a_time_writes_a_manifest(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    lines = Lines(tmp_path / "m.jsonl")
    with pytest.raises(OutputError, match="another run"):
        Lines(tmp_path / "m.jsonl")
    lines.close()
    Lines(tmp_path / "m.jsonl").close()


def test_threads_are_shared_out() -> None:
    assert share(1, 4) == 1
    assert share(None, 10**6) == 1
    assert share(None, 1) >= share(None, 2) >= 1


def _start(zoo: Path, photos: list[Path], out: Path, *options: object) -> subprocess.Popen[str]:
    words = ["protect", *map(str, photos), "-o", f"{out}{os.sep}", *TOY, "--json", "--jobs", "2", *map(str, options)]
    environment = surroundings(out.parent / "cache")
    return subprocess.Popen(command(*words, zoo=zoo), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Its processes that work, which multiprocessing's own helper does not."""
    return [one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline())]


def _many(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    for number in range(count):
        Image.fromarray(toy_zoo.photo(seed=number)).save(folder / f"{number:02}.png")
    return sorted(folder.iterdir())


def _wait_for(process: subprocess.Popen[str], out: Path, count: int) -> None:
    end = time.monotonic() + PATIENCE
    while len(list(out.glob("*_protected.png"))) < count:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_worker_that_is_killed_is_replaced_and_its_photo_tried_again(zoo: Path, tmp_path: Path) -> None:
    photos, out = _many(tmp_path / "photos", 6), tmp_path / "out"
    process = _start(zoo, photos, out)
    _wait_for(process, out, 1)
    _workers(process)[0].kill()
    said, errors = process.communicate(timeout=PATIENCE)
    documents = [json.loads(line) for line in said.splitlines()]
    assert process.returncode == 0, errors
    assert [one["input"] for one in documents] == [str(photo) for photo in photos]
    assert len(folder(out)) == 6


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whatever_ends_a_run_the_next_one_goes_on_and_no_worker_stays(zoo: Path, tmp_path: Path, kind: signal.Signals) -> None:
    photos, out, manifest = _many(tmp_path / "photos", 6), tmp_path / "out", tmp_path / "m.jsonl"
    process = _start(zoo, photos, out, "--manifest", manifest)
    _wait_for(process, out, 2)
    workers = _workers(process)
    process.send_signal(kind)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == (-kind if kind == signal.SIGKILL else 128 + kind)
    gone, left = psutil.wait_procs(workers, timeout=15)
    assert not left
    assert len(gone) == 2
    assert not list(out.glob(".*.part")), "a worker removes what it has half written"
    manifest.write_bytes(manifest.read_bytes() + b'{"input_sha256": "12')  # and a power cut
    process = _start(zoo, photos, out, "--manifest", manifest)
    said, errors = process.communicate(timeout=PATIENCE)
    documents = [json.loads(line) for line in said.splitlines()]
    assert process.returncode == 0, errors
    assert sum(one.get("done_before", False) for one in documents) >= 1
    assert [one["input"] for one in documents] == [str(photo) for photo in photos]
    assert len(folder(out)) == 6
