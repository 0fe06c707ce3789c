"""The two engines of a method that searches in a generator's codes: the plain decoding, and the fused gradient step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faceprotect_export.build.folder import EngineRecipe, PackageSource
from faceprotect_export.objectives.search import Decode, SearchDecode, SearchStep, Term, reference_input
from faceprotect_export.onnx_io.writer import ExternalTensor
from faceprotect_export.surrogates.dlib_engine import DLIB_WINDOW, FILE, LOCATION, PACKAGE
from faceprotect_export.surrogates.dlib_resnet import embed, fold_affine, read_weights, stored_tensors
from faceprotect_export.zoo.sources import Sources, card
from faceprotect_sdk.face.align import CROP

IMAGE = {"layout": "NCHW", "color": "RGB", "range": (0.0, 1.0)}
DLIB = "dlib-resnet"
#: Surrogates inside the step engines.
STEP_SURROGATES = (DLIB, "student-conv")
DESCRIBE: dict[str, dict[str, Any]] = {
    "offset": {"range": (-0.3, 0.3), "description": "the searched variable"},
    "decoded_original": {**IMAGE, "description": "decoding of the codes without offset"},
    "original": {**IMAGE, "description": "canonical crop"},
    "mask": {"layout": "NCHW", "range": (0.0, 1.0), "description": "where the crop may change, feathered"},
    "image": {**IMAGE, "description": "protected crop"},
    "decoded": {**IMAGE, "description": "decoding with the offset, not clamped"},
    "difference": {**IMAGE, "range": (-1.0, 1.0), "description": "protected crop minus original"},
    "moved": {**IMAGE, "range": (-1.0, 1.0), "description": "decoding with the offset minus the one without, without the mask"},
    "rows": {"layout": "matrix", "description": "what surrogates see: rows @ image @ cols + noise"},
    "cols": {"layout": "matrix"},
    "noise": {"layout": "NCHW", "range": (-0.02, 0.02)},
    "weights": {"range": (0.5, 1.0), "description": "per surrogate, in the order of metadata.surrogates"},
    "penalty_weight": {"range": (100.0, 300.0)},
    "shares": {"range": (0.0, 1.0), "description": "in the penalty: of colour, lost structure, the mid band's peak, the method's own"},
    "image_cotangent": {"layout": "NCHW", "range": (-0.001, 0.001), "description": "gradient of recognisers outside the graph"},
}


@dataclass(frozen=True)
class SearchSpace:
    """A generator as a method searches in it.

    ``name``: of the method. ``decode``: its generator. ``samples``: per parity crop, what that takes, with an offset as large as a search
    makes. ``terms``: further prices, with ``term_inputs`` per crop; ``shares``: of colour, structure, the mid band and these in the parity
    samples. ``describe``: of both kinds of input. ``training``: how the generator was made; ``facts``: what a caller has to know of it,
    for the manifests.
    """

    name: str
    decode: Decode
    samples: Sequence[Mapping[str, Tensor]]
    describe: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    terms: Mapping[str, Term] = field(default_factory=dict)
    term_inputs: Sequence[Mapping[str, Tensor]] = ()
    shares: tuple[float, ...] = (0.5, 0.01, 0.2)

    def card(self, engine: str, **facts: Any) -> dict[str, Any]:
        """What the manifest of one of its engines says."""
        return {**card(engine, self.training), "metadata": {**self.facts, **facts}}

    def faces(self, crops: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """What both engines take: the codes, a face, its plain decoding, a mask."""
        found = []
        for crop, codes in zip(crops, self.samples, strict=True):
            plain = self.decode(**{**codes, "offset": torch.zeros_like(codes["offset"])})
            found.append({**codes, "decoded_original": plain, "original": crop, "mask": torch.full((1, 1, CROP, CROP), 0.75)})
        return found


class PackageDlib(nn.Module):
    """dlib's recogniser whose stored tensors arrive as inputs, named ``dlib_<tensor>``."""

    rows: Tensor
    cols: Tensor

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.weight_names = [f"dlib_{name}" for name in names]
        rows, cols = DLIB_WINDOW.matrices(CROP)
        self.register_buffer("rows", torch.from_numpy(rows))
        self.register_buffer("cols", torch.from_numpy(cols))

    def forward(self, image: Tensor, **tensors: Tensor) -> Tensor:
        weights = fold_affine({k.removeprefix("dlib_").replace("_", "."): v for k, v in tensors.items()})
        return nn.functional.normalize(embed(weights, self.rows @ image @ self.cols), dim=1)


def decode_recipe(space: SearchSpace, crops: Sequence[Tensor], *, program: bool) -> EngineRecipe:
    """``NAME-decode``: the image for an offset, forward only."""
    return EngineRecipe(
        name=f"{space.name}-decode",
        role="decoder",
        function=SearchDecode(space.decode),
        samples=space.faces(crops),
        describe={**DESCRIBE, **space.describe},
        weights="fp16",
        manifest=space.card(f"{space.name}-decode"),
        program=program,
    )


def step_recipe(
    space: SearchSpace, crops: Sequence[Tensor], surrogates: Mapping[str, nn.Module], dlib: Path, *, program: bool
) -> EngineRecipe:
    """``NAME-step``: one gradient step; ``surrogates`` in order, with dlib's recogniser, whose weights stay in its package, before them."""
    stored = {t.name.replace(".", "_"): t for t in stored_tensors(dlib)}
    values = {f"dlib_{k.replace('.', '_')}": torch.from_numpy(v) for k, v in read_weights(dlib).items()}
    nets = {DLIB: PackageDlib(list(stored)), **surrogates}
    samples = []
    further = space.term_inputs or [{} for _ in crops]
    for index, (face, priced) in enumerate(zip(space.faces(crops), further, strict=True)):
        crop = face["original"]
        near = (crop + 0.1 * torch.randn(crop.shape, generator=torch.Generator().manual_seed(index))).clamp(0, 1)
        samples.append(
            {
                **face,
                **priced,
                "rows": torch.eye(CROP)[None],
                "cols": torch.eye(CROP)[None],
                "noise": torch.zeros_like(crop),
                "weights": torch.ones(len(nets)),
                "penalty_weight": torch.full((1,), 300.0),
                "shares": torch.tensor(space.shares),
                "image_cotangent": torch.zeros_like(crop),
            }
            | {reference_input(name): _embed_with(net, near, values) for name, net in nets.items()}
        )
    references = {reference_input(name): {"range": (-0.1, 0.1), "description": "unit embedding to move away from"} for name in nets}
    package = {f"dlib_{k}": ExternalTensor(LOCATION, t.offset, t.length) for k, t in stored.items()}
    return EngineRecipe(
        name=f"{space.name}-step",
        role="step",
        function=SearchStep(space.decode, nets, dict(space.terms)),
        samples=samples,
        variables=("offset",),
        describe={**DESCRIBE, **references, **space.describe},
        weights="fp16",
        package=PackageSource(PACKAGE, FILE, dlib, package),
        weights_inputs=values,
        program=program,
        manifest=space.card(f"{space.name}-step", surrogates=list(nets)),
    )


def _embed_with(net: nn.Module, image: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Embedding of a surrogate, with the package's tensors passed on where it takes them."""
    return net(image, **{key: values[key] for key in getattr(net, "weight_names", ())})


def shipped_step_recipe(space: SearchSpace, sources: Sources) -> EngineRecipe:
    """The step on the surrogates that ship."""
    students = {name: sources.student(name.removeprefix("student-"))[0] for name in STEP_SURROGATES if name != DLIB}
    return step_recipe(space, sources.crops, students, sources.dlib, program=sources.program)
