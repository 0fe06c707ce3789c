"""What each part of a method is worth, on pairs that are held out for such decisions (never the reported ones).

    python benchmarks/ablations.py --pairs TUNING --fr DIR --out benchmarks/results/ablations.json [--only NAME...]

Each row changes one thing of the method ``latent``; noise in pixels stands beside it at about the same PSNR. One search per face, so
that no judge has a say. ``--teachers`` names engine folders (``faceprotect-sdk export surrogate``) that two more rows search on. Work
folder, exit codes and JSON are those of ``protection.py``; ``report.py`` reads the result.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from faceprotect_engines.backends.cores import available_cores
from faceprotect_engines.store import ZOO, Store
from faceprotect_sdk.methods.latent import JOINING
from harness.measure import Look
from harness.pairs import read_pairs
from harness.provenance import command_line
from harness.run import run
from harness.settings import Goal, Setting, read_targets
from protection import FAILURES, FOLDER, document, fail, write_result

DLIB, CONV = "dlib-resnet", "student-conv"
DRAWS = "stages.2.draws"


def settings(teachers: tuple[str, ...], attention: str, psnr: float, fetched: Sequence[str] = ()) -> list[Setting]:
    """The rows: name, and what it changes. ``fetched``: surrogates that joined by themselves."""
    base = Setting("latent", "latent", attempts=1)

    def changed(key: str, **recipe: object) -> Setting:
        return replace(base, key=key, recipe={path.replace("__", "."): value for path, value in recipe.items()})

    rows = [
        base,
        replace(base, key="no diversity", recipe={f"{DRAWS}.probability": 0.0}),
        replace(base, key="no zoom", recipe={f"{DRAWS}.zoom": [1.0, 1.0]}),
        replace(base, key="no resize, no blur", recipe={f"{DRAWS}.resize": [1.0, 1.0], f"{DRAWS}.blur": [0.0, 0.0]}),
        replace(base, key="no noise", recipe={f"{DRAWS}.noise_std": 0.0}),
        replace(base, key="no flips", recipe={f"{DRAWS}.flip": 0.0}),
        changed("no colour term", parameters__chroma_share=0.0),
        changed("no structure term", parameters__structure_share=0.0),
        changed("20 steps", parameters__steps=20),
        changed("80 steps", parameters__steps=80),
        *(replace(base, key=f"without {name}", without=(name,)) for name in (DLIB, CONV, *fetched)),
        replace(base, key="with the student with attention", surrogates=(attention,)),
    ]
    if teachers:
        rows.append(replace(base, key="teachers", without=(DLIB, CONV, *fetched), surrogates=teachers))
        rows.append(replace(base, key="teachers and dlib", without=(CONV, *fetched), surrogates=teachers))
    noise = Setting("", "mi-fgsm", psnr=psnr, attempts=1)
    for method, iterations in (("mi-fgsm", 16), ("mi-fgsm", 60), ("pgd", 40), ("tip-im", 50)):
        rows.append(replace(noise, key=f"{method}, {iterations} iterations", method=method, iterations=iterations))
    return rows


@click.command()
@click.option("--pairs", required=True, type=FOLDER)
@click.option("--fr", required=True, type=FOLDER)
@click.option("--teachers", multiple=True, type=FOLDER, help="Engines of the students' teachers.")
@click.option("--targets", type=FOLDER, help="A pairs folder with target_images/, for tip-im.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="What was measured.  [default: OUT without .json]")
@click.option("--only", multiple=True, help="Names of rows to measure (the first always is).")
@click.option("--psnr", default=36.0, show_default=True, help="Of the noise in pixels before encoding, which takes some away.")
@click.option("--limit", type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=available_cores(), show_default="one per core")
def main(
    pairs: Path, fr: Path, teachers: tuple[Path, ...], targets: Path | None, out: Path, work: Path | None, only: tuple[str, ...],
    psnr: float, limit: int | None, seed: int, workers: int,
) -> None:  # fmt: skip
    """Measure every row and write one JSON."""
    try:
        goal = read_targets("dodge", targets, None) if targets else Goal()
        fetched = [name for name in JOINING if not Store().waits(name)]
        rows = settings(tuple(str(t) for t in teachers), str(ZOO / "student-attention"), psnr, fetched)
        if unknown := set(only) - {row.key for row in rows}:
            raise click.UsageError(f"no row is called {sorted(unknown)}; there are: {', '.join(row.key for row in rows)}")
        rows = [row for row in rows if not only or row.key in only or row.key == "latent"]
        rows = [row for row in rows if row.method != "tip-im" or goal.rivals]
        look = Look(fr, ("judge",), goal, seed=seed)
        measured = run(rows, read_pairs(pairs)[:limit], look, work or out.with_suffix(""), workers)
        result = document(measured, rows, look, command_line(), workers)
    except FAILURES as error:
        fail(error)
    write_result(out, result)
    for key, summary in result["methods"].items():
        found = summary["recognisers"].items()
        rates = "  ".join(f"{name} {e['verification'][0]['protected']:.1f} % ({e['mean_similarity']:.3f})" for name, e in found)
        click.echo(f"{key:34} {summary['quality']['psnr']:.1f} dB {summary['quality']['ssim']:.3f}  {rates}")


if __name__ == "__main__":
    sys.exit(main())
