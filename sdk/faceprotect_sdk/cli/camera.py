"""The command ``camera``: a camera or a video, frame by frame."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import click

from faceprotect_sdk.cli.help import GroupedCommand, option
from faceprotect_sdk.cli.options import FACES, MACHINE, device_options, json_option, quiet_option
from faceprotect_sdk.cli.report import guarded
from faceprotect_sdk.errors import ExitCode, UsageError
from faceprotect_sdk.methods import QUICK
from faceprotect_sdk.stream.settings import StreamSettings, Unprotected

if TYPE_CHECKING:
    from faceprotect_sdk.stream.recording import Sink, Source
    from faceprotect_sdk.stream.stream import Stream

_FRAMES = "Frames"


@dataclass
class Tally:
    """What happened so far. ``late``: frames that took longer than one lasts; ``bare``: of how many a face went out as it was.

    ``blurred``: of how many a face, or all of it, was blurred; ``seconds``: that each frame took.
    """

    frames: int = 0
    most_faces: int = 0
    late: int = 0
    bare: int = 0
    blurred: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=2000))

    def add(self, stream: Stream, took: float, fps: float) -> None:
        """One more frame."""
        faces = stream.faces
        self.frames += 1
        self.most_faces = max(self.most_faces, len(faces))
        self.late += took > 1 / fps
        unprotected = not stream.looked or any(face.status != "protected" for face in faces)
        if stream.settings.unprotected == "blur":
            self.blurred += unprotected
        else:
            self.bare += unprotected
        self.seconds.append(took)

    def exit_code(self) -> ExitCode:
        """No face at all; a face that went out as it was; or neither."""
        if self.most_faces == 0:
            return ExitCode.NO_FACE
        return ExitCode.STILL_MATCHED if self.bare else ExitCode.PROTECTED

    def latency(self) -> dict[str, float]:
        """Milliseconds per frame, of the last two thousand."""
        ordered = sorted(self.seconds) or [0.0]
        return {f"p{part}_ms": round(1e3 * ordered[min(len(ordered) * part // 100, len(ordered) - 1)], 2) for part in (50, 99)}


@click.command(cls=GroupedCommand)
@option(_FRAMES, "--source", default="0", show_default=True, metavar="NUMBER|FILE", help="A camera by its number, or a video file.")
@option(
    _FRAMES,
    "--out",
    required=True,
    metavar="FILE|-|window|virtual",
    help="A video file, raw BGR frames on stdout, a window, or a virtual camera (needs pyvirtualcam).",
)
@option(_FRAMES, "--frames", type=click.IntRange(1), metavar="N", help="End after so many.")
@option(_FRAMES, "--live", is_flag=True, help="Treat a file as a camera: at its own pace, with what is ready by then.")
@option(_FRAMES, "--force", is_flag=True, help="Replace a video that exists.")
@option(FACES, "--method", default=QUICK, show_default=True, metavar="NAME|DIR", help="What changes them.")
@option(FACES, "--strength", default="medium", show_default=True, metavar="NAME", help="How much change people may see.")
@option(
    FACES,
    "--unprotected",
    type=click.Choice(get_args(Unprotected)),
    default="blur",
    show_default=True,
    help="What is done with a face that is not protected yet, or cannot be.",
)
@option(FACES, "--confirm/--no-confirm", default=True, help="Whether a judge has to agree to each change.  [default: yes]")
@option(MACHINE, "--detect-every", type=click.IntRange(1), default=10, show_default=True, metavar="N", help="Look for faces each N frames.")
@option(
    MACHINE, "--refresh-every", type=click.IntRange(1), default=6, show_default=True, metavar="N", help="Renew after N at the earliest."
)
@device_options
@json_option
@quiet_option
def camera(source: str, out: str, as_json: bool, quiet: bool, frames: int | None, live: bool, force: bool, **options: Any) -> None:
    """Protect the faces of a camera or a video, frame by frame.

    A file is worked on at leisure: every frame is looked at before it is written. A camera is not held up: `fast` runs beside it, and its
    last change is carried along with the face. Sound is not written. Exit code 6: with --unprotected pass, a face went out as it was.
    """

    def one() -> tuple[int, dict[str, Any]]:
        from faceprotect_sdk.stream.recording import Source, check_out, sink_of
        from faceprotect_sdk.stream.stream import Stream

        if out == "-" and as_json:
            raise UsageError("standard output takes the frames and nothing else: leave out --json, or name a file with --out")
        check_out(out, force=force)
        with Source(source) as given:
            alive = given.live or live
            with Stream(options.pop("method"), _settings(options, synchronous=not alive)) as stream:
                stream.warm()
                tally = _run(stream, given, sink_of(out, given.size, given.fps, force=force), frames, paced=alive and not given.live)
            code = tally.exit_code()
            if not quiet:
                click.echo(_words(source, out, tally, given.fps), err=out == "-" or as_json)
            return int(code), _document(source, out, tally, given.fps, stream, code)

    raise SystemExit(guarded(source, one, as_json))


def _settings(options: dict[str, Any], *, synchronous: bool) -> StreamSettings:
    options["threads"] = options["threads"] or 1
    return StreamSettings(channel_order="bgr", synchronous=synchronous, **options)


def _run(stream: Stream, source: Source, sink: Sink, frames: int | None, *, paced: bool) -> Tally:
    """Frame after frame. Where somebody ends it, what has been written until then is kept; where something fails, it is not."""
    tally, began, whole = Tally(), time.perf_counter(), False
    try:
        for frame in source:
            if paced:
                time.sleep(max(began + tally.frames / source.fps - time.perf_counter(), 0.0))
            started = time.perf_counter()
            drawn = stream.next(frame)
            tally.add(stream, time.perf_counter() - started, source.fps)
            if not sink.send(drawn) or tally.frames == frames:
                break
        whole = True
    except KeyboardInterrupt:
        whole = tally.frames > 0
        raise
    finally:
        sink.end(whole)
    return tally


def _words(source: str, out: str, tally: Tally, fps: float) -> str:
    kept = f"{tally.blurred} with something blurred" if not tally.bare else f"{tally.bare} WITH A FACE THAT WAS NOT PROTECTED"
    times = ", ".join(f"{key[:3]} {value} ms" for key, value in tally.latency().items())
    late = f"{tally.late} later than {fps:.0f} a second"
    return f"{source} -> {out}: {tally.frames} frames, {tally.most_faces} faces at most, {kept}; {times}, {late}"


def _document(source: str, out: str, tally: Tally, fps: float, stream: Stream, code: ExitCode) -> dict[str, Any]:
    counts = {name: value for name, value in asdict(stream.counts).items() if name != "frames"}
    own = {"frames": tally.frames, "most_faces": tally.most_faces, "late": tally.late, "bare": tally.bare, "blurred": tally.blurred}
    return {"input": source, "output": out, "exit_code": int(code), "fps": fps, **own, **tally.latency(), **counts}
