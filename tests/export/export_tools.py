"""What the tests of this folder share: tracing, writing and running a function, and comparing it with autograd."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from faceprotect_export.build.parity import ParityReport, report, run_onnx
from faceprotect_export.onnx_io.writer import write
from faceprotect_export.trace.vjp import gradient_function, trace

SHARED = Path(__file__).resolve().parents[3] / "shared"


def parity_of(
    function: Any, inputs: Mapping[str, Tensor], variables: Sequence[str], folder: Path, **options: Any
) -> tuple[ParityReport, onnx.ModelProto]:
    """Trace ``function`` (returning a dict with "loss"), write it, run it in ONNX Runtime, compare with autograd."""
    path = folder / "engine.onnx"
    model = write(trace(function, inputs, variables), path, **options)
    measured = run_onnx(path, {k: v.numpy() for k, v in inputs.items()}, threads=1)
    return report(gradient_function(function, variables)(dict(inputs)), measured), model


def weighted(y: Tensor) -> Tensor:
    """A scalar whose gradient to ``y`` differs at every element, so that misplaced gradients show."""
    return (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum() + 0.5 * (y * y).mean()


def operators(model: onnx.ModelProto) -> list[str]:
    """Operator types of a model, in order."""
    return [node.op_type for node in model.graph.node]


def save_tokenizer(folder: Path, tokens: int = 77) -> int:
    """A tokenizer of two words; returns how many tokens it has."""
    from transformers import CLIPTokenizerFast

    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "b</w>": 3}
    source = folder / "vocabulary"
    source.mkdir(parents=True)
    (source / "vocab.json").write_text(json.dumps(vocabulary))
    (source / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizerFast(
        vocab_file=str(source / "vocab.json"), merges_file=str(source / "merges.txt"), model_max_length=tokens, unk_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    return len(vocabulary)


def save_text_encoder(folder: Path, width: int, tokens: int = 77) -> None:
    """A tokenizer of two words and a small text encoder, as a pipeline of diffusers has them."""
    from transformers import CLIPTextConfig, CLIPTextModel

    words = save_tokenizer(folder / "tokenizer", tokens)
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokens,
        eos_token_id=1,
        bos_token_id=0,
        pad_token_id=1,
    )
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
