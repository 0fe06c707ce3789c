"""What training computes in: bfloat16 where the processor has instructions for it, which halves the time of a step; float32 elsewhere.

A processor without them takes bfloat16 apart number by number, and a step several times as long.
"""

from __future__ import annotations

import torch


def mixed() -> torch.autocast:
    """A context in which convolutions and matrix products run in bfloat16 on such a CPU, and in float32 on any other."""
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return torch.autocast("cpu", torch.bfloat16, enabled=bool(known is None or known()))
