"""A torch function of named tensors as an engine: what an exported one does, run by autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from faceprotect_engines.engine import BaseEngine
from faceprotect_engines.spec import Array, EngineSpec, TensorSpec
from faceprotect_export.vjp import NamedFunction, gradient_function


class EagerEngine(BaseEngine):
    """``function`` and its gradients to ``variables``, with inputs of the shapes of ``sample``; ``bound`` inputs are not fed."""

    def __init__(
        self, name: str, function: NamedFunction, sample: Mapping[str, Tensor], variables: Sequence[str] = (), loss: str = "loss",
        bound: Mapping[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        self._bound = dict(bound or {})
        self._function = gradient_function(function, variables, loss)
        made = self._function({**sample, **self._bound})
        super().__init__(EngineSpec(name, _specs(sample), _specs(made)), "torch:cpu")

    def _execute(self, feeds: dict[str, Array]) -> dict[str, Array]:
        made = self._function({**{name: torch.from_numpy(array) for name, array in feeds.items()}, **self._bound})
        return {name: value.detach().numpy() for name, value in made.items()}

    def _release(self) -> None:
        del self._function


def _specs(tensors: Mapping[str, Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, str(value.dtype).removeprefix("torch."), tuple(value.shape)) for name, value in tensors.items())
