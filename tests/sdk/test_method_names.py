"""The SDK knows no method by name, but for its two defaults: recipes say everything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import faceprotect_sdk
from faceprotect_engines.store import ZOO
from faceprotect_sdk.methods import DEFAULT, QUICK

SDK = Path(faceprotect_sdk.__file__).parent
NAMES = {path.stem for path in (ZOO / "recipes").glob("*.json")}


def words_of(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string of a module, f-strings' parts too, but not of docstrings: those are there to explain."""
    tree = ast.parse(source)
    explained = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in explained:
            yield node.lineno, node.value


def named(text: str) -> bool:
    """Whether a string is a method's name or tells the user to take that method; the default's is a device's name too."""
    advised = re.findall(r"(?:--method |\bmethod=')(\w[\w-]*)", text)
    return text in NAMES - {DEFAULT} or bool(NAMES & {*advised})


@pytest.mark.parametrize("path", sorted(SDK.rglob("*.py")), ids=lambda path: str(path.relative_to(SDK)))
def test_no_source_of_the_sdk_spells_a_method(path: Path) -> None:
    own = {QUICK} if path.name == "catalogue.py" else set()  # where the two defaults are named, once
    assert not [(line, text) for line, text in words_of(path.read_text(encoding="utf-8")) if named(text) and text not in own]


def test_the_guard_sees_what_it_is_there_for() -> None:
    assert {"auto", "makeup", "diffusion-published"} <= NAMES
    source = '"""Explains latent."""\nX = ("fast", "auto")\ndef f(x):\n    """fast"""\n    return f"{x}: use --method latent"\n'
    source += "Y = \"Use method='latent'\"\n"
    assert sorted(line for line, text in words_of(source) if named(text)) == [2, 5, 6]
