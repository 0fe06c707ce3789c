"""Begin a wider, deeper student where a trained one stands: at first it computes the very same.

Chen et al., "Net2Net: accelerating learning via knowledge transfer", ICLR 2016: new channels are heard by nobody yet, and new residual
blocks add nothing yet; training takes both up from there.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from faceprotect_export.modules.students import ConvTrunk, Residual, Student


@torch.no_grad()
def grow(small: Student, large: Student) -> None:
    """Give ``large`` the function of ``small``, for the heads that they share; both have a :class:`ConvTrunk`."""
    if not isinstance(small.trunk, ConvTrunk) or not isinstance(large.trunk, ConvTrunk):
        raise ValueError("only residual trunks can grow: --kind conv or wide")
    for own, other in zip(_stages(large.trunk), _stages(small.trunk), strict=True):
        for index, module in enumerate(own):
            if index < len(other):
                _widen(other[index], module)
            elif isinstance(module, Residual):
                module.second[1].weight.zero_()  # type: ignore[union-attr,operator]
                module.second[1].bias.zero_()  # type: ignore[union-attr,operator]
    rows = dict(zip(small.heads.sizes, _rows(small), strict=True))
    for name, own_rows in zip(large.heads.sizes, _rows(large), strict=True):
        if name in rows:
            large.heads.linear.weight[own_rows] = small.heads.linear.weight[rows[name]]
            large.heads.linear.bias[own_rows] = small.heads.linear.bias[rows[name]]


def _stages(trunk: ConvTrunk) -> list[list[nn.Module]]:
    """The trunk's layers, cut after each stage."""
    cuts = [0, *(end + 1 for end in trunk.ends), len(trunk)]
    return [list(trunk)[low:high] for low, high in pairwise(cuts)]


def _rows(student: Student) -> list[slice]:
    """Where each head's outputs lie."""
    ends = torch.tensor(list(student.heads.sizes.values())).cumsum(0).tolist()
    return [slice(low, high) for low, high in zip([0, *ends], ends, strict=False)]


def _widen(small: nn.Module, large: nn.Module) -> None:
    """Copy every tensor into the leading corner of its larger counterpart, and let old channels ignore new ones."""
    theirs = dict(small.state_dict())
    for name, tensor in large.state_dict().items():
        known: Tensor = theirs[name]
        if tensor.dim() == 0:
            tensor.copy_(known)
            continue
        if tensor.dim() >= 2:
            tensor[: known.shape[0]] = 0
        tensor[tuple(slice(0, size) for size in known.shape)] = known
