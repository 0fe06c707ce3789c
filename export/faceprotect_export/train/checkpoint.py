"""Checkpoints as safetensors with their configuration in the metadata, and a curve as JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any], *, half: bool = False) -> None:
    """Write atomically; ``half`` stores floating tensors as fp16 (what ships)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {k: (v.detach().half() if half and v.is_floating_point() else v.detach()).contiguous() for k, v in tensors.items()}
    temporary = path.with_suffix(".tmp")
    save_file(stored, str(temporary), {k: json.dumps(v) for k, v in metadata.items()})
    os.replace(temporary, path)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors as float32 and the metadata."""
    with safe_open(str(path), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        metadata = {k: json.loads(v) for k, v in (file.metadata() or {}).items()}
    return {k: v.float() if v.dtype in (torch.float16, torch.bfloat16) else v for k, v in tensors.items()}, metadata


def training_state(model: nn.Module, optimiser: torch.optim.Optimizer, average: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Flat tensors of a model, its Adam state and its running average, to go on exactly where a run was stopped."""
    state = {f"model.{k}": v for k, v in model.state_dict().items()}
    state.update({f"average.{k}": v for k, v in (average or {}).items()})
    for index, slot in optimiser.state_dict()["state"].items():
        state.update({f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in slot.items()})
    return state


def restore(state: Mapping[str, Tensor], model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Inverse of :func:`training_state`; returns the average, empty where none was kept."""
    model.load_state_dict(under(state, "model."))
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in under(state, "optimiser.").items():
        index, name = key.split(".", 1)
        slots.setdefault(int(index), {})[name] = value
    full = optimiser.state_dict()
    full["state"] = slots
    optimiser.load_state_dict(full)
    return under(state, "average.")


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def log(path: Path, **values: Any) -> None:
    """Append one line of the training curve."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(values) + "\n")
