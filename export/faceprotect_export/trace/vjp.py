"""Trace a torch function of named tensors together with its input gradients.

The result is an ordinary forward graph of core operators: autograd has already happened. ``torch.onnx.export`` refuses modules that
call autograd, but ``make_fx(functionalize(grad(f)))`` records the backward pass as operators, and the decomposition table turns
those into what inference engines have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functionalize, grad
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from faceprotect_export.trace.decompositions import table
from faceprotect_export.trace.fuse import fuse
from faceprotect_export.trace.simplify import simplify

NamedFunction = Callable[..., Mapping[str, Tensor]]
#: A number, or what gives one [] for the inputs: in half precision the cotangents that run through a graph should be near 1.
GradientScale = float | Callable[[Mapping[str, Tensor]], Tensor]


class TraceError(ValueError):
    """The function cannot be traced as asked: a name is missing or clashes."""


def gradient_function(
    fn: NamedFunction, variables: Sequence[str], loss: str = "loss", gradient_scale: GradientScale = 1.0
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """``inputs -> fn's outputs + grad_<variable>`` by autograd: what is traced, and the reference it is compared with.

    ``gradient_scale`` multiplies the loss before differentiating and divides the gradient afterwards, so that half precision
    arithmetic in between does not underflow.
    """
    scaled = gradient_scale != 1.0

    def scalar(values: tuple[Tensor, ...], rest: dict[str, Tensor], scale: Any) -> tuple[Tensor, dict[str, Tensor]]:
        outputs = dict(fn(**rest, **dict(zip(variables, values, strict=True))))
        if loss not in outputs:
            raise TraceError(f"the function gives {sorted(outputs)}, none of which is called {loss!r}")
        total = outputs[loss].sum()
        return (total * scale if scaled else total), outputs

    def run(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if not variables:
            return dict(fn(**inputs))
        rest = {k: v for k, v in inputs.items() if k not in variables}
        scale = gradient_scale(inputs) if callable(gradient_scale) else gradient_scale
        gradients, outputs = grad(scalar, has_aux=True)(tuple(inputs[v] for v in variables), rest, scale)
        if scaled:
            gradients = tuple(g / scale for g in gradients)
        named = {f"grad_{v}": g for v, g in zip(variables, gradients, strict=True)}
        if named.keys() & outputs.keys():
            raise TraceError(f"outputs clash with gradients: {sorted(named.keys() & outputs.keys())}")
        return {**outputs, **named}

    return run


def trace(
    fn: NamedFunction,
    example_inputs: Mapping[str, Tensor],
    variables: Sequence[str] = (),
    loss: str = "loss",
    *,
    gradient_scale: GradientScale = 1.0,
    tracing_mode: Literal["real", "fake"] = "real",
) -> GraphModule:
    """Trace ``fn`` and its gradients into a graph module of core aten operators.

    Args:
        fn: called as ``fn(**inputs)``; returns a dict of tensors. Weights it closes over become constants; they must not require
            a gradient of their own. Call ``.eval()`` on modules first.
        example_inputs: one tensor per input, with the shapes and dtypes the engine will have (static).
        variables: names of inputs to differentiate; none: only the forward pass.
        loss: name of the output to differentiate (summed if it is not a scalar).
        gradient_scale: see :func:`gradient_function`.
        tracing_mode: "real" runs the function once; "fake" does not compute, for large models.

    Returns:
        A GraphModule taking the inputs by name and returning a dict: the function's outputs and ``grad_<variable>`` each.

    Raises:
        TraceError: a variable is no input, or the loss no output.

    """
    missing = [v for v in variables if v not in example_inputs]
    if missing:
        raise TraceError(f"variables {missing} are not among the inputs {sorted(example_inputs)}")
    names = list(example_inputs)
    run = gradient_function(fn, variables, loss, gradient_scale)

    def flat(*values: Tensor) -> dict[str, Tensor]:
        return run(dict(zip(names, values, strict=True)))

    # Only the math form of attention is made of operators that the table knows.
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        graph_module = make_fx(
            functionalize(flat, remove="mutations"),
            decomposition_table=table(),
            tracing_mode=tracing_mode,
            _allow_non_fake_inputs=True,
        )(*[example_inputs[name].detach() for name in names])
    _name_inputs(graph_module, names)
    return fuse(simplify(graph_module))


def _name_inputs(graph_module: GraphModule, names: Sequence[str]) -> None:
    placeholders = [n for n in graph_module.graph.nodes if n.op == "placeholder"]
    for node, name in zip(placeholders, names, strict=True):
        node.target = name
        node.name = name
    graph_module.graph._codegen = torch.fx.graph.CodeGen()  # plain keyword arguments instead of pytree's flattening
    graph_module.recompile()


def output_names(graph_module: GraphModule) -> list[str]:
    """Names of the outputs of a traced module, in order."""
    return list(graph_module.graph.output_node().args[0])  # type: ignore[arg-type]


def input_names(graph_module: GraphModule) -> list[str]:
    """Names of the inputs of a traced module, in order."""
    return [str(n.target) for n in graph_module.graph.nodes if n.op == "placeholder"]
