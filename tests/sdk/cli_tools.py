"""The command line as tests call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faceprotect_sdk.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[dict], str]:
    """Exit code, the JSON objects on stdout, and stderr."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    return code, [json.loads(line) for line in lines if line.startswith("{")], captured.err


#: On the processor, and with the shipped judges alone.
QUIET = ["--device", "cpu", "--no-installed-judges"]


def folder(path: Path) -> dict[str, bytes]:
    """Contents of the files in a folder, by name."""
    return {item.name: item.read_bytes() for item in path.iterdir() if item.is_file()}
