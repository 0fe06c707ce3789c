"""What is advised fits what went wrong, and is never what was done already."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faceprotect_sdk import FaceResult, NotProtected, ProtectResult, Quality, Verdict
from faceprotect_sdk.cli.report import lacking
from faceprotect_sdk.result import LATE


def still_matched(
    method: str = "auto",
    strength: str = "medium",
    *,
    took_part: bool = True,
    late: bool = False,
    searches: bool = True,
    beyond: str = "latent",
) -> ProtectResult:
    verdict = Verdict("some", 0.5, 0.3, matched=True, took_part=took_part)
    quality = Quality(60.0, None, 5.0, 38.0, 0.97)
    face = FaceResult(0, (0, 0, 9, 9), (), 0.9, "still_matched", (verdict,), quality, 3, search_passed=False, steps=96)
    return replace(result("still_matched", (face,), method, strength, late=late), searches=searches, beyond=beyond)


def result(status: str, faces: tuple[FaceResult, ...], method: str, strength: str, *, late: bool = False) -> ProtectResult:
    return ProtectResult(
        status,
        faces,
        len(faces),
        None,
        b"x" if faces else None,
        "JPEG",
        (9, 9),
        method,
        "dodge",
        strength,
        0,
        "cpu",
        {},
        {},
        "0",  # type: ignore[arg-type]
        (LATE,) if late else (),
    )


@pytest.mark.parametrize(
    ("found", "says", "never"),
    [
        (still_matched(), "strength='high'", "fetch"),
        (still_matched(took_part=False), "engines fetch all", "latent"),
        (still_matched(strength="high"), "method='latent'", "strength='high'"),
        (still_matched("latent", "high", beyond=""), "No strength is higher", "method="),
        (still_matched(strength="high", took_part=False), "engines fetch all", "strength='high'"),
        (still_matched("fast", "high", searches=False, beyond="auto"), "method='auto'", "strength="),
        (still_matched("makeup", searches=False, beyond="auto"), "method='auto'", "strength="),
        (still_matched(late=True), "time_budget=", "strength="),
        (result("no_face", (), "auto", "medium"), "larger", "strength="),
    ],
)
def test_advice(found: ProtectResult, says: str, never: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert says in found.advice
    assert never not in found.advice
    with pytest.raises(NotProtected) as refused:
        found.save(tmp_path_factory.mktemp("out") / "x.jpg")
    assert str(refused.value).endswith(found.advice)


def test_what_is_missing_names_what_ended_the_search() -> None:
    said = {late: lacking(found := still_matched(late=late), found.faces[0]) for late in (False, True)}
    assert "strength medium" in said[False]
    assert "time" in said[True]
    assert "strength" not in said[True]
