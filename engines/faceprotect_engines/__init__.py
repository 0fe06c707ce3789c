"""Ground floor of faceprotect-sdk: what an engine is, where it lives and how it runs.

Importing this package needs numpy and nothing else; ONNX Runtime or torch are loaded when an engine is opened.
"""

import warnings

from faceprotect_engines import telemetry
from faceprotect_engines.engine import Engine
from faceprotect_engines.errors import (
    CacheUnwritable,
    DeviceUnavailable,
    EngineCorrupt,
    EngineError,
    EngineInputError,
    EngineNotFound,
    FaceprotectError,
    GradientMissing,
    OutOfMemory,
    RecipeError,
    WeightsMissing,
)
from faceprotect_engines.files.manifest import Manifest, read_manifest, write_manifest
from faceprotect_engines.recipes.recipe import ExtraSurrogate, Progress, Recipe, RecipeResult, load_recipe, read_recipe, run_recipe
from faceprotect_engines.spec import EngineSpec, TensorSpec
from faceprotect_engines.store import Store, default_cache

if telemetry.TOO_LATE:
    warnings.warn(str(telemetry.complaint()), RuntimeWarning, stacklevel=2)

__all__ = [
    "CacheUnwritable",
    "DeviceUnavailable",
    "Engine",
    "EngineCorrupt",
    "EngineError",
    "EngineInputError",
    "EngineNotFound",
    "EngineSpec",
    "ExtraSurrogate",
    "FaceprotectError",
    "GradientMissing",
    "Manifest",
    "OutOfMemory",
    "Progress",
    "Recipe",
    "RecipeError",
    "RecipeResult",
    "Store",
    "TensorSpec",
    "WeightsMissing",
    "default_cache",
    "load_recipe",
    "read_manifest",
    "read_recipe",
    "run_recipe",
    "write_manifest",
]
