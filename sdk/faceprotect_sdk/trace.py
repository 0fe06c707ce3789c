"""Whether a face looks as if it had been protected before, where nothing in the file says so.

Messengers and sites write photos anew, without the mark in the metadata (mark.py). A search on such a photo leads away from the face that
it was given, and so, often, back to the person: of ten people nine were matched again after a second pass that called them protected
(``benchmarks/results/passes.json``). A small network knows what searches leave in a face; who insists is not held up (``--again``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.engine import Engine
from faceprotect_engines.manifest import Manifest

#: Canonical crop to log odds that it has been protected; ``metadata.threshold`` in its manifest is where it is taken to be.
ENGINE = "trace"


def shows_trace(crop: NDArray[np.float32], engine: Engine, manifest: Manifest) -> bool:
    """Whether a canonical crop [1, 3, 256, 256], RGB 0..1, is taken for one that has been protected."""
    return float(engine.run({"image": crop})["odds"][0]) > float(manifest.metadata["threshold"])
