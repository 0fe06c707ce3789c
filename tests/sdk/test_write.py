"""Files are whole or absent, and never replaced silently."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

import numpy as np
import pytest

from faceprotect_sdk.errors import ExitCode, OutputError, WriteError, exit_code_of, worst
from faceprotect_sdk.photo.reading import Photo
from faceprotect_sdk.photo.write import Destination, _lock, check_output, for_several, output_path, sweep, write_atomic


def _photo(path: Path | None, container: str = "JPEG") -> Photo:
    return Photo(np.zeros((2, 2, 3), np.uint8), container, path=path)  # type: ignore[arg-type]


def test_names(tmp_path: Path) -> None:
    photo = _photo(tmp_path / "me.JPG")
    assert output_path(photo, None) == tmp_path / "me_protected.JPG"
    for folder in (str(tmp_path), f"{tmp_path}/", f"{tmp_path}/new", f"{tmp_path}/trip.2026/"):
        assert output_path(photo, Destination.of(folder)) == Path(folder) / "me_protected.JPG"
    assert output_path(photo, Destination.of(f"{tmp_path}/x.jpeg")) == tmp_path / "x.jpeg"
    with pytest.raises(OutputError, match=r"JPEG.*x\.jpg"):
        output_path(photo, Destination.of(f"{tmp_path}/x.png"))


def test_write_and_replace(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    write_atomic(target, b"first")
    with pytest.raises(OutputError, match="force=True"):
        write_atomic(target, b"second")
    assert target.read_bytes() == b"first"
    write_atomic(target, b"second", force=True)
    assert target.read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_mid_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, force: bool
) -> None:
    old = tmp_path / "out.png"
    if force:
        old.write_bytes(b"old")

    def full(_: int) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else WriteError):
        write_atomic(old, b"x" * 1000, force=force)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([b"old"] if force else [])


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    longest = os.pathconf(tmp_path, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
    target = tmp_path / f"{'x' * (longest - 4)}.png"
    check_output(target, None, force=False)
    write_atomic(target, b"1")
    write_atomic(target, b"2", force=True)
    assert target.read_bytes() == b"2"
    with pytest.raises(OutputError, match="too long"):
        check_output(target.with_name("x" + target.name), None, force=False)
    with pytest.raises(OutputError, match="null"):
        check_output(tmp_path / "a\0b.png", None, force=False)


def test_what_a_killed_run_has_left_is_swept_and_what_is_being_written_stays(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    left, live = tmp_path / ".faceprotect-aa.part", tmp_path / ".faceprotect-bb.part"
    left.write_bytes(b"half")
    (tmp_path / "mine.part").write_bytes(b"")
    with live.open("xb") as stream:
        assert _lock(stream)
        sweep(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [live.name, "mine.part"]
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.part"]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_atomic(tmp_path / "a.png", b"1")
    with pytest.raises(OutputError):
        write_atomic(tmp_path / "a.png", b"2")
    assert (tmp_path / "a.png").read_bytes() == b"1"


def test_outputs_refused_before_the_work(tmp_path: Path) -> None:
    source = tmp_path / "me.png"
    source.write_bytes(b"x")
    with pytest.raises(OutputError, match="input itself"):
        check_output(source, source, force=True)
    alias = tmp_path / "alias.png"
    alias.symlink_to(source)
    with pytest.raises(OutputError, match="input itself"):
        check_output(alias, source, force=True)
    with pytest.raises(OutputError, match="is a file"):
        check_output(source / "new" / "x.png", source, force=False)
    with pytest.raises(OutputError, match="folder"):
        check_output(tmp_path, source, force=True)


def test_folders_that_are_missing_are_made_when_there_is_something_to_write(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "x.png"
    check_output(target, None, force=False)
    assert not target.parent.parent.exists(), "looking makes nothing"
    write_atomic(target, b"x")
    assert [path.name for path in target.parent.iterdir()] == ["x.png"]


def test_several_photos_need_a_folder_and_the_remedy_can_be_pasted(tmp_path: Path) -> None:
    for_several(Destination.of(f"{tmp_path}/x.png/"), "-o")
    with pytest.raises(OutputError) as refused:
        for_several(Destination.of(f"{tmp_path}/it's me.png"), "-o")
    pasted = shlex.split(str(refused.value).partition("it is one: ")[2])
    assert pasted == ["-o", f"{tmp_path}/it's me.png/"]


def test_an_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="not writable"):
        check_output(tmp_path / "x.png", None, force=False)


def test_worst_code_wins_in_the_documented_order() -> None:
    assert worst([]) == ExitCode.PROTECTED
    assert worst([0, 3]) == ExitCode.NO_FACE
    assert worst([3, 6, 0]) == ExitCode.STILL_MATCHED
    assert worst([6, 4]) == ExitCode.UNREADABLE
    assert worst([4, 2, 5]) == ExitCode.ENGINE
    assert worst([5, 1, 130]) == ExitCode.INTERRUPTED
    assert exit_code_of(ValueError()) == ExitCode.INTERNAL
    assert exit_code_of(KeyboardInterrupt()) == ExitCode.INTERRUPTED
