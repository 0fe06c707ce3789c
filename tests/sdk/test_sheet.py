"""The picture of a protection: panels of the photos, the difference around mid grey, a warning where it is still matched."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import toy_zoo
from cli_tools import run
from PIL import Image

from faceprotect_sdk import Protector
from faceprotect_sdk.cli.sheet import SIDE, difference, panel, sheet, sheet_bytes
from faceprotect_sdk.result import FaceResult

QUIET = ["--device", "cpu", "--no-installed-judges"]
GAP, LINE = 12, 20


@pytest.fixture
def face(protector: Protector, pixels: np.ndarray) -> FaceResult:
    return protector.protect(pixels).faces[0]


def panels(picture: Image.Image, top: int = 0) -> list[np.ndarray]:
    whole, y = np.asarray(picture), top + GAP + LINE
    return [whole[y : y + SIDE, x : x + SIDE] for x in (GAP + k * (SIDE + GAP) for k in range(3))]


def test_panels_are_the_faces_and_their_difference(pixels: np.ndarray, face: FaceResult) -> None:
    points = np.array(face.points)
    changed = np.clip(pixels.astype(int) + 4, 0, 255).astype(np.uint8)
    first, second, third = panels(sheet(pixels, changed, [face]))
    np.testing.assert_array_equal(first, panel(pixels, points))
    np.testing.assert_array_equal(second, panel(changed, points))
    assert np.median(third) == 128 + 10 * 4
    same = panels(sheet(pixels, pixels, [face]))[2]
    assert set(np.unique(same)) <= {128, 255}, "mid grey, and white beside it"


def test_the_difference_is_signed_and_clipped() -> None:
    before, after = np.array([[100, 100, 100]], np.uint8), np.array([[101, 98, 160]], np.uint8)
    assert difference(before, after).tolist() == [[138, 108, 255]]


def test_a_face_that_is_still_matched_is_marked(pixels: np.ndarray, face: FaceResult) -> None:
    def red(picture: Image.Image) -> int:
        title = np.asarray(picture).astype(int)[GAP : GAP + LINE]
        return int(((title[..., 0] - title[..., 1]) > 100).sum())

    assert red(sheet(pixels, pixels, [face])) == 0
    assert red(sheet(pixels, pixels, [dataclasses.replace(face, status="still_matched")])) > 200


def test_a_row_per_face_and_a_line_per_recogniser(pixels: np.ndarray, face: FaceResult) -> None:
    one, two = sheet(pixels, pixels, [face]), sheet(pixels, pixels, [face, face])
    assert two.height - GAP == 2 * (one.height - GAP)
    fewer = dataclasses.replace(face, verdicts=face.verdicts[:1])
    assert one.height - sheet(pixels, pixels, [fewer]).height == LINE * (len(face.verdicts) - 1)


def test_what_cannot_be_compared_is_refused(pixels: np.ndarray, face: FaceResult) -> None:
    for second, faces in ((pixels[1:], [face]), (pixels, [])):
        with pytest.raises(ValueError, match="one size and a face"):
            sheet(pixels, second, faces)


def test_suffix_decides_the_container(pixels: np.ndarray, face: FaceResult) -> None:
    picture = sheet(pixels, pixels, [face])
    kinds = {suffix: Image.open(io.BytesIO(sheet_bytes(picture, suffix))) for suffix in (".png", ".JPG", ".jpeg")}
    assert {suffix: image.format for suffix, image in kinds.items()} == {".png": "PNG", ".JPG": "JPEG", ".jpeg": "JPEG"}
    assert all(image.size == picture.size and not image.getexif() for image in kinds.values())


pytestmark = pytest.mark.usefixtures("toy_cli")


def test_protect_draws_it_also_where_the_photo_is_still_matched(capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path) -> None:
    code, (document,), _ = run(capsys, "protect", png, "--sheet", tmp_path / "a.png", "--json", *QUIET)
    assert (code, document["sheet"]) == (0, str(tmp_path / "a.png"))
    stubborn = toy_zoo.make_judge(tmp_path / "stubborn", 77, threshold=-1.0)
    words = ["protect", png, "--judge", stubborn, "-o", tmp_path / "b.png", "--sheet", tmp_path / "c.jpg", *QUIET]
    code, (document,), _ = run(capsys, *words, "--json")
    assert (code, document["output"], document["sheet"]) == (6, None, str(tmp_path / "c.jpg"))
    assert Image.open(tmp_path / "c.jpg").width == Image.open(tmp_path / "a.png").width
    assert not (tmp_path / "b.png").exists()


def test_no_face_no_sheet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.fromarray(toy_zoo.photo(faces=0)).save(tmp_path / "wall.png")
    code, (document,), _ = run(capsys, "protect", tmp_path / "wall.png", "--sheet", tmp_path / "a.png", "--json", *QUIET)
    assert (code, document["sheet"]) == (3, None)
    assert not (tmp_path / "a.png").exists()


def test_sheets_follow_the_rules_of_outputs(capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path) -> None:
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    for wrong, message in (
        (taken, "--force"),
        (png, "original is never replaced"),
        (tmp_path / "a.webp", "PNG or a JPEG"),
        (png.with_name("me_protected.png"), "another --sheet"),
        (png / "a.png", "is a file"),
    ):
        code, _, error = run(capsys, "protect", png, "--sheet", wrong, *QUIET)
        assert code == 2
        assert message in error
    code, _, error = run(capsys, "protect", png, taken, "--sheet", tmp_path / "a.png", *QUIET)
    assert code == 2
    assert "need a folder" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert taken.read_bytes() == b"mine"
    assert run(capsys, "protect", png, "--sheet", taken, "--force", *QUIET)[0] == 0
    assert Image.open(taken).format == "PNG"


def test_several_photos_draw_into_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path, png: Path, jpeg: Path) -> None:
    folder, other = tmp_path / "new" / "sheets", jpeg.with_name("you.jpg")
    jpeg.rename(other)
    assert run(capsys, "protect", png, other, "--sheet", folder, *QUIET)[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["me_sheet.png", "you_sheet.png"]
