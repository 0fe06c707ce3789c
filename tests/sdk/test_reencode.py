"""Pixels and other containers of a result: verdicts belong to the bytes that they were made on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy_zoo

from faceprotect_engines.store import Store
from faceprotect_sdk import NotProtected, Protector, UsageError
from faceprotect_sdk.photo.reading import load


def test_pixels_are_those_of_the_written_file(protector: Protector, jpeg: Path) -> None:
    result = protector.protect(jpeg)
    assert result.image is not None
    found = result.pixels
    assert found is not None and found.dtype == np.uint8
    np.testing.assert_array_equal(found, load(result.image).rgb8())
    assert (found != load(jpeg).rgb8()).any()
    assert protector.protect(toy_zoo.photo(faces=0)).pixels is None


@pytest.mark.parametrize(("container", "quality"), [("JPEG", 60), ("WEBP", 80), ("PNG", 95)])
def test_other_bytes_are_scored_anew(protector: Protector, png: Path, container: str, quality: int) -> None:
    result = protector.protect(png)
    other = protector.encode(result, png, container, quality)
    assert (other.status, other.container) == ("protected", container)
    assert other.image is not None
    written = load(other.image)
    assert written.container == container
    assert written.mark is not None, "it says that it has been protected"
    judge = protector._parts.judges()[0]
    place = judge.locate(load(png).rgb8(), protector.faces(png)[0])
    expected = judge.similarity(judge.embed(load(png).rgb8(), place), judge.embed(written.rgb8(), place))
    (verdict,) = (one for one in other.faces[0].verdicts if one.recogniser == judge.name)
    assert verdict.similarity == pytest.approx(expected, abs=1e-5)
    if container == "PNG":
        np.testing.assert_array_equal(other.pixels, result.pixels)
    else:
        assert verdict.before is not None and verdict.before < 1.0
        assert other.faces[0].quality != result.faces[0].quality


def test_a_container_that_brings_the_person_back_gives_no_image(store: Store, tmp_path: Path, png: Path) -> None:
    with Protector(store=store, device="cpu", installed_judges=False) as protector:
        result = protector.protect(png)
    stubborn = toy_zoo.make_judge(tmp_path / "stubborn", 77, threshold=-1.0)
    with Protector(store=store, device="cpu", judges=[stubborn], installed_judges=False) as strict:
        other = strict.encode(result, png, "JPEG")
    assert (other.status, other.image, other.pixels) == ("still_matched", None, None)
    assert other.unconfirmed is not None
    assert result.protected, "what was given stays as good as it was"
    with pytest.raises(NotProtected):
        other.save(tmp_path / "x.jpg")


def test_what_cannot_be_encoded_is_refused(protector: Protector, pixels: np.ndarray) -> None:
    result = protector.protect(pixels)
    clear = protector.protect(np.dstack([pixels, np.full(pixels.shape[:2], 200, np.uint8)]))
    for arguments in ((result, pixels, "GIF"), (result, pixels, "JPEG", 0), (result, pixels[:-8], "JPEG")):
        with pytest.raises(UsageError):
            protector.encode(*arguments)
    with pytest.raises(UsageError, match="transparency"):
        protector.encode(clear, pixels, "JPEG")
    with pytest.raises(NotProtected):
        protector.encode(protector.protect(toy_zoo.photo(faces=0)), pixels, "JPEG")
