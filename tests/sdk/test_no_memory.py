"""What is said of a photo for which there is no memory left."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_tools import run as _run

from faceprotect_sdk.photo import pil_image
from faceprotect_sdk.photo.picture import Photo

pytestmark = pytest.mark.usefixtures("toy_cli")
QUIET = ["--device", "cpu", "--no-installed-judges"]


def test_a_photo_without_memory_for_it_says_what_to_do_and_ends_itself_alone(
    capsys: pytest.CaptureFixture[str], png: Path, jpeg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = pil_image.upright

    def starved(photo: Photo) -> Photo:
        if photo.container == "PNG":
            raise MemoryError
        return decoded(photo)

    monkeypatch.setattr(pil_image, "upright", starved)
    code, documents, error = _run(capsys, "protect", png, jpeg, "--json", *QUIET)
    assert code == 1
    assert [document["exit_code"] for document in documents] == [1, 0]
    assert "no memory left for this photo" in error and "scale it down" in error
    assert not png.with_name("me_protected.png").exists()
