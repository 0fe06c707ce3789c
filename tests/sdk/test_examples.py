"""The examples work and stay short."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import toy_zoo

from faceprotect_engines.store import Store
from faceprotect_sdk import Protector
from faceprotect_sdk.photo.reading import load

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_fit_on_a_screen(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60


def test_upload(protector: Protector, png: Path) -> None:
    handler = _example("protect_upload").protect_upload
    status, body = handler(protector, png.read_bytes())
    assert status == 200
    assert body != png.read_bytes()
    assert load(body).size == load(png).size
    wall = cv2.imencode(".png", toy_zoo.photo(faces=0)[..., ::-1])[1].tobytes()
    assert handler(protector, wall) == (422, b"not protected: no_face")
    assert handler(protector, b"not a photo")[0] == 415


def test_camera_on_a_file(protector: Protector, tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (320, 240))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write a video")
    for index in range(4):
        writer.write(np.ascontiguousarray(toy_zoo.photo(faces=int(index < 2), seed=index)[..., ::-1]))
    writer.release()
    statuses = _example("camera").save_stills(protector, str(clip), tmp_path / "stills", every=2)
    assert statuses == ["protected", "no_face"]
    assert [path.name for path in (tmp_path / "stills").iterdir()] == ["still_0000.png"]
    with pytest.raises(SystemExit):
        list(_example("camera").frames(str(tmp_path / "none.avi"), 1))


def test_a_row_that_comes_again_makes_the_same_file(zoo: Path, store: Store, png: Path, tmp_path: Path) -> None:
    """What Ray does with the rows of a worker that died; Ray itself is not needed for it."""
    actor = _example("ray_bulk").Protect(
        str(tmp_path / "out"), {"store": store, "method": "latent", "device": "cpu", "installed_judges": False}
    )
    row = {"input": str(png)}
    (tmp_path / "out").mkdir()
    first = actor(row)
    assert first == {**row, "status": "protected", "output": str(tmp_path / "out" / "me_protected.png")}
    data = Path(first["output"]).read_bytes()
    assert actor(row) == first
    assert Path(first["output"]).read_bytes() == data
    assert actor({"input": str(tmp_path / "gone.png")})["status"] == "unreadable_input"
