"""``protect --help``: choices and formats are there, in groups, and every line fits a terminal of 80 columns."""

from __future__ import annotations

import re

import pytest

from faceprotect_engines.store import Store
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.cli.protect import protect
from faceprotect_sdk.methods import methods_of
from faceprotect_sdk.photo import formats


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["protect", "--help"]) == 0
    return capsys.readouterr().out


def test_every_option_stands_in_a_group_with_words(printed: str) -> None:
    left = {name for parameter in protect.params for name in parameter.opts if name.startswith("--")}
    for group in re.split(r"\n(?=\S.*:\n)", printed)[1:]:
        left -= set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", group, re.M))
    assert not left
    assert "\nOther:\n  -h, --help" in printed, "only --help has no group"


def test_choices_and_formats_are_listed(printed: str) -> None:
    flat = " ".join(printed.split())
    for name in methods_of(Store()):
        assert f"{name}: " in flat, f"--method says in words what {name} is"
    for word in ("low ", "medium ", "high ", "dodge:", "decoy:", "JPEG (.jpg", "PNG (.png)", "WEBP (.webp)", "auto|cpu|cuda"):
        assert word in flat


def test_lines_fit(printed: str) -> None:
    assert max(len(line) for line in printed.splitlines()) <= 80


def test_what_has_to_be_installed_for_a_format_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "reads", lambda container: container != "HEIC")
    assert main(["protect", "--help"]) == 0
    flat = " ".join(capsys.readouterr().out.split())
    assert "this installation reads and writes: JPEG, PNG, WebP, AVIF. HEIC needs the package pillow-heif" in flat
