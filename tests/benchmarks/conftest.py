"""A toy benchmark: the toy zoo, recognisers that project windows at random, and people who are textures with a red dot.

The strong judge sees what the toy surrogates see, so that a search that fools them fools it; the weak one sees something else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # noqa: F401 - with the next two, here instead of in each of the processes that a benchmark forks
import pytest
import torch  # noqa: F401
import torchmetrics.functional.image  # noqa: F401
import toy_zoo
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import protection
from faceprotect_sdk.face.align import ARCFACE_112, CANONICAL_POINTS

PEOPLE = 4


def write_recogniser(path: Path, seed: int) -> None:
    """[1, 3, 112, 112] to a random projection of 14 x 14 means, without the mean colour."""
    weights = np.random.default_rng(seed).standard_normal((588, 16)).astype(np.float32)
    weights -= weights.mean(0)
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([-1, 588], np.int64), "shape")]
    nodes = [
        helper.make_node("AveragePool", ["image"], ["means"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["means", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["embedding"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 112, 112])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 16])
    graph = helper.make_graph(nodes, path.stem, [image], [embedding], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_zoo.build(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def fr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two judges and a surrogate, as in an fr.json."""
    folder = tmp_path_factory.mktemp("fr")
    models: dict[str, Any] = {}

    def listed(name: str, role: str, size: int, template: str) -> None:
        models[name] = {
            "file": f"{name}.onnx",
            "role": role,
            "input": {"name": "image", "shape": [1, 3, size, size], "template": template},
            "thresholds": {"far_1e-2": 0.7, "far_1e-3": 0.8},
        }

    toy_zoo.make_judge(folder / "judge", 0, 1)
    (folder / "judge/model.onnx").rename(folder / "strong.onnx")
    listed("strong", "judge", 256, "whole")
    models["strong"]["strong"] = True
    for index, (name, role) in enumerate({"weak": "judge", "helper": "surrogate"}.items()):
        write_recogniser(folder / f"{name}.onnx", index)
        listed(name, role, 112, "toy")
    templates = {
        "toy": {"size": 112, "points": ARCFACE_112.tolist()},
        "whole": {"size": 256, "points": CANONICAL_POINTS.tolist()},
    }
    (folder / "fr.json").write_text(json.dumps({"models": models, "templates": templates}))
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Photo and partner of each person differ by a little noise."""
    folder = tmp_path / "pairs"
    for part in ("train_align", "test_align", "target_images", "test_images"):
        (folder / part).mkdir(parents=True)
    for person in range(1, PEOPLE + 1):
        for part, noise in (("train_align", 0.0), ("test_align", 4.0)):
            save(folder / part / f"{part.split('_')[0]}_{person}.png", person, noise)
    save(folder / "target_images" / "a.png", 50, 0.0)
    save(folder / "test_images" / "b.png", 50, 4.0)
    return folder


def save(path: Path, person: int, noise: float) -> None:
    rng = np.random.default_rng(person)
    pixels = toy_zoo.photo(320, 320, seed=person) + rng.normal(0, noise, (320, 320, 3))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


class Bench:
    """One call of the command over the toys."""

    def __init__(self, zoo: Path, fr: Path, pairs: Path, folder: Path) -> None:
        self.zoo, self.fr, self.pairs, self.folder = zoo, fr, pairs, folder

    def __call__(self, *words: str, methods: str = "latent,mi-fgsm@30", name: str = "out") -> Result:
        given = {"--pairs": self.pairs, "--fr": self.fr, "--zoo": self.zoo, "--out": self.folder / f"{name}.json", "--methods": methods}
        fixed = ["--no-dlib", "--workers", "1", *(str(word) for pair in given.items() for word in pair)]
        return CliRunner().invoke(protection.main, [*fixed, *words])

    def document(self, *words: str, methods: str = "latent,mi-fgsm@30", name: str = "out") -> dict[str, Any]:
        result = self(*words, methods=methods, name=name)
        assert result.exit_code == 0, result.output
        document: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        return document


@pytest.fixture
def bench(zoo: Path, fr: Path, pairs: Path, tmp_path: Path) -> Bench:
    return Bench(zoo, fr, pairs, tmp_path)
