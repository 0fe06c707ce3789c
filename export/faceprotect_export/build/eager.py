"""A torch function of named tensors as an engine: what an exported one does, run by autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from faceprotect_engines.engine import BaseEngine
from faceprotect_engines.spec import Array, EngineSpec, TensorSpec
from faceprotect_export.trace.vjp import NamedFunction


class EagerEngine(BaseEngine):
    """``function`` and its gradients to ``variables``, with inputs of the shapes of ``sample``; ``bound`` inputs are not fed."""

    def __init__(
        self,
        name: str,
        function: NamedFunction,
        sample: Mapping[str, Tensor],
        variables: Sequence[str] = (),
        loss: str = "loss",
        bound: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._bound = dict(bound or {})
        self._function, self._variables, self._loss = function, tuple(variables), loss
        made = self._run(sample)
        super().__init__(EngineSpec(name, _specs(sample), _specs(made)), "torch:cpu")

    def _execute(self, feeds: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
        made = self._run({name: torch.tensor(array) for name, array in feeds.items()})
        return {name: made[name].numpy() for name in outputs}

    def _run(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs and gradients, by plain autograd, which tools that count operators can follow."""
        variables = {name: given[name].detach().requires_grad_() for name in self._variables}
        with torch.set_grad_enabled(bool(variables)):
            copies = {name: value.clone() for name, value in variables.items()}  # hooks of modules take no leaves
            made = dict(self._function(**{**given, **copies, **self._bound}))
        if variables:
            gradients = torch.autograd.grad(made[self._loss].sum(), list(variables.values()))
            made |= {f"grad_{name}": value for name, value in zip(variables, gradients, strict=True)}
        return {name: value.detach() for name, value in made.items()}

    def _release(self) -> None:
        del self._function


def _specs(tensors: Mapping[str, Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, str(value.dtype).removeprefix("torch."), tuple(value.shape)) for name, value in tensors.items())
