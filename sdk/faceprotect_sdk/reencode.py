"""A protected photo in another container or quality, with verdicts of its own: those that there were belong to other bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from faceprotect_sdk.arguments import whole
from faceprotect_sdk.canvas import canvas_of
from faceprotect_sdk.errors import NotProtected, UsageError
from faceprotect_sdk.face.detect import Face
from faceprotect_sdk.parts import Parts
from faceprotect_sdk.photo.encode import encode
from faceprotect_sdk.photo.formats import Container, reads, remedy
from faceprotect_sdk.photo.mark import Mark
from faceprotect_sdk.photo.reading import LargePhoto, Photo, load
from faceprotect_sdk.result import FaceResult, ProtectResult, status_of
from faceprotect_sdk.session import FaceSession

EIGHT_BITS = "16 bits a channel became 8, as the container has it"


def encode_again(parts: Parts, result: ProtectResult, original: Photo | LargePhoto, container: str, quality: int) -> ProtectResult:
    """See ``Protector.encode``."""
    quality, kind = whole("quality", quality, 1, 100), _container(container)
    if result.image is None:
        raise NotProtected(f"the photo is not protected (status {result.status}), so there is nothing to encode", hint=result.advice)
    if original.size != result.size or isinstance(original, LargePhoto):
        raise UsageError(
            f"the original has {original.size[0]} x {original.size[1]} pixels, the result is of {result.size[0]} x {result.size[1]}"
            if original.size != result.size
            else "a JPEG of more than 64 megapixels is written as what it was, and nothing else"
        )
    before, after = _into(original, kind), _into(load(result.image), kind)
    data = encode(after, quality=quality, mark=Mark.of(after.pixels, result.method))
    faces = _scored(parts, result.faces, before, data, quality)
    status = status_of(faces, partly=False)
    return replace(
        result,
        status=status,
        faces=faces,
        image=data if status == "protected" else None,
        unconfirmed=None if status == "protected" else data,
        container=after.container,
        notes=result.notes + tuple(note for note in after.notes if note not in result.notes),
        timings={},
    )


def _container(name: str) -> Container:
    """The container of that name; raises UsageError for one that there is not, or that this installation does not write."""
    known = get_args(Container)
    if name not in known:
        raise UsageError(f"there is no container '{name}'; choose one of: {', '.join(known)}")
    container = cast("Container", name)
    if not reads(container):
        raise UsageError(remedy(container))
    return container


def _into(photo: Photo, container: Container) -> Photo:
    """The photo as it is to be written into another container; raises UsageError for one that cannot have it."""
    if container == "JPEG" and photo.alpha is not None:
        raise UsageError("a JPEG has no transparency, and this photo has", hint="Use container='PNG' or container='WEBP'")
    if photo.deep and container != "PNG":
        alpha = None if photo.alpha is None else (photo.alpha >> 8).astype(np.uint8)
        photo = replace(photo, pixels=photo.rgb8(), alpha=alpha, notes=(*photo.notes, EIGHT_BITS))
    same = photo.container == container
    return replace(photo, container=container, lossless=photo.lossless if same else container == "PNG", path=None)


def _scored(parts: Parts, faces: Sequence[FaceResult], original: Photo, data: bytes, quality: int) -> tuple[FaceResult, ...]:
    """The faces with the verdicts, and the quality, of the new bytes."""
    first, second = original.rgb8(), load(data).rgb8()
    plain: NDArray[np.uint8] | None = None if original.lossless else load(encode(original, quality=quality)).rgb8()
    panel, searched = parts.panel(), list(parts.method.surrogates())
    dependent, canvas = parts.dependent(panel), canvas_of(original)
    places = [Face(face.box, np.array(face.points), face.score) for face in faces]
    found = []
    for face, place, window in zip(faces, places, canvas.windows(places), strict=True):
        written = None if plain is None else window.cut(plain)
        session = FaceSession.start(
            face.index,
            place,
            window,
            window.cut(first),
            written,
            panel,
            searched,
            dependent,
            parts.strength,
            parts.look,
            parts.decoys(),
            True,
        )
        session.score(window.cut(second), parts.look)
        new = session.result(window.cut(first), window.cut(second), parts.mesh())
        found.append(replace(face, status=new.status, verdicts=new.verdicts, quality=new.quality))
    return tuple(found)
