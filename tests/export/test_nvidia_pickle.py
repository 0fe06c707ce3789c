"""NVIDIA's pickles: tensors are read, nothing in them is run."""

from __future__ import annotations

import pickle
import re
import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stylegan_states import LAYERS, SIZE, STYLE, State, nvidia, rosinality
from torch import Tensor

from faceprotect_export.pretrained.common import PretrainedError
from faceprotect_export.pretrained.nvidia_pickle import read_nvidia
from faceprotect_export.pretrained.stylegan import from_state, read_stylegan

SOURCE = "import os\nos.environ['FACEPROTECT_RAN'] = '1'\nraise SystemExit('ran')\n"


@dataclass
class Persistent:
    """Pickles as NVIDIA's persistent classes do: by a function that is not there, with the class's source."""

    state: dict[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": "Generator", "state": self.state}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)  # type: ignore[attr-defined]


def module_of(tensors: State) -> Persistent:
    """Nested objects with the attributes of ``torch.nn.Module``."""
    own: dict[str, Any] = {
        "training": False,
        "_parameters": OrderedDict(),
        "_buffers": OrderedDict(),
        "_modules": OrderedDict(),
        "_non_persistent_buffers_set": set(),
        "_init_args": (),
        "_init_kwargs": {"w_dim": np.int64(8), "dtype": torch.float32},
    }
    below: dict[str, State] = {}
    for key, value in tensors.items():
        first, _, rest = key.partition(".")
        if rest:
            below.setdefault(first, {})[rest] = value
        elif first in ("noise_const", "resample_filter", "w_avg"):
            own["_buffers"][first] = value
        else:
            own["_parameters"][first] = torch.nn.Parameter(value, requires_grad=False)
    own["_parameters"]["nothing"] = None
    own["_modules"].update({name: module_of(part) for name, part in below.items()})
    return Persistent(own)


def pickled(content: Any, path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int = 3) -> None:
    """Written with NVIDIA's modules pretended, which are gone when it is read."""
    with monkeypatch.context() as patch:
        for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util"):
            patch.setitem(sys.modules, name, type(sys)(name))

        def _reconstruct_persistent_obj(meta: Any) -> None:
            """Only its name is pickled."""

        _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
        _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
        patch.setattr(sys.modules["torch_utils.persistence"], "_reconstruct_persistent_obj", _reconstruct_persistent_obj, raising=False)
        easy = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
        patch.setattr(sys.modules["dnnlib.util"], "EasyDict", easy, raising=False)
        content = {**content, "training_set_kwargs": easy(resolution=SIZE, class_name="training.dataset.ImageFolderDataset")}
        path.write_bytes(pickle.dumps(content, protocol))


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_nvidia_is_read_without_running_it(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, theirs = tmp_path / "network.pkl", nvidia(rosinality())
    pickled({"G": None, "D": module_of({"b4.conv.weight": torch.zeros(2)}), "G_ema": module_of(theirs)}, path, monkeypatch, protocol)
    assert SOURCE.encode() in path.read_bytes()
    found = read_nvidia(path)
    assert found.keys() == theirs.keys()
    assert all(torch.equal(found[key], theirs[key]) for key in theirs)
    assert all(type(value) is Tensor for value in found.values())
    assert "torch_utils" not in sys.modules
    w_plus = torch.randn(1, LAYERS, STYLE)
    torch.testing.assert_close(read_stylegan(path)[0](w_plus), from_state(theirs, "made")[0](w_plus), atol=0, rtol=0)


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_a_plain_dict_is_read_and_other_contents_are_refused(tmp_path: Path) -> None:
    path, theirs = tmp_path / "network.pkl", nvidia(rosinality())
    path.write_bytes(pickle.dumps({"G_ema": theirs}))
    assert read_nvidia(path).keys() == theirs.keys()
    for content, reason in (({"G": 1}, "no 'G_ema', but G"), ((1, 2, 3), "legacy.py"), ({"G_ema": 3}, "holds no tensors")):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(PretrainedError, match=reason):
            read_nvidia(path)
    path.write_bytes(pickle.dumps({"G_ema": theirs})[:-200])
    with pytest.raises(PretrainedError, match="cannot be read"):
        read_nvidia(path)
    with pytest.raises(PretrainedError, match="no such file"):
        read_stylegan(tmp_path / "absent.pkl")


class Calling:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def evil() -> list[tuple[str, bytes]]:
    import importlib
    import os
    import subprocess

    ran = "open('RAN', 'w').close()"
    calls = {
        "system": Calling(os.system, "touch RAN"),
        "builtins.exec": Calling(exec, ran),
        "builtins.eval": Calling(eval, ran),
        "builtins.getattr": Calling(getattr, dict, "fromkeys"),
        "subprocess.run": Calling(subprocess.run, ["touch", "RAN"]),
        "importlib.import_module": Calling(importlib.import_module, "antigravity"),
        "torch.serialization.load": Calling(torch.load, "RAN"),
        "torch.hub.load": Calling(torch.hub.load, "x", "y"),
    }
    found = [(name, pickle.dumps({"G_ema": call}, 3)) for name, call in calls.items()]
    walk = b"OrderedDict.copy.__globals__"  # a dotted name, from what is allowed to what is not (protocol 4)
    return [*found, (walk.decode(), b"\x80\x04\x8c\x0bcollections\x8c" + bytes([len(walk)]) + walk + b"\x93.")]


@pytest.mark.parametrize(("name", "data"), evil(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_pickle_that_calls_anything_else_is_refused(name: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "network.pkl"
    path.write_bytes(data)
    with pytest.raises(PretrainedError, match=rf"asks for '[\w.]*{re.escape(name)}"):
        read_stylegan(path)
    assert not (tmp_path / "RAN").exists()


def test_the_bytes_of_a_tensor_cannot_call_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor's bytes are a pickle within the pickle."""
    import os

    monkeypatch.chdir(tmp_path)
    inner = pickle.dumps(Calling(os.system, "touch RAN"), 2)
    path = tmp_path / "network.pkl"
    for data in (inner, saved(Calling(os.system, "touch RAN"))):
        path.write_bytes(pickle.dumps({"G_ema": Calling(torch.storage._load_from_bytes, data)}, 3))
        with pytest.raises(PretrainedError, match="cannot be read"):
            read_nvidia(path)
    assert not (tmp_path / "RAN").exists()


def saved(content: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()
