"""The commands that make engines from weights that people have: ``export KIND SOURCE -o DIR``. They need torch, which is imported late.

The SDK's command line finds them by the entry point ``faceprotect_sdk.commands``, and imports nothing of this floor itself.
"""

from __future__ import annotations

import importlib
import json
import secrets
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from faceprotect_sdk.cli.engines import compiled
from faceprotect_sdk.cli.options import FILE
from faceprotect_sdk.cli.report import emit
from faceprotect_sdk.errors import ExitCode, FaceprotectError, OutputError, RecogniserError, UsageError

device_plan_option = click.option(
    "--device-plan", is_flag=True, help="Also compile for this machine's GPU, by TensorRT, or TensorRT-RTX where only that is installed."
)


class ExportError(FaceprotectError):
    """Weights that cannot be made into an engine: damaged, not what they should be, or the disk is full. Nothing is left behind."""

    code = "export_failed"
    exit_code = ExitCode.ENGINE


@click.group()
def export() -> None:
    """Make engines (needs the extra 'export', with torch)."""


@export.command()
@click.argument("model", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Folder for the engine; must not exist or be empty.")
@click.option("--spec", type=FILE, help="JSON like an entry of fr.json. Default: MODEL.json or fr.json beside MODEL.")
@click.option("--name", help="Name of the engine (default: the file's stem).")
@click.option("--template", help="Template of the five points, e.g. arcface112.")
@click.option("--size", type=click.IntRange(16, 1024), help="Side of the square input in pixels.")
@click.option("--range", "value_range", nargs=2, type=float, help="Value range of the input, e.g. -1 1.")
@click.option("--color", type=click.Choice(["RGB", "BGR"]), help="Channel order of the input.")
@click.option("--threshold", type=float, help="Cosine from which two faces match (at FAR 1e-2).")
@click.option("--architecture", help="Of a state dict: ir50, ir152, irse50, facenet, facenet128, mobilefacenet (default: seen from it).")
@click.option("--precision", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True, help="Of the arithmetic.")
@device_plan_option
def surrogate(
    model: Path,
    output: Path,
    spec: Path | None,
    architecture: str | None,
    precision: Literal["fp32", "fp16"],
    device_plan: bool,
    **options: Any,
) -> None:
    """Turn a face recognition MODEL into a gradient engine for --surrogates: ONNX, or the state dict of a well-known network.

    ONNX of any kind, convolutional or with attention; state dicts of the networks that --architecture names, FaceNet also as a Keras .h5.
    """
    from faceprotect_engines.errors import EngineError

    if not model.is_file():
        raise UsageError(f"{model}: no such file. Check the path")
    if model.suffix != ".onnx":
        given = [name for name, value in {**options, "spec": spec}.items() if value is not None and name not in ("name", "threshold")]
        if given:
            raise UsageError(f"{model}: the architecture of a state dict says what it is fed; leave out {', '.join(given)}")
        named = {key: options[key] for key in ("name", "threshold")}
        _export("recogniser", str(model), output, "256", device_plan=device_plan, architecture=architecture, precision=precision, **named)
        return
    _free(output)
    _need_torch()
    from faceprotect_export.onnx_io.reader import OnnxReadError
    from faceprotect_export.surrogates.surrogate import build_surrogate

    specification = surrogate_specification(model, spec, **options)
    device = _gpu() if device_plan else None
    part = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")  # an engine is whole or not there
    try:
        manifest = build_surrogate(model, part, **specification, precision=precision)
        part.replace(output)
    except OnnxReadError as error:
        raise ExportError(f"{model}: {error}") from error
    except (ValueError, RuntimeError, RecogniserError, EngineError) as error:
        raise UsageError(f"{model}: cannot be made into a surrogate: {error}") from error
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror or error}). Choose another -o") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    emit({"engine": manifest.name, "folder": str(output), "parity": dict(manifest.parity)})
    if device is not None:
        _compile(output, [output], device)


def _shared_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.argument("source"),
            click.option("-o", "--output", type=FILE, required=True, help="Folder for the engine; must not exist or be empty."),
            click.option("--size", type=click.Choice(["256", "512"]), default="256", show_default=True, help="Of the image, in pixels."),
            click.option("--precision", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True),
            click.option("--forward-only", is_flag=True, help="Without gradients."),
            device_plan_option,
            click.option("--licence", default="unknown: that of the weights' source", help="Of the weights, for the manifest."),
        )
    ):
        command = option(command)
    return command


@export.command()
@_shared_options
def diffusion(**options: Any) -> None:
    """What --method diffusion needs of a pipeline of yours (UNet, autoencoder, text encoder); then: protect --engines DIR."""
    _export("diffusion", **options)


@export.command()
@_shared_options
def unet(**options: Any) -> None:
    """The UNet of Stable Diffusion or a relative of it: SOURCE is a folder of diffusers or a hub's name."""
    _export("unet", **options)


@export.command()
@_shared_options
def vae(**options: Any) -> None:
    """The autoencoder of Stable Diffusion: encoder and decoder."""
    _export("vae", **options)


@export.command()
@_shared_options
def taesd(**options: Any) -> None:
    """A tiny autoencoder (AutoencoderTiny of diffusers): encoder and decoder."""
    _export("taesd", **options)


@export.command()
@_shared_options
@click.option("--text", "texts", multiple=True, metavar="TEXT", help="Also embed TEXT; all of them go to texts.npz.")
def clip(texts: tuple[str, ...], **options: Any) -> None:
    """CLIP's image tower (CLIPModel of transformers), and texts embedded once."""
    _export("clip", **options)
    if texts:
        from faceprotect_export.pretrained.clip import write_texts

        write_texts(options["source"], list(texts), options["output"] / "texts.npz")


@export.command()
@_shared_options
def stylegan(**options: Any) -> None:
    """A StyleGAN2 generator of 256 to 1024 px: SOURCE is a .pt, .pkl (nothing in it runs) or .safetensors file; it says the size."""
    _export("stylegan", **options)


@export.command()
@click.argument("model", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Folder for the engine; one that is called face-detector can replace ours.")
@click.option("--precision", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True)
@click.option("--licence", default="unknown: that of the weights' source", help="Of the weights, for the manifest.")
def detector(model: Path, output: Path, **options: Any) -> None:
    """A face detector in ONNX, of CenterFace's form (as trained again on other faces).

    It takes photos of any size, and no gradient. With -o MINE/face-detector: protect --engines MINE.
    """
    if not model.is_file():
        raise UsageError(f"{model}: no such file. Check the path")
    _export("detector", str(model), output, "256", **options)


@export.command()
@click.option("--reference", type=FILE, required=True, help="Picture of one made-up face, from the front.")
@click.option("-o", "--output", type=FILE, required=True, help="Folder for the look; must not exist or be empty. Then: protect --look DIR")
@click.option("--caption", metavar="TEXT", help="The look in words, e.g. 'red lipstick and black eyeliner'.")
@click.option("--goal", type=click.Choice(["dodge", "decoy"]), default="dodge", show_default=True, help="What the look is trained for.")
@click.option("--weights", type=FILE, default=Path("weights"), show_default=True, help="Folder of the repository's weights.")
@click.option("--faces", type=FILE, metavar="CROPS.npy", help="Faces to train on.  [default: drawn by the style generator]")
@click.option("--teachers", type=FILE, metavar="DIR", help="Further recognisers to get past, with an fr.json.")
@click.option("--generator", metavar="SOURCE", help="Tune this DDPM of diffusers as published, e.g. google/ddpm-celebahq-256.")
@click.option("--clip", metavar="SOURCE", help="This CLIP of transformers in place of our encoder of looks.")
@click.option("--steps", type=click.IntRange(1), default=450, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def makeup(output: Path, **options: Any) -> None:
    """Train a look for --method makeup on the picture that shows it. Interrupted, the same command goes on."""
    _free(output)
    _need_torch()
    from faceprotect_export.build.folder import ParityError
    from faceprotect_export.makeup.own_look import Wish, export_look

    for name in ("faces", "teachers"):
        if options[name] is not None and not options[name].exists():
            raise UsageError(f"{options[name]}: does not exist. Check --{name}")
    with click.progressbar(length=options["steps"], label="training", file=sys.stderr) as bar:
        try:
            manifest = export_look(Wish(**options), output, lambda done, _: bar.update(done - bar.pos))
        except (FileNotFoundError, ValueError, ParityError) as error:
            raise ExportError(str(error)) from error
        except OSError as error:
            raise OutputError(f"{output}: cannot be written ({error.strerror or error}). Choose another -o") from error
    emit({"engine": manifest.name, "folder": str(output), "looks": manifest.metadata["looks"], "parity": dict(manifest.parity)})


def _export(kind: str, source: str, output: Path, size: str, device_plan: bool = False, **options: Any) -> None:
    _free(output)
    device = _gpu() if device_plan else None  # refused before the minutes that an export takes
    _need_torch()
    from faceprotect_export.pretrained import common, kinds

    def report(name: str, done: int, total: int) -> None:
        click.echo(f"{name}: engine {done + 1} of {total}", err=True)

    try:
        made = kinds.export(kind, source, output, common.Options(size=int(size), **options), report)
    except OSError as error:
        raise ExportError(f"{output}: cannot be written ({error.strerror or error}). Make room, or choose another -o") from error
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"{source}: {error}") from error
    for manifest in made:
        folder = output if len(made) == 1 else output / manifest.name
        size_of = sum(entry.bytes for entry in manifest.files.values())
        emit({"engine": manifest.name, "folder": str(folder), "bytes": size_of, "parity": dict(manifest.parity)})
    if device is not None:
        _compile(output, [output if len(made) == 1 else output / manifest.name for manifest in made], device)


def _gpu() -> str:
    from faceprotect_engines.backends.tensorrt import ready_device

    return ready_device()


def _compile(output: Path, folders: Sequence[Path], device: str) -> None:
    from faceprotect_engines.store import Store

    for name, seconds in compiled(Store([output, *Store().roots]), folders, device):
        emit({"engine": name, "device": device, "seconds": seconds})


def _free(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output}: exists and is not an empty folder. Choose another -o")


def surrogate_specification(
    model: Path,
    spec: Path | None,
    *,
    name: str | None = None,
    template: str | None = None,
    size: int | None = None,
    value_range: tuple[float, float] | None = None,
    color: str | None = None,
    threshold: float | None = None,
) -> dict[str, Any]:
    """Keyword arguments for ``build_surrogate``: the JSON specification with the options laid over it."""
    from faceprotect_sdk.judging.specification import THRESHOLD, onnx_specification

    has_file = spec is not None or model.with_suffix(".json").is_file() or model.with_name("fr.json").is_file()
    document: dict[str, Any] = {}
    templates: dict[str, Any] = {}
    if has_file:
        found, known = onnx_specification(model, spec)
        document, templates = json.loads(json.dumps(dict(found))), dict(known)
    entry = document.setdefault("input", {})
    if size is not None:
        entry["shape"] = ["batch", 3, size, size]
    for key, value in (("template", template), ("range", list(value_range) if value_range else None), ("color", color)):
        if value is not None:
            entry[key] = value
    if threshold is not None:
        document.setdefault("thresholds", {})[THRESHOLD] = threshold
    if "shape" not in entry or THRESHOLD not in document.get("thresholds", {}):
        raise UsageError(f"{model}: give its input and threshold: --size 112 --threshold 0.3 (or --spec FILE.json)")
    return {"spec": document, "templates": templates, "name": name or model.stem}


def _need_torch() -> None:
    """A plain installation has the commands but not what they run on."""
    try:
        for needed in ("torch", "onnx"):
            importlib.import_module(needed)
    except ImportError as error:
        raise FaceprotectError(
            f"exporting needs torch and onnx, and '{error.name}' is missing; run: pip install 'faceprotect-sdk[export]'"
        ) from error
