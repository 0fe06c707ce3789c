"""The command ``pack``: a method as a folder that any program can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from faceprotect_sdk.cli.options import DEVICES, FILE
from faceprotect_sdk.cli.report import emit


@click.command()
@click.argument("method")
@click.option("-o", "--out", required=True, type=FILE, metavar="DIR", help="The new folder, auto.fp for instance.")
@click.option("--triton", is_flag=True, help="In place of a bundle: a model repository of the forward engines, for NVIDIA's Triton.")
@click.option("--strength", default="medium", show_default=True, metavar="NAME", help="Of the run that ports are compared with.")
@click.option("--without", multiple=True, metavar="NAME", help="A recogniser to leave out of the search.")
@click.option("--photo", type=FILE, metavar="PHOTO", help="Of that run, with a face.  [default: scikit-image's astronaut]")
@click.option("--web", is_flag=True, help="For a server to send: numbers rounded as float16 has them, files compressed.")
@click.option("--device", default="cpu", show_default=True, metavar=DEVICES, help="What computes that run.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Processor threads.  [default: all cores]")
@click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def pack(
    method: str,
    out: Path,
    triton: bool,
    device: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    without: tuple[str, ...],
    **options: Any,
) -> None:
    """Write METHOD as a folder of its own: engines with their weights, the recipe, and a run to compare others with.

    Recognisers that have been fetched go with it. SPEC.md says how a program runs such a folder; here `protect --method DIR` does.
    """
    from faceprotect_engines.store import Store
    from faceprotect_sdk.bundle.pack import pack as write
    from faceprotect_sdk.bundle.triton import pack_triton
    from faceprotect_sdk.pool import EnginePool

    pool = EnginePool(Store(), device, threads)

    def report(doing: str) -> None:
        if not quiet:
            click.echo(doing, err=True)

    try:
        if triton:
            packed = pack_triton(method, out, pool, without=without, report=report)
        else:
            packed = write(method, out, pool, without=without, report=report, **options)
    finally:
        pool.close()
    if as_json:
        emit({"folder": str(packed.folder), "engines": list(packed.engines), "bytes": packed.bytes})
    else:
        size = f"{len(packed.engines)} engines, {packed.bytes / 1e6:.1f} MB"
        check = "" if triton else f". Check it: faceprotect-sdk engines verify {packed.folder}"
        click.echo(f"{packed.folder}: {size}{check}")
