"""Protect a photo between a browser and a server: bytes in, bytes out, nothing on the disk.

python examples/protect_upload.py PHOTO OUT       # or import protect_upload() into a web handler
"""

from __future__ import annotations

import sys
from pathlib import Path

from faceprotect_sdk import AlreadyProtected, FaceprotectError, Protector, UnreadableInput


def protect_upload(protector: Protector, upload: bytes) -> tuple[int, bytes]:
    """HTTP status and body for an uploaded photo.

    200 with the protected photo; 422 with a reason where there is no face or the photo is still recognised; 415 where
    the bytes are no photo, 409 where it has been protected before; 503 where this machine cannot do it (an engine, its weights or
    memory are missing: for the log, not for the user). The original is never sent on in place of a protected photo.
    """
    try:
        result = protector.protect(upload, faces="all")
    except UnreadableInput as error:
        return 415, str(error).encode()
    except AlreadyProtected as error:
        return 409, str(error).encode()
    except FaceprotectError as error:  # everything that is raised on purpose
        sys.stderr.write(f"{error.code}: {error}\n")
        return 503, error.code.encode()
    if result.image is None:
        return 422, f"not protected: {result.status}".encode()
    return 200, result.image


def main(photo: str, output: str) -> int:
    """Protect one file through the handler; returns 0 when it was protected."""
    with Protector() as protector:  # keep one for the whole process, for all its threads: opening engines takes a second
        status, body = protect_upload(protector, Path(photo).read_bytes())
    if status != 200:
        sys.stderr.write(f"{status} {body.decode()}\n")
        return 1
    Path(output).write_bytes(body)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
