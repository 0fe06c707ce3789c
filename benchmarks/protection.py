"""How well methods protect, at what quality, how robustly and at what cost, on pairs of photos.

    python benchmarks/protection.py --pairs DIR --fr DIR --methods latent,mi-fgsm --out benchmarks/results/NAME.json

``--pairs`` holds ``train_align/`` (protected) and ``test_align/`` (another photo of the same person, clean) with matching numbers;
``--fr`` is a folder of recognisers with an fr.json, of which those with one of ``--roles`` score, and dlib where it is installed.
A method is NAME or NAME@VALUE: a strength (low, medium, high) or a budget for ours, the PSNR in dB for noise in pixels (mi-fgsm, pgd,
tip-im; @36x60 for 60 iterations instead of the paper's); ``none`` is the unprotected photo, and always measured. Photos are written as
JPEG q95, 4:4:4, and read back. What was measured stays in ``--work`` (protected photos too); a rerun goes on from there. Exit codes are
those of faceprotect-sdk.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NoReturn, cast

import click

from faceprotect_engines.backends.cpu_count import available_cores
from faceprotect_engines.store import ZOO
from faceprotect_sdk.errors import FaceprotectError, exit_code_of
from faceprotect_sdk.settings import ATTEMPTS
from harness import variants
from harness.measure import Look
from harness.pairs import read_pairs
from harness.provenance import command_line, environment
from harness.run import Measured, run
from harness.settings import GoalKind, Setting, describe, parse_setting, read_targets
from harness.strong import MEAN
from harness.summary import summarise

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def document(measured: Measured, settings: list[Setting], look: Look, command: str, workers: int) -> dict[str, Any]:
    """The JSON of a run."""
    kind = look.goal.kind
    return {
        "schema": 1,
        "command": command,
        "goal": kind,
        "seed": look.seed,
        **environment(workers),
        "settings": describe(settings),
        "recognisers": {
            one.name: {"measure": one.measure, "thresholds": one.thresholds, "strong": one.name in measured.strong}
            for one in measured.recognisers
        },
        "left_out": measured.left_out,
        "methods": {key: summarise(measured, key, kind, both=look.both) for key in measured.rows},
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result so that it can be read and compared by line: innermost lists stay on one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    path.write_text(re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text) + "\n")


STRONG_HELP = "Judges whose mean is the headline, with commas.  [default: those that fr.json calls strong; else as in harness/strong.py]"


def names(text: str | None) -> tuple[str, ...]:
    """Names of a list with commas."""
    return tuple(name.strip() for name in text.split(",")) if text else ()


def seen(quality: dict[str, float]) -> str:
    """A summary's quality in one line, what people see first."""
    return (
        f"SSIMULACRA2 {quality['ssimulacra2']:.1f} (worst tenth below {quality['ssimulacra2_p10']:.1f}), "
        f"mid band {quality['mid_band']:.1f}, PSNR {quality['psnr']:.1f} dB, SSIM {quality['ssim']:.3f}"
    )


#: What a script answers for with an exit code of its own.
FAILURES = (FaceprotectError, KeyboardInterrupt)


def fail(error: BaseException) -> NoReturn:
    """Say what went wrong, and leave with the code that the command line gives it."""
    stopped = "interrupted; the same command goes on from here" if isinstance(error, KeyboardInterrupt) else ""
    click.echo(f"Error: {stopped or error}", err=True)
    sys.exit(int(exit_code_of(error)))


@click.command()
@click.option("--pairs", required=True, type=FOLDER)
@click.option("--fr", required=True, type=FOLDER)
@click.option("--roles", default="judge", show_default=True, help="Roles of fr.json that score, with commas.")
@click.option("--strong", help=STRONG_HELP)
@click.option("--methods", default="latent,mi-fgsm", show_default=True, help="NAME or NAME@VALUE, with commas.")
@click.option("--goal", type=click.Choice(["dodge", "decoy", "impersonate"]), default="dodge", show_default=True)
@click.option("--targets", type=FOLDER, help="Targets of a decoy or impersonation, instead of the benchmark's.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="What was measured.  [default: OUT without .json]")
@click.option("--robustness", is_flag=True, help="Also after recompression, resizing, filters, noise, denoising, purification.")
@click.option("--both", is_flag=True, help="Protect the other photo too, and compare protected with protected.")
@click.option("--surrogates", multiple=True, help="Folders of further surrogates to search on.")
@click.option("--without", multiple=True, help="Shipped surrogates to leave out of the search.")
@click.option("--attempts", default=ATTEMPTS, show_default=True, help="Searches per face, while a shipped recogniser still matches.")
@click.option("--dlib/--no-dlib", default=True, show_default=True, help="Also score with dlib, where it is installed.")
@click.option("--lpips", type=FILE, help="LPIPS as an ONNX file: two inputs [1, 3, 256, 256] in -1..1.")
@click.option("--mesh", type=FILE, help="A mesh of 468 points as an ONNX file: [1, 3, 192, 192] in 0..1 to [1, 468, 3] in pixels.")
@click.option("--inception", type=FILE, help="FID's Inception as an ONNX file: [1, 3, 299, 299] in 0..1 to [1, 2048].")
@click.option("--zoo", type=FOLDER, default=ZOO, help="Engines and recipes, instead of those that ship.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N pairs.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=1, show_default=True, help="Per process.")
@click.option("--workers", default=available_cores(), show_default="one per core")
def main(
    pairs: Path,
    fr: Path,
    roles: str,
    methods: str,
    goal: str,
    targets: Path | None,
    out: Path,
    work: Path | None,
    robustness: bool,
    both: bool,
    surrogates: tuple[str, ...],
    without: tuple[str, ...],
    attempts: int,
    limit: int | None,
    workers: int,
    strong: str | None,
    **options: Any,
) -> None:
    """Measure METHODS and write one JSON."""
    try:
        common = {"surrogates": surrogates, "without": without, "attempts": attempts}
        settings = [parse_setting(text.strip(), **common) for text in methods.split(",")]
        found = read_pairs(pairs)[:limit]
        look = Look(
            fr,
            tuple(roles.split(",")),
            read_targets(cast(GoalKind, goal), pairs, targets),
            both=both,
            variants=variants.ALL if robustness else (variants.AS_WRITTEN, variants.REDETECTED, "JPEG q75"),
            **options,
        )
        measured = run(settings, found, look, work or out.with_suffix(""), workers, names(strong))
        result = document(measured, settings, look, command_line(), workers)
    except FAILURES as error:
        fail(error)
    write_result(out, result)
    for key, summary in result["methods"].items():
        written = f", {summary['confirmed']:.1f} % confirmed by what ships" if "confirmed" in summary else ""
        click.echo(f"{key}: {seen(summary['quality'])}, {summary['seconds']['warm']} s{written}")
        mean = summary["strong"]
        click.echo(f"  {MEAN} ({', '.join(mean['judges'])}): {mean['protected']} % {mean['interval']}, clean {mean['clean']} %")
        for name, entry in summary["recognisers"].items():
            head = entry["verification"][0]
            mark = " (searched on)" if name in summary["searched_on"] else ""
            click.echo(f"  {name}{mark}: {head['protected']} % {head['interval']}, clean {head['clean']} %")


if __name__ == "__main__":
    main()
