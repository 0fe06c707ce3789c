"""One worker: protects one photo, looks at it under every variant with every recogniser, and says how much it changed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.store import ZOO, Store
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.detect import Face, find_faces
from faceprotect_sdk.face.mesh import Network
from faceprotect_sdk.judging.judge import took_part
from faceprotect_sdk.judging.quality import measure
from faceprotect_sdk.judging.recognisers import Recogniser
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.pool import EnginePool
from harness import variants
from harness.features import Features, UserNet, feature_distance, inception_input, pooled
from harness.keypoints import points_moved
from harness.methods import Runner, only_face
from harness.pairs import Pair, target_pixels
from harness.panel import open_panel, refuse_searched
from harness.settings import CLEAN, Goal, Setting

Pixels = NDArray[np.uint8]
GREY = 3.0  # mean difference of the channels, in grey levels, below which a photo counts as grey


@dataclass(frozen=True)
class Look:
    """How photos are looked at: recognisers, variants, engines' device, seed; ``both``: the partner is protected as well."""

    fr: Path
    roles: tuple[str, ...]
    goal: Goal
    dlib: bool = True
    variants: tuple[str, ...] = (variants.AS_WRITTEN, variants.REDETECTED)
    both: bool = False
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    lpips: Path | None = None
    mesh: Path | None = None
    inception: Path | None = None
    zoo: Path = ZOO


class Worker:
    """One process: recognisers and nets opened once, and the runner of the setting at hand."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.room = EnginePool(Store([look.zoo]), look.device, look.threads)
        self.panel = open_panel(look.fr, look.roles, dlib=look.dlib, threads=look.threads)
        self.features = Features(look.threads)
        self.lpips = UserNet(look.lpips, 2, look.threads) if look.lpips else None
        self.mesh = _mesh(UserNet(look.mesh, 1, look.threads)) if look.mesh else None
        self.inception = UserNet(look.inception, 1, look.threads) if look.inception else None
        self._runner: Runner | None = None

    def runner(self, setting: Setting) -> Runner:
        """The runner of ``setting``; the one before is closed."""
        if self._runner is None or self._runner.setting != setting:
            if self._runner is not None:
                self._runner.close()
            self._runner = Runner(setting, self.look.goal, self.look.device, self.look.threads, self.look.zoo)
            refuse_searched(self.panel, self._runner.identities(), setting.key)
        return self._runner

    def searched(self, setting: Setting) -> list[str]:
        """Recognisers that share their weights with one that the setting searches on."""
        return [one.name for one in self.panel if took_part(one, self.runner(setting).identities())]

    def surrogates(self, setting: Setting) -> list[str]:
        """Names of what the setting searches on."""
        return [] if setting.method == CLEAN else [one.name for one in self.runner(setting).method.surrogates()]

    def measure(self, setting: Setting, pair: Pair, index: int, folder: Path) -> None:
        """Protect the photo of a pair, or take the file that is there, and write ``NUMBER.npz`` beside it."""
        first = self._runner is None or self._runner.setting != setting
        arrays: dict[str, Any]
        try:
            arrays = self._measured(setting, pair, index, folder, first)
        except NoFace as error:
            arrays = {"facts": json.dumps({"number": pair.number, "error": str(error)})}
        partial = folder / f"{pair.number}.{os.getpid()}.tmp"
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.replace(folder / f"{pair.number}.npz")

    def _measured(self, setting: Setting, pair: Pair, index: int, folder: Path, first: bool) -> dict[str, Any]:
        source = load(pair.photo)
        pixels = source.rgb8()
        face = self._face(pixels, pair.photo)
        partner_pixels, partner_face = self._partner(setting, pair, index, folder)
        written, facts = self._written(setting, source, face, index, folder / f"{pair.number}.jpg")
        arrays: dict[str, Any] = {}
        places = {one.name: one.locate(pixels, face) for one in self.panel}
        looks = [self._variant(name, written, face, index) for name in self.look.variants]
        for one in self.panel:
            arrays[f"photo {one.name}"] = np.stack([_embed(one, seen, found, places[one.name]) for seen, found in looks])
            arrays[f"partner {one.name}"] = one.embed(partner_pixels, one.locate(partner_pixels, partner_face))
        target = self.look.goal.target_of(index)
        if target is not None:
            other = target_pixels(target.other)
            place = only_face(other, self.room, target.other)
            arrays |= {f"target {one.name}": one.embed(other, one.locate(other, place)) for one in self.panel}
            facts["target"] = target.name
        facts |= self._quality(pixels, written, face, arrays) | self._groups(pixels, face)
        facts["points_moved"] = points_moved(pixels, written, face, self.room("face-detector"))
        arrays["facts"] = json.dumps({"number": pair.number, "first": first, **facts})
        return arrays

    def _face(self, pixels: Pixels, path: Path) -> Face:
        faces = find_faces(pixels, self.room("face-detector"))
        if not faces:
            raise NoFace(f"{path.name}: no face found")
        return faces[0]

    def _written(self, setting: Setting, source: Any, face: Face, index: int, path: Path) -> tuple[Pixels, dict[str, Any]]:
        """Pixels of the protected file, made unless it is there already, and what its search took."""
        notes = path.with_suffix(".json")
        if not (path.exists() and notes.exists()):
            result = self.runner(setting)(source, face, index, self.look.seed)
            path.write_bytes(result.data)
            notes.write_text(json.dumps({"seconds": result.seconds, "attempts": result.attempts, "confirmed": result.confirmed}))
        return load(path).rgb8(), json.loads(notes.read_text())

    def _partner(self, setting: Setting, pair: Pair, index: int, folder: Path) -> tuple[Pixels, Face]:
        """The other photo: as it is for the clean row, protected too where ``both`` asks for it."""
        source = load(pair.partner)
        pixels = source.rgb8()
        face = self._face(pixels, pair.partner)
        if self.look.both and setting.method != CLEAN:
            pixels = self._written(setting, source, face, index, folder / f"{pair.number}_partner.jpg")[0]
        return pixels, face

    def _variant(self, name: str, written: Pixels, face: Face, index: int) -> tuple[Pixels, Face | None]:
        """The changed photo, and the face where it has to be looked for again (None: at the original's place)."""
        if name in variants.VARIANTS:
            rng = np.random.default_rng([self.look.seed, index, zlib.crc32(name.encode())])
            return variants.VARIANTS[name](written, rng), None
        if name == variants.PURIFIED:
            return variants.purified(written, face, self.room), None
        pixels = variants.cut(written) if name == variants.CUT else written
        found = find_faces(pixels, self.room("face-detector"))
        if not found:
            return written, None  # a detector that sees no face any more: the recogniser still gets its best chance
        return pixels, found[0]

    def _quality(self, pixels: Pixels, written: Pixels, face: Face, arrays: dict[str, Any]) -> dict[str, float | None]:
        before, after = (aligned_crop(image, face.points) for image in (pixels, written))
        first, second = self.features(before), self.features(after)
        arrays["pooled"] = np.stack([pooled(first), pooled(second)])
        facts = asdict(measure(pixels, face.points, written, face.points, mesh=self.mesh)) | {"ms_ssim": ms_ssim(before, after)}
        facts["feature_distance"] = feature_distance(first, second)
        if self.lpips is not None:
            facts["lpips"] = float(self.lpips(before * 2 - 1, after * 2 - 1)[0])
        if self.inception is not None:
            arrays["inception"] = np.stack([self.inception(inception_input(image)) for image in (before, after)])
        return facts

    def _groups(self, pixels: Pixels, face: Face) -> dict[str, float | bool]:
        """What the groups of the reports are made of; nothing that a net would have to guess about a person."""
        eyes, nose = (face.points[0] + face.points[1]) / 2, face.points[2]
        across = face.points[1] - face.points[0]
        width = max(float(np.linalg.norm(across)), 1e-9)
        spread = np.ptp(pixels.astype(np.int16), axis=2).mean()
        turn = float(abs((nose - eyes) @ across) / width**2)
        return {"grey": bool(spread < GREY), "face_width": float(face.box[2] - face.box[0]), "turn": turn}


class NoFace(Exception):
    """A photo without a face: left out, counted, and said."""


def _mesh(net: UserNet) -> Network:
    def network(feeds: Mapping[str, NDArray[np.float32]]) -> Mapping[str, NDArray[np.float32]]:
        return {"points": net(feeds["image"])}

    return network


def _embed(one: Recogniser, pixels: Pixels, found: Face | None, place: Any) -> NDArray[np.float32]:
    return one.embed(pixels, place if found is None else one.locate(pixels, found))


def ms_ssim(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Multi-scale SSIM (Wang et al., Asilomar 2003) of two crops [1, 3, 256, 256] in 0..1, as torchmetrics computes it."""
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    torch.set_num_threads(1)
    pair = (torch.from_numpy(np.ascontiguousarray(x)) for x in (second, first))
    return float(multiscale_structural_similarity_index_measure(*pair, data_range=1.0))


def read_rows(folder: Path, pairs: list[Pair]) -> list[dict[str, Any]]:
    """What was measured, in the order of ``pairs``: arrays by name, and the facts."""
    rows = []
    for pair in pairs:
        with np.load(folder / f"{pair.number}.npz", allow_pickle=False) as stored:
            row: dict[str, Any] = {name: stored[name] for name in stored.files if name != "facts"}
            row["facts"] = json.loads(str(stored["facts"]))
        rows.append(row)
    return rows
