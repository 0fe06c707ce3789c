"""One base for everything that is raised on purpose, with a code that an app can rely on."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import faceprotect_engines
import faceprotect_sdk
from faceprotect_engines.errors import DeviceUnavailable, EngineNotFound, OutOfMemory, WeightsMissing
from faceprotect_export import commands as export_commands
from faceprotect_sdk.cli.hints import as_options, said_of
from faceprotect_sdk.errors import ExitCode, FaceprotectError, NoFace, UnreadableInput, UsageError, exit_code_of
from faceprotect_sdk.judging import specification


def every_class() -> list[type[FaceprotectError]]:
    """Those of both floors and of the command line; what exporting adds is no part of the run time."""
    assert issubclass(export_commands.ExportError, FaceprotectError)
    assert issubclass(specification.SpecificationError, FaceprotectError)
    found, waiting = [], [FaceprotectError]
    while waiting:
        one = waiting.pop()
        waiting += one.__subclasses__()
        found.append(one)
    return [one for one in found if one.__module__.startswith(("faceprotect_engines", "faceprotect_sdk"))]


def test_every_error_has_a_code_of_its_own() -> None:
    classes = every_class()
    assert len(classes) >= 20
    assert all("code" in vars(one) for one in classes), "an inherited code says less than the class does"
    codes = [one.code for one in classes]
    assert len(set(codes)) == len(codes)
    assert {"no_face", "weights_missing", "device_unavailable", "cancelled"} <= set(codes)
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)


def test_both_floors_share_the_base() -> None:
    assert faceprotect_sdk.FaceprotectError is faceprotect_engines.FaceprotectError
    for error, code in ((WeightsMissing("x"), ExitCode.ENGINE), (UsageError("x"), ExitCode.USAGE), (NoFace("x"), ExitCode.NO_FACE)):
        with pytest.raises(FaceprotectError):
            raise error
        assert exit_code_of(error) == code
    assert exit_code_of(FaceprotectError("x")) == exit_code_of(ValueError("x")) == ExitCode.INTERNAL


def test_a_hint_is_apart_from_the_message_and_survives_a_process() -> None:
    error = pickle.loads(pickle.dumps(UnreadableInput("a: is empty", hint="Copy it again")))
    assert (error.message, error.hint, str(error)) == ("a: is empty", "Copy it again", "a: is empty. Copy it again")
    assert str(EngineNotFound("gone")) == "gone"
    assert EngineNotFound("gone").hint == ""


@pytest.mark.parametrize(
    ("hint", "option"),
    [
        ("Use method='auto'", "Use --method auto"),
        ("insist: even_covered=True, or again=True", "insist: --even-covered, or --again"),
        ("name one: judges=[FILE]", "name one: --judge FILE"),
        ("give time_budget=SECONDS or threads=1", "give --time-budget SECONDS or --threads 1"),
        ("Use another device=, or", "Use another --device, or"),
        ("Choose another path", "Choose another -o"),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_the_command_line_makes_options_of_arguments(hint: str, option: str) -> None:
    assert as_options(hint) == option


def test_what_the_user_named_is_not_rewritten() -> None:
    assert said_of(UsageError("again=True.jpg: no", hint="again=True")) == "again=True.jpg: no. --again"


def test_no_hint_of_the_library_is_an_option() -> None:
    """An app has no command line: what its arguments are called stands in hints as Python writes it."""
    root = Path(faceprotect_sdk.__file__).parents[2]
    for path in [*root.glob("sdk/faceprotect_sdk/**/*.py"), *root.glob("engines/faceprotect_engines/**/*.py")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "hint=" in line and path.parent.name != "cli":
                words = line.partition("hint=")[2]
                assert "--" not in words or "faceprotect" in words, f"{path.name}: {line.strip()}"


def test_errors_of_the_engines_floor_say_what_to_do() -> None:
    assert as_options(OutOfMemory("full", hint="use device='cpu'").hint) == "use --device cpu"
    assert isinstance(DeviceUnavailable("x"), faceprotect_sdk.EngineError)
