"""Runs one setting on one photo: the file as a user would write it, and what it took."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceprotect_engines.recipes.recipe import load_recipe
from faceprotect_engines.store import ZOO, Store
from faceprotect_sdk import Protector, Settings
from faceprotect_sdk.errors import UsageError
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.detect import Face, find_faces
from faceprotect_sdk.face.paste import paste
from faceprotect_sdk.judging.recognisers import EngineRecogniser
from faceprotect_sdk.methods import SearchRequest, make_method, strength_of
from faceprotect_sdk.photo.encode import encode
from faceprotect_sdk.photo.reading import Photo
from faceprotect_sdk.pool import EnginePool
from harness.pairs import target_pixels
from harness.pixels import ATTACKS, at_psnr, radius_for
from harness.settings import CLEAN, LITERAL, Goal, Setting, learnt, patched, shipped

QUALITY = 95
#: Of the generators that the literal forms run on.
WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
Image = NDArray[np.float32]


@dataclass(frozen=True)
class Protected:
    """A written JPEG, the seconds of its search, the number of searches, and whether `protect` would have written it (None: not asked)."""

    data: bytes
    seconds: float
    attempts: int
    confirmed: bool | None = None


class Runner:
    """One setting with its engines open."""

    def __init__(self, setting: Setting, goal: Goal, device: str, threads: int, zoo: Path = ZOO) -> None:
        """Open what the setting needs; the recipe of an ablation is written to a folder of its own, before the shipped one."""
        self.setting, self.goal = setting, goal
        self._scratch = tempfile.TemporaryDirectory(prefix="faceprotect-ablation-")
        self.store = Store([Path(self._scratch.name), zoo])
        if setting.recipe:
            path = Path(self._scratch.name, "recipes", f"{setting.method}.json")
            path.parent.mkdir()
            path.write_text(json.dumps(patched(load_recipe(zoo / "recipes" / path.name), setting.recipe)))
        self.room = EnginePool(self.store, device, threads)
        self._targets: dict[Path, list[Image]] = {}
        self._literal = _literal_nets(threads) if setting.method in LITERAL else None
        self._protector: Protector | None = None
        self._ours = setting.method in shipped()
        if setting.method != CLEAN:
            name = setting.method if self._ours else "latent"
            self.method = make_method(name, self.room, [Path(s) for s in setting.surrogates], setting.without)
            if self._ours and goal.kind == "dodge":
                settings = Settings(
                    setting.method,
                    device,
                    strength=setting.strength,
                    look=setting.look,
                    surrogates=setting.surrogates,
                    without=setting.without,
                    installed_judges=False,
                    quality=QUALITY,
                    attempts=setting.attempts,
                    threads=threads,
                    even_covered=True,  # every photo counts
                )
                self._protector = Protector(settings, store=self.store)

    def close(self) -> None:
        """Release engines and scratch."""
        self.room.close()
        if self._protector is not None:
            self._protector.close()
        self._scratch.cleanup()

    def identities(self) -> Sequence[frozenset[str]]:
        """What the surrogates are known by; none for the clean row."""
        return () if self.setting.method == CLEAN else self.method.identities()

    def __call__(self, source: Photo, face: Face, index: int, seed: int) -> Protected:
        """Protect one face; ``index`` of the photo decides its target."""
        original = replace(source, container="JPEG", lossless=False, path=None)
        if self.setting.method == CLEAN:
            return Protected(encode(original, quality=QUALITY), 0.0, 0)
        if self._protector is not None:
            # again: every photo counts, one that looks as if it had been protected before as well
            result = self._protector.protect(original, faces=[face], seed=seed, again=True)
            data = result.image or result.unconfirmed
            if data is None:
                raise UsageError(f"photo {index}: {result.status}")
            return Protected(data, result.timings["search"], result.faces[0].attempts, result.protected)
        crop = aligned_crop(source.rgb8(), face.points)
        surrogates = self.method.surrogates()
        own = [_unit(one.embed_crop(crop)) for one in surrogates]
        started = time.perf_counter()
        rng = np.random.default_rng([seed, index])
        difference = (
            self._search(crop, surrogates, index, int(rng.integers(2**31)))
            if self._ours
            else (self._baseline(crop, surrogates, own, index, rng))
        )
        seconds = time.perf_counter() - started
        changed = paste(source.pixels, difference, self.method.mask, face.points, grey=source.grey)
        return Protected(encode(original.with_pixels(changed), quality=QUALITY), seconds, 1)

    def _search(self, crop: Image, surrogates: Sequence[EngineRecogniser], index: int, seed: int) -> Image:
        """Towards the target: away from the opposite of its embedding, until past the threshold by a margin, or to the budget."""
        if learnt(self.method.recipe):
            raise UsageError(f"{self.setting.method} has learnt its goals, and this is none of them: measure it with --goal dodge")
        strength = strength_of(self.method.recipe, self.setting.strength)
        target = dict(zip([s.name for s in surrogates], self._embedded(self._target(index), surrogates), strict=True))
        request = SearchRequest(
            crop,
            self.method.mask,
            {name: -embedding for name, embedding in target.items()},
            {s.name: -strength.likeness(s) for s in surrogates},
            strength.budget,
            seed,
            origins={s.name: -float(np.vdot(target[s.name], _unit(s.embed_crop(crop)))) for s in surrogates},
        )
        return self.method.search(request).difference

    def _baseline(
        self, crop: Image, surrogates: Sequence[EngineRecogniser], own: Sequence[Image], index: int, rng: np.random.Generator
    ) -> Image:
        """One of the baselines: a published method as it is written, or noise in pixels, scaled to the PSNR asked for."""
        if self.goal.kind != "dodge":
            references = [[-t] for t in self._embedded(self._target(index), surrogates)]
        else:
            rivals = [self._embedded(path, surrogates) for path in self.goal.rivals] if self.setting.method == "tip-im" else []
            if self.setting.method == "tip-im" and not rivals:
                raise UsageError("tip-im needs targets to choose from: put photos into target_images/ beside the pairs")
            references = [[o, *(-r[k] for r in rivals)] for k, o in enumerate(own)]
        mask, psnr = self.method.mask, self.setting.psnr
        if self.setting.method in LITERAL:
            from harness.literal import gift

            return (gift(crop, surrogates, [r[0] for r in references], self._literal, rng) - crop)[0] * mask[0]
        attack = ATTACKS[self.setting.method]
        further = {} if self.setting.iterations is None else {"iterations": self.setting.iterations}
        change = attack(crop, surrogates, references, mask, radius_for(psnr, mask), rng, **further)  # type: ignore[call-arg]
        return at_psnr(crop, change, mask, psnr)

    def _target(self, index: int) -> Path:
        target = self.goal.target_of(index)
        if target is None:
            raise UsageError(f"--goal {self.goal.kind} needs targets")
        return target.photo

    def _embedded(self, path: Path, surrogates: Sequence[EngineRecogniser]) -> list[Image]:
        """Unit embeddings [1, E] of the largest face of a photo, one per surrogate."""
        if path not in self._targets:
            pixels = target_pixels(path)
            crop = aligned_crop(pixels, only_face(pixels, self.room, path).points)
            self._targets[path] = [_unit(one.embed_crop(crop)) for one in surrogates]
        return self._targets[path]


def only_face(pixels: NDArray[np.uint8], room: EnginePool, path: Path) -> Face:
    """The largest face of a photo; raises UsageError where there is none."""
    faces = find_faces(pixels, room("face-detector"))
    if not faces:
        raise UsageError(f"{path}: no face found. Choose another photo")
    return faces[0]


def _literal_nets(threads: int) -> Any:
    """Torch is imported where a literal form is measured, and nowhere else."""
    import torch

    from harness.literal import GiftNets

    torch.set_num_threads(threads)
    return GiftNets.read(WEIGHTS)


def _unit(embedding: Image) -> Image:
    return np.asarray(embedding / max(float(np.linalg.norm(embedding)), 1e-12), np.float32)[None]
