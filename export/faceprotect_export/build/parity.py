"""How close an engine comes to torch autograd: measured for every engine made, and written into its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


@dataclass(frozen=True)
class OutputParity:
    """One output: largest absolute difference over the largest reference value, and the cosine between both."""

    relative_error: float
    cosine: float
    reference_max: float


@dataclass(frozen=True)
class ParityReport:
    """All outputs of one engine against one reference."""

    reference: str
    outputs: dict[str, OutputParity]

    @property
    def relative_error(self) -> float:
        """The worst output's."""
        return max(o.relative_error for o in self.outputs.values())

    @property
    def cosine(self) -> float:
        """The worst output's."""
        return min(o.cosine for o in self.outputs.values())

    def passes(self, tolerance: float, cosine: float = 0.9999) -> bool:
        """True where every output is within ``tolerance`` and as parallel as ``cosine``."""
        return self.relative_error <= tolerance and self.cosine >= cosine

    def as_dict(self, tolerance: float) -> dict[str, Any]:
        """The manifest's ``parity`` section."""
        return {
            "reference": self.reference,
            "relative_error": self.relative_error,
            "cosine": self.cosine,
            "tolerance": tolerance,
            "outputs": {name: asdict(o) for name, o in self.outputs.items()},
        }


def compare(reference: Array, measured: Array) -> OutputParity:
    """Compare two arrays of one shape. An all-zero reference must be met by zeros (absolute error, cosine 1)."""
    if reference.shape != measured.shape:
        raise ValueError(f"shapes differ: reference {reference.shape}, measured {measured.shape}")
    a, b = reference.astype(np.float64).ravel(), measured.astype(np.float64).ravel()
    if not np.isfinite(b).all():
        return OutputParity(float("inf"), 0.0, float(np.abs(a).max(initial=0.0)))
    top = float(np.abs(a).max(initial=0.0))
    error = float(np.abs(a - b).max(initial=0.0))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b / norms) if norms > 0 else 1.0 if error == 0 else 0.0
    return OutputParity(error / top if top > 0 else error, cosine, top)


def run_onnx(path: Path | str, feeds: Mapping[str, Array], threads: int = 0) -> dict[str, Array]:
    """Run an ONNX file once in ONNX Runtime on the CPU."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # A second copy of all weights, laid out for speed, is not worth its memory for one run.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as the backend has it: nothing computes in integers
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def report(reference: Mapping[str, Tensor | Array], measured: Mapping[str, Array], name: str = "torch autograd") -> ParityReport:
    """Compare every output of ``measured`` with the reference of the same name.

    Raises:
        KeyError: the reference lacks an output.

    """
    arrays = {k: v.detach().cpu().numpy() if isinstance(v, Tensor) else v for k, v in reference.items()}
    return ParityReport(name, {k: compare(arrays[k], v) for k, v in measured.items()})


def median_report(reports: Sequence[ParityReport]) -> ParityReport:
    """Per output the median over several samples of every figure; the worst one where a sample was not finite."""
    merged = {}
    for name in reports[0].outputs:
        rows = [r.outputs[name] for r in reports]
        if broken := [r for r in rows if not np.isfinite(r.relative_error)]:
            merged[name] = broken[0]
            continue
        merged[name] = OutputParity(
            float(np.median([r.relative_error for r in rows])),
            float(np.median([r.cosine for r in rows])),
            float(np.median([r.reference_max for r in rows])),
        )
    return ParityReport(reports[0].reference, merged)
