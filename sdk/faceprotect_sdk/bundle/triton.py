"""``faceprotect-sdk pack --triton``: the forward engines of a method as a model repository of NVIDIA's Triton Inference Server.

``DIR/NAME/1/`` holds the graph and its weights, ``DIR/NAME/config.pbtxt`` what the engine's manifest says of its inputs and outputs. Shapes
are those of the graph, batch included (``max_batch_size`` 0). An engine is a forward one unless it gives a gradient: the search stays where
the photo is, which the server's clients need not send anywhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from faceprotect_engines.files.leftovers import temporary_folder
from faceprotect_engines.files.manifest import Manifest, read_manifest, resolve_inside
from faceprotect_engines.spec import TensorSpec
from faceprotect_sdk.bundle.graphs import GRAPH, Terms, copy_engine
from faceprotect_sdk.bundle.pack import TERMS, Packed, Report, engines_of, terms_page
from faceprotect_sdk.errors import OutputError
from faceprotect_sdk.methods import find_recipe, make_method
from faceprotect_sdk.pool import EnginePool

CONFIG = "config.pbtxt"
#: Of Triton's ``DataType`` (model_config.proto), by the names of manifests.
TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "float64": "TYPE_FP64",
    "int64": "TYPE_INT64",
    "int32": "TYPE_INT32",
    "uint8": "TYPE_UINT8",
    "bool": "TYPE_BOOL",
}
_VERSION = "1"


def pack_triton(method: str, out: Path, pool: EnginePool, *, without: Sequence[str] = (), report: Report = lambda _: None) -> Packed:
    """Write the model repository of ``method``'s forward engines into the new folder ``out``.

    ``without``, ``report``: as :func:`pack.pack` has them. Raises OutputError for a folder that is there, or where no engine is a forward
    one, and what opening engines raises; nothing is left behind then.
    """
    if out.exists():
        raise OutputError(f"{out} exists. Name a folder that does not, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    recipe, store = find_recipe(method, pool.store)
    with EnginePool(store, pool.device, pool.threads) as own, temporary_folder(out.parent, ".pack-") as made:
        names = [name for name in engines_of(make_method(recipe, own, (), without)) if is_forward(store.manifest(name))]
        if not names:
            raise OutputError(f"no engine of '{recipe.name}' is a forward one, so there is nothing to serve")
        terms = []
        with temporary_folder(made, ".engines-") as copies:
            for name in names:
                report(f"engine {name}")
                terms.append(_write(name, copy_engine(store, name, copies), copies / name, made / name))
        (made / TERMS).write_text(terms_page(recipe.name, terms, False), encoding="utf-8")
        made.chmod(0o755)
        made.replace(out)
    return Packed(out, names, sum(path.stat().st_size for path in out.rglob("*") if path.is_file()))


def is_forward(manifest: Manifest) -> bool:
    """Whether an engine gives no gradient."""
    return manifest.role != "step" and not any(tensor.name.startswith("grad_") for tensor in manifest.outputs)


def config_of(manifest: Manifest) -> str:
    """An engine's ``config.pbtxt``; raises OutputError for a type that Triton has not."""
    head = [
        f'name: "{manifest.name}"',
        'backend: "onnxruntime"',
        "max_batch_size: 0",
        f'default_model_filename: "{Path(manifest.files[GRAPH].path).name}"',
    ]
    inputs = [f"input {_tensor(tensor, manifest.name)}" for tensor in manifest.inputs]
    outputs = [f"output {_tensor(tensor, manifest.name)}" for tensor in manifest.outputs]
    return "\n".join([*head, *inputs, *outputs]) + "\n"


def _tensor(tensor: TensorSpec, engine: str) -> str:
    if tensor.dtype not in TYPES:
        raise OutputError(f"engine '{engine}', {tensor.name}: Triton has no type for {tensor.dtype}")
    dims = ", ".join("-1" if size is None else str(size) for size in tensor.shape)
    return f'{{ name: "{tensor.name}" data_type: {TYPES[tensor.dtype]} dims: [ {dims} ] }}'


def _write(name: str, terms: Terms, copied: Path, model: Path) -> Terms:
    """Put a copied engine where Triton looks for it: its golden values and manifest are not for Triton."""
    manifest = read_manifest(copied)
    for key, file in manifest.files.items():
        if key == GRAPH or key.startswith("weights "):
            target = resolve_inside(model / _VERSION, file.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(resolve_inside(copied, file.path), target)
    (model / CONFIG).write_text(config_of(manifest), encoding="ascii")
    return terms
