"""A recogniser as its publisher's file has it: what is computed, and where in the file each constant lies.

Nothing of the file goes into an engine but places. What a constant is made of (bytes, scales, another order of axes) is left as steps of
the program, which the runtime folds when it loads the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceprotect_export.onnx_io.reader import OnnxProgram
from faceprotect_export.onnx_io.writer import ExternalTensor


class OriginalError(ValueError):
    """The file is not of the kind that the reader knows, or does not hold a constant in one piece."""


@dataclass(frozen=True)
class StoredTensor:
    """A constant in the dtype that the file has it in, and its first byte there."""

    values: Tensor
    offset: int

    def at(self, location: str) -> ExternalTensor:
        """As the writer wants it, in a file of that name."""
        return ExternalTensor(location, self.offset, self.values.numel() * self.values.element_size())


@dataclass(frozen=True)
class Original:
    """``program`` with the names of ``stored`` among its constants."""

    program: OnnxProgram
    stored: Mapping[str, StoredTensor]

    @property
    def values(self) -> dict[str, Tensor]:
        """Every stored constant by name."""
        return {name: tensor.values for name, tensor in self.stored.items()}


def located(data: bytes, name: str, array: NDArray[np.generic]) -> StoredTensor:
    """Where the values lie in ``data`` as they are; raises OriginalError where they do not."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    if (offset := data.find(little.tobytes())) < 0:
        raise OriginalError(f"the values of '{name}' are not stored as {array.dtype} in one piece")
    return StoredTensor(torch.from_numpy(np.array(array)), offset)
