"""A zoo of tiny linear engines with hand-written gradients, so that the whole path runs in a second without weights.

Detector: a face wherever there is a red dot. Autoencoder: average pooling by 8 and nearest-neighbour enlargement.
Recognisers: random projections of the pooled crop. The judge sees what both surrogates see, so a search that fools them
fools it too; the stubborn judge sees something else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from toy_graph import FACE_SIZE, IMAGE, LATENT, MASK, SURROGATES, THRESHOLD, E, Graph, embed, grow, pool, projection, reference, similarity

from faceprotect_engines.files.manifest import ExternalWeights
from faceprotect_sdk.face.align import CANONICAL_POINTS


def make_surrogate(folder: Path, seed: int, threshold: float = THRESHOLD, **facts: object) -> Path:
    """A gradient engine in the form that ``export surrogate`` makes; ``facts``: further metadata."""
    g = Graph()
    unit, cosine, gradient = similarity(g, "image", "reference", projection(seed))
    g.op("Identity", unit, name="embedding")
    g.op("Identity", cosine, name="similarity")
    g.op("Identity", gradient, name="grad_image")
    g.save(
        folder,
        {"image": IMAGE, "reference": (1, E)},
        {"embedding": (1, E), "similarity": (1,), "grad_image": IMAGE},
        role="surrogate",
        metadata={"thresholds": {"far_1e-2": threshold}, **facts},
    )
    return folder


def make_judge(folder: Path, *seeds: int, threshold: float = THRESHOLD) -> Path:
    """An embedding engine over the projections of ``seeds``."""
    g = Graph()
    weights = np.concatenate([projection(seed) for seed in seeds], 1)
    embed(g, "image", g.const(weights), name="embedding")
    g.save(
        folder,
        {"image": IMAGE},
        {"embedding": (1, weights.shape[1])},
        role="judge",
        metadata={"thresholds": {"far_1e-2": threshold}},
    )
    return folder


def make_mesh(folder: Path) -> Path:
    """A face mesh all of whose points lie where the mean colour says."""
    g = Graph()
    mean = g.op("ReduceMean", "image", g.const([2, 3], np.int64), keepdims=0)
    grown = g.op("Mul", g.op("Reshape", mean, g.const([1, 1, 3], np.int64)), g.const(192.0))
    g.op("Expand", grown, g.const([1, 468, 3], np.int64), name="points")
    g.save(folder, {"image": (1, 3, 192, 192)}, {"points": (1, 468, 3)}, role="mesh")
    return folder


def _make_detector(folder: Path) -> None:
    g = Graph()
    red = g.op("Slice", "image", *(g.const([value], np.int64) for value in (0, 1, 1)))
    green = g.op("Slice", "image", *(g.const([value], np.int64) for value in (1, 2, 1)))
    excess = g.op("Div", g.op("Sub", red, green), g.const(255.0))
    g.op("AveragePool", excess, name="heatmap", kernel_shape=[28, 28], strides=[4, 4], pads=[12, 12, 12, 12])
    relative = (CANONICAL_POINTS - [128.0, 150.0]) / 180.0 + 0.5
    flat = g.op("Mul", "heatmap", g.const(0.0))
    constants = {
        "scale": np.full((1, 2, 1, 1), np.log(FACE_SIZE / 4)),
        "offset": np.zeros((1, 2, 1, 1)),
        "landmarks": relative[:, ::-1].reshape(1, 10, 1, 1),
    }
    for name, value in constants.items():
        g.op("Add", flat, g.const(value), name=name)
    g.save(
        folder,
        {"image": (1, 3, "h", "w")},
        {
            "heatmap": (1, 1, "a", "b"),
            "scale": (1, 2, "a", "b"),
            "offset": (1, 2, "a", "b"),
            "landmarks": (1, 10, "a", "b"),
        },
        role="detector",
    )


def _make_autoencoder(root: Path) -> None:
    g = Graph()
    g.op("AveragePool", "image", name="latent", kernel_shape=[8, 8], strides=[8, 8])
    g.save(root / "face-encoder", {"image": IMAGE}, {"latent": LATENT}, role="encoder")
    g = Graph()
    g.op("Add", "original", _difference(g), name="image")
    grow(g, g.op("Add", "latent", "offset"), name="decoded")
    g.save(root / "latent-decode", _DECODE_INPUTS, {"image": IMAGE, "decoded": IMAGE}, role="decoder")


GOALS = ("dodge", "first", "second")


LOOKS = ("plain", "bright")


def make_makeup(folder: Path, looks: tuple[str, ...] = LOOKS, goals: tuple[str, ...] = ("dodge",)) -> None:
    """Looks that lighten the face, each more than the one before."""
    g = Graph()
    row = g.const(0.1 * np.arange(1, len(looks) + 1).reshape(1, len(looks)))
    lighter = g.op("ReduceSum", g.op("Mul", "look", row), g.const([1], np.int64), keepdims=0)
    told = g.op("Mul", g.op("Add", g.op("ReduceSum", "goal", g.const([1], np.int64), keepdims=0), "budget"), g.const(0.0))
    g.op("Mul", "mask", g.op("Add", g.op("Mul", "original", g.const(0.0)), g.op("Add", lighter, told)), name="difference")
    g.save(
        folder,
        {"original": IMAGE, "mask": MASK, "budget": (1,), "goal": (1, len(GOALS)), "look": (1, len(looks))},
        {"difference": IMAGE},
        role="protector",
        metadata={"goals": list(GOALS), "trained_goals": list(goals), "looks": list(looks), "surrogates": list(SURROGATES)},
    )


def make_fast(folder: Path, gain: float = 1e-4, learnt_from: Sequence[str] = ()) -> None:
    """A student that has learnt one pattern, ``gain`` times the budget high: too little to fool anybody, unless it is made strong."""
    g = Graph()
    g.op("AveragePool", "original", name="latent", kernel_shape=[8, 8], strides=[8, 8])
    pattern = np.random.default_rng(5).standard_normal(LATENT) * gain
    budget, turned = g.op("Reshape", "budget", g.const([1, 1, 1, 1], np.int64)), g.op("Gather", "goal", g.const([0], np.int64), axis=1)
    sign = g.op("Reshape", g.op("Sub", g.op("Mul", turned, g.const(2.0)), g.const(1.0)), g.const([1, 1, 1, 1], np.int64))
    g.op("Mul", g.op("Mul", g.const(pattern), budget), sign, name="offset")
    grow(g, "latent", name="decoded_original")
    g.op("Mul", "mask", grow(g, "offset"), name="difference")
    g.save(
        folder,
        {"original": IMAGE, "mask": MASK, "budget": (1,), "goal": (1, len(GOALS))},
        {"difference": IMAGE, "offset": LATENT, "latent": LATENT, "decoded_original": IMAGE},
        role="protector",
        metadata={"goals": list(GOALS), "surrogates": list(SURROGATES), "learnt_from": list(learnt_from)},
    )


_DECODE_INPUTS = {"latent": LATENT, "offset": LATENT, "decoded_original": IMAGE, "original": IMAGE, "mask": MASK}


def _difference(g: Graph, name: str | None = None) -> str:
    decoded = grow(g, g.op("Add", "latent", "offset"))
    return g.op("Mul", "mask", g.op("Sub", decoded, "decoded_original"), name=name)


def _make_step(folder: Path) -> None:
    g = Graph()
    difference = _difference(g, "difference")
    image = g.op("Add", "original", difference)
    seen = g.op("Add", g.op("MatMul", g.op("MatMul", "rows", image), "cols"), "noise")
    cosines, pull = [], g.const(np.zeros((1, 3, 256, 256)))
    for index, name in enumerate(SURROGATES):
        _, cosine, gradient = similarity(g, seen, reference(name), projection(index))
        weight = g.op("Gather", "weights", g.const([index], np.int64))
        pull = g.op("Add", pull, g.op("Mul", gradient, weight))
        cosines.append(cosine)
    cosine = g.op("Concat", *cosines, name="similarity", axis=0)
    axes = g.const([0, 1, 2, 3], np.int64)
    penalty = g.op("ReduceMean", g.op("Mul", difference, difference), axes, keepdims=0)
    g.op("Reshape", penalty, g.const([1], np.int64), name="penalty")
    weighted = g.op("ReduceSum", g.op("Mul", cosine, "weights"), g.const([0], np.int64), keepdims=1)
    inner = g.op("ReduceSum", g.op("Mul", image, "image_cotangent"), axes, keepdims=0)
    g.op("Sum", weighted, g.op("Mul", "penalty", "penalty_weight"), inner, name="loss")
    turned = {name: g.op("Transpose", name, perm=[0, 2, 1]) for name in ("rows", "cols")}
    pulled = g.op("MatMul", g.op("MatMul", turned["rows"], pull), turned["cols"])
    press = g.op("Mul", g.op("Mul", difference, "penalty_weight"), g.const(2.0 / np.prod(IMAGE)))
    total = g.op("Mul", "mask", g.op("Sum", pulled, press, "image_cotangent"))
    g.op("Mul", pool(g, total), g.const(64.0), name="grad_offset")
    inputs = {
        **_DECODE_INPUTS,
        "rows": (1, 256, 256),
        "cols": (1, 256, 256),
        "noise": IMAGE,
        **{reference(name): (1, E) for name in SURROGATES},
        "weights": (2,),
        "penalty_weight": (1,),
        "image_cotangent": IMAGE,
    }
    outputs = {"loss": (1,), "similarity": (2,), "penalty": (1,), "difference": IMAGE, "grad_offset": LATENT}
    g.save(folder, inputs, outputs, role="step", metadata={"surrogates": list(SURROGATES)})


def strengths(*budgets: float) -> dict:
    """Three that may spend these budgets."""
    margins = {"low": 1.5, "medium": 2.0, "high": 3.0}
    return {name: {"margin": margin, "budget": budget} for (name, margin), budget in zip(margins.items(), budgets, strict=True)}


def recipe(steps: int = 40) -> dict:
    """The recipe of the method ``latent`` over these engines."""
    decode = {name: name for name in _DECODE_INPUTS}
    plain = {"latent": "latent", "offset": "zero_offset", "decoded_original": "original", "original": "original"}
    return {
        "schema": 2,
        "name": "latent",
        "description": "a search in the latent",
        "order": 2,
        "strengths": strengths(0.00032, 0.00064, 0.0012),
        "parameters": {"budget": 1.0},
        "constants": {"zero_offset": {"zeros": list(LATENT)}},
        "stages": [
            {"kind": "map", "engine": "face-encoder", "inputs": {"image": "original"}, "outputs": {"latent": "latent"}},
            {
                "kind": "map",
                "engine": "latent-decode",
                "inputs": {**plain, "mask": "mask"},
                "outputs": {"decoded": "decoded_original"},
            },
            {
                "kind": "descend",
                "engine": "latent-step",
                "variable": "offset",
                "inputs": {
                    **decode,
                    **{reference(name): reference(name) for name in SURROGATES},
                },
                "optimiser": {"name": "adamw", "learning_rate": 0.02},
                "steps": steps,
                "draws": {"probability": 0.3, "resize": [0.9, 1.0]},
                "constraint": {"start": 1.0, "grow": 1.2, "shrink": 0.8, "patience": 10},
                "join": {"original": "original", "difference": "difference", "further": 0.9},
                "keep": {"difference": "difference"},
            },
        ],
    }


#: What recipes of a single pass state alike.
_PASS = {"description": "one pass", "strengths": strengths(0.00025, 0.00036, 0.0006), "attempts": [0.64, 0.8, 1.0], "beyond": "auto"}


def fast_recipe() -> dict:
    """The recipe of the method ``fast`` over these engines."""
    inputs = {name: name for name in ("original", "mask", "budget", "goal")}
    stage = {"kind": "map", "engine": "fast", "inputs": inputs, "outputs": {"difference": "difference"}}
    return {"schema": 2, "name": "fast", **_PASS, "budgets": {"budget": 1.0}, "stages": [stage]}


def makeup_recipe() -> dict:
    """The recipe of the method ``makeup`` over these engines."""
    inputs = {name: name for name in ("original", "mask", "budget", "goal", "look")}
    stage = {"kind": "map", "engine": "makeup", "inputs": inputs, "outputs": {"difference": "difference"}}
    return {"schema": 2, "name": "makeup", **_PASS, "budgets": {"budget": 1.0}, "stages": [stage]}


def auto_recipe() -> dict:
    """The recipe of the method ``auto``: the student, then the search from there."""
    first, search = fast_recipe()["stages"][0], recipe()["stages"][-1]
    first["outputs"] = {name: name for name in ("offset", "latent", "decoded_original")}
    search["constraint"]["accept_start"] = 1
    return {**recipe(), "name": "auto", "order": 1, "budgets": {"budget": 1.0}, "beyond": "latent", "stages": [first, search]}


def build(root: Path) -> Path:
    """Write the whole zoo into ``root`` and return it."""
    _make_detector(root / "face-detector")
    _make_autoencoder(root)
    for index, name in enumerate(SURROGATES):
        make_surrogate(root / name, index)
    make_judge(root / "toy-judge", 0, 1)
    _make_step(root / "latent-step")
    (root / "recipes").mkdir(exist_ok=True)
    make_fast(root / "fast")
    make_makeup(root / "makeup")
    for document in (recipe(), fast_recipe(), auto_recipe(), makeup_recipe()):
        (root / "recipes" / f"{document['name']}.json").write_text(json.dumps(document))
    return root


def missing_weights(folder: Path) -> ExternalWeights:
    """An entry for a package that nobody has."""
    return ExternalWeights("no-such-package-xyz", "no_such_package_xyz/w.bin", "0" * 64, 4, "w.bin")


def unfetched_weights() -> ExternalWeights:
    """An entry for a file that nobody has fetched."""
    return ExternalWeights("", "w.bin", "0" * 64, 4, "w.bin", "https://example.org/w.bin")


def photo(width: int = 320, height: int = 240, faces: int = 1, seed: int = 0) -> np.ndarray:
    """uint8 RGB photo with ``faces`` red dots on a smooth coloured texture, evenly spread."""
    import cv2

    generator = np.random.default_rng(seed)
    small = generator.uniform(60, 190, (height // 8 + 1, width // 8 + 1, 3)).astype(np.float32)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    image[..., 0] = np.minimum(image[..., 0], image[..., 1] + 60)  # no red dots by accident
    image = np.clip(image, 0, 255).astype(np.uint8)
    for index in range(faces):
        centre = (round(width * (index + 1) / (faces + 1)), height // 2)
        cv2.circle(image, centre, round(13 * max(width, height) / 640), (255, 0, 0), -1)
    return image
