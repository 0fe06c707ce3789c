"""The scripts that maltreat the command line, in small: broken files and kills, over the toy engines."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import toy_zoo
from click.testing import CliRunner
from PIL import Image

import fuzz
import kills
import service
from harness.broken import BREAKERS, sources
from harness.command import few_engines

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits on a process and its signals, as Linux has them")


def _run(command: Any, zoo: Path, tmp_path: Path, *words: str) -> dict[str, Any]:
    photo, out = tmp_path / "toy.png", tmp_path / "out.json"
    Image.fromarray(toy_zoo.photo(320, 240)).save(photo)
    done = CliRunner().invoke(command.main, ["--zoo", str(zoo), "--photo", str(photo), "--out", str(out), *words])
    document: dict[str, Any] = json.loads(out.read_text())
    assert document["faults"] == []
    assert done.exit_code == 0, done.output
    return document


def test_broken_files_end_as_bad_input_or_as_photos(zoo: Path, tmp_path: Path) -> None:
    document = _run(fuzz, zoo, tmp_path, "--files", "60", "--seed", "7")
    assert sum(document["exit_codes"].values()) == 60
    assert {"4", "6"} <= document["exit_codes"].keys(), "some are refused, and some come to the search"


def test_a_batch_survives_being_killed(zoo: Path, tmp_path: Path) -> None:
    """Each signal at least once; the last of five kills comes while weights are being put into an empty cache."""
    document = _run(kills, zoo, tmp_path, "--kills", "5", "--photos", "2")
    assert sum(document["ended"].values()) == 5


@pytest.mark.skipif(find_spec("uvicorn") is None, reason="the extra [serve] is not installed")
def test_the_service_survives_a_storm(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # of the sockets that refuse: this one speaks to a server on this machine
    document = _run(service, zoo, tmp_path, "--uploads", "8", "--method", "latent", "--slow-seconds", "2")
    assert document["answers"] == {"200 protected": 8}
    assert document["hostile"]["bomb: 413 too_many_pixels"] == 8


def test_every_source_is_a_file_that_is_read_or_refused_by_its_kind(tmp_path: Path) -> None:
    """What is broken is whole to begin with."""
    from faceprotect_sdk.errors import UnreadableInput
    from faceprotect_sdk.photo.reading import load

    for name, data in sources(Image.fromarray(toy_zoo.photo(64, 48))).items():
        try:
            assert load(data).size in ((64, 48), (48, 64)), name
        except UnreadableInput as error:
            assert name.split(".")[0] in ("animated", "gif", "tiff", "avif"), error


def test_the_same_seed_breaks_the_same_bytes(tmp_path: Path) -> None:
    picture = Image.fromarray(toy_zoo.photo(64, 48))
    count = len(sources(picture)) * len(BREAKERS)
    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        made.append([one.path.read_bytes() for one in fuzz.break_files(picture, folder, count, 3)])
    assert made[0] == made[1]
    assert len(set(made[0])) > 0.9 * count, "and each otherwise"


def test_faults_are_found(zoo: Path, tmp_path: Path) -> None:
    """An output that nobody announced, a code that is none of a bad input, a stack, and a process that took too much."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "0000-cut-a_protected.jpg").write_bytes(b"half")
    one = fuzz.Broken(tmp_path / "0000-cut-a.jpg", "a.jpg", "cut")
    said = {str(one.path): {"exit_code": 1, "output": None, "error": {"type": "ValueError"}}}
    found = fuzz.faults([one], fuzz.Batch(said, 1, "Traceback (most recent call last)", fuzz.LIMIT), outputs)
    named = [line.split(":")[0] for line in found]
    assert named == ["0000-cut-a.jpg", "a stack on stderr", "1.50 GB of memory", "0000-cut-a_protected.jpg"]


def test_the_smallest_zoo_is_whole(tmp_path: Path) -> None:
    from faceprotect_engines.store import Store

    store = Store([few_engines(tmp_path / "few")], cache=tmp_path / "cache")
    for name in store.names():
        store.verify(name)
    assert {store.manifest(name).role for name in store.names()} >= {"detector", "protector", "surrogate", "judge"}
