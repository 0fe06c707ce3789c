"""The command line as tests call it."""

from __future__ import annotations

import json

import pytest

from faceprotect_sdk.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[dict], str]:
    """Exit code, the JSON objects on stdout, and stderr."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    return code, [json.loads(line) for line in lines if line.startswith("{")], captured.err
