"""What each part of a method is worth, on pairs that are held out for such decisions (never the reported ones).

    python benchmarks/ablations.py [--method latent] --pairs TUNING --fr DIR --out benchmarks/results/ablations.json [--only NAME...]

Each row changes one thing of the method; noise in pixels stands beside it at about the same PSNR. One search per face, so
that no judge has a say. ``--teachers`` names engine folders (``faceprotect-sdk export surrogate``) that two more rows search on. Work
folder, exit codes and JSON are those of ``protection.py``; ``report.py`` reads the result.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from faceprotect_engines.backends.cpu_count import available_cores
from faceprotect_engines.recipes.recipe import load_recipe
from faceprotect_engines.store import ZOO, Store
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.methods.panel import joining, panel
from harness.measure import Look
from harness.pairs import read_pairs
from harness.provenance import command_line
from harness.run import run
from harness.settings import Goal, Setting, read_targets
from protection import FAILURES, FILE, FOLDER, STRONG_HELP, document, fail, names, write_result

DLIB, CONV = "dlib-resnet", "student-conv"


def settings(method: str, teachers: tuple[str, ...], attention: str, psnr: float, fetched: Sequence[str] = ()) -> list[Setting]:
    """The rows: name, and what it changes. ``fetched``: surrogates that joined by themselves."""
    base = Setting(method, method, attempts=1)
    recipe = load_recipe(ZOO / "recipes" / f"{method}.json")
    stages = recipe["stages"]
    draws = f"stages.{max(n for n, stage in enumerate(stages) if stage['kind'] == 'descend')}.draws"

    def changed(key: str, recipe: Mapping[str, object]) -> Setting:
        return replace(base, key=key, recipe=recipe)

    rows = [
        base,
        changed("no diversity", {f"{draws}.probability": 0.0}),
        changed("no zoom", {f"{draws}.zoom": [1.0, 1.0]}),
        changed("no resize, no blur", {f"{draws}.resize": [1.0, 1.0], f"{draws}.blur": [0.0, 0.0]}),
        changed("no noise", {f"{draws}.noise_std": 0.0}),
        changed("no flips", {f"{draws}.flip": 0.0}),
        changed("no colour term", {"parameters.chroma_share": 0.0}),
        changed("no structure term", {"parameters.structure_share": 0.0}),
        changed("no mid band", {"parameters.mid_share": 0.0}),
        changed("squared error alone", {f"parameters.{share}_share": 0.0 for share in ("chroma", "structure", "mid")}),
        *(_auto_rows(changed, recipe) if method == "auto" else ()),
        changed("20 steps", {"parameters.steps": 20}),
        changed("80 steps", {"parameters.steps": 80}),
        *(_style_rows(changed) if method == "style" else _diffusion_rows(changed) if method == "diffusion" else ()),
        *(replace(base, key=f"without {name}", without=(name,)) for name in (DLIB, CONV, *fetched)),
        replace(base, key="with the student with attention", surrogates=(attention,)),
    ]
    if teachers:
        rows.append(replace(base, key="teachers", without=(DLIB, CONV, *fetched), surrogates=teachers))
        rows.append(replace(base, key="teachers and dlib", without=(CONV, *fetched), surrogates=teachers))
    noise = Setting("", "mi-fgsm", psnr=psnr, attempts=1)
    for name, iterations in (("mi-fgsm", 16), ("mi-fgsm", 60), ("pgd", 40), ("tip-im", 50)):
        rows.append(replace(noise, key=f"{name}, {iterations} iterations", method=name, iterations=iterations))
    return rows


def _auto_rows(changed: Callable[[str, Mapping[str, object]], Setting], recipe: Mapping[str, Any]) -> list[Setting]:
    """What moves, how fast, and where."""
    *_, search = recipe["stages"]
    rate = search["optimiser"]["learning_rate"]
    pixels = {**search, "engine": "image-step", "start_std": 0.001, "optimiser": {**search["optimiser"], "learning_rate": 0.2 * rate}}
    pixels["inputs"] = {name: array for name, array in search["inputs"].items() if name != "latent"} | {"decoded_original": "zero_offset"}
    latent = load_recipe(ZOO / "recipes" / "latent.json")
    zeros = "constants.zero_offset"
    coded = {**latent["stages"][-1], "steps": search["steps"], "optimiser": search["optimiser"]}
    return [
        changed("in every pixel", {"stages": [pixels], zeros: {"zeros": [1, 3, CROP, CROP]}}),
        changed("in the latent alone", {"stages": [*latent["stages"][:-1], coded], zeros: latent["constants"]["zero_offset"]}),
        changed("a steady learning rate", {"stages.2.optimiser": {**search["optimiser"], "learning_rate": 0.4 * rate, "anneal": 0.99}}),
        changed("the face alone", {"region": {}}),
        changed("nothing spared", {"region.spared": []}),
    ]


def _style_rows(changed: Callable[[str, Mapping[str, object]], Setting]) -> list[Setting]:
    """Which codes move, and what holds them: layers 0 to 2 reach up to 32 px, the last reach is that of the base code."""
    return [
        changed("no key points", {"parameters.keypoint_share": 0.0}),
        changed("no P-norm", {"constants.code_weight": [0.0]}),
        changed("no refinement of the inversion", {"stages.2.until.mse": 1.0}),
        changed("W+ alone", {"constants.reach": [1, 1, 1, 1, 1, 1, 1, 0]}),
        changed("W+ alone, coarse layers", {"constants.reach": [1, 1, 1, 0, 0, 0, 0, 0]}),
        changed("W+ alone, fine layers", {"constants.reach": [0, 0, 0, 1, 1, 1, 1, 0]}),
        changed("F alone", {"constants.reach": [0, 0, 0, 0, 0, 0, 0, 1]}),
    ]


def _diffusion_rows(changed: Callable[[str, Mapping[str, object]], Setting]) -> list[Setting]:
    """Departures from the published way; those with engines of their own need a zoo that has them (``faceprotect_export.zoo --help``)."""
    whole = load_recipe(ZOO / "recipes" / "diffusion-published.json")
    published, descents = whole["constants"], whole["stages"][1:-1]
    ours = load_recipe(ZOO / "recipes" / "diffusion.json")
    stages, constants = ours["stages"], ours["constants"]
    # What the published form puts into the photo is its decoding; here that of the face, inside the mask.
    literal = {
        "stages": [whole["stages"][0], *descents],
        # Its budget is the weight of the recognisers' loss, and ours must not take its place.
        "constants": published | {"weights": 2 * [whole["parameters"]["budget"]]},
        "parameters": {name: value for name, value in whole["parameters"].items() if name != "budget"},
    }
    embedded = {f"embedding_{n}": f"embedding_{n}" for n in range(3)}
    null_text = {
        "stages": [
            {**stages[0], "outputs": whole["stages"][0]["outputs"] | {"level_3": "latent"}},
            {**descents[0], "inputs": descents[0]["inputs"] | {"latent": "latent"}},
            *descents[1:-1],
            *({**stage, "inputs": stage["inputs"] | embedded} for stage in stages[1:]),
        ],
        "constants": constants
        | {f"time_{n}": [time] for n, time in enumerate(constants["times"])}
        | {f"moves_{n}": constants["moves"][2 * n : 2 * n + 2] for n in range(3)},
        "parameters": ours["parameters"] | {"null_text_steps": whole["parameters"]["null_text_steps"]},
    }
    one = {
        "stages.0.outputs": {"level_2": "latent", "embedding": "embedding"},
        "constants.times": [101],
        "constants.moves": [1.05732542, -0.304612437],
        "stages.1.outputs": {"decoded": "decoded_original", "maps_0": "maps_0"},
        "stages.1.engine": "diffusion-decode-one",
        "stages.2.engine": "diffusion-step-one",
        **{f"stages.{n}.inputs": {k: v for k, v in stages[n]["inputs"].items() if k[-2:] not in ("_1", "_2")} for n in (1, 2)},
    }
    distilled = {
        **one,
        "stages.0.outputs": stages[0]["outputs"],
        "constants.times": [151],
        "constants.moves": [1.09909369, -0.416662844],
        "stages.1.engine": "diffusion-decode-turbo",
        "stages.2.engine": "diffusion-step-turbo",
    }
    return [
        changed("as published", literal),
        changed("with null-text", null_text),
        changed("optimiser as published", {"stages.2.optimiser": descents[-1]["optimiser"]}),
        changed("one step, from less noise", one),
        changed("one step, distilled", distilled),
        changed("levels as published", {f"constants.{name}": published[name] for name in ("times", "moves")}),
        changed("attention maps not held", {"parameters.attention_share": 0.0}),
        changed("gradient through the last step", {"stages.2.engine": "diffusion-step-last"}),
        changed("gradient through the decoder", {"stages.2.engine": "diffusion-step-decoder"}),
    ]


@click.command()
@click.option("--method", type=click.Choice(["auto", "latent", "style", "diffusion"]), default="auto", show_default=True)
@click.option("--pairs", required=True, type=FOLDER)
@click.option("--fr", required=True, type=FOLDER)
@click.option("--teachers", multiple=True, type=FOLDER, help="Engines of the students' teachers.")
@click.option("--targets", type=FOLDER, help="A pairs folder with target_images/, for tip-im.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="What was measured.  [default: OUT without .json]")
@click.option("--zoo", type=FOLDER, default=ZOO, help="Engines and recipes, instead of those that ship.")
@click.option("--only", multiple=True, help="Names of rows to measure (the first always is).")
@click.option("--psnr", default=36.0, show_default=True, help="Of the noise in pixels before encoding, which takes some away.")
@click.option("--strong", help=STRONG_HELP)
@click.option("--lpips", type=FILE, help="LPIPS as an ONNX file: two inputs [1, 3, 256, 256] in -1..1.")
@click.option("--mesh", type=FILE, help="A mesh of 468 points as an ONNX file: [1, 3, 192, 192] in 0..1 to [1, 468, 3] in pixels.")
@click.option("--limit", type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=available_cores(), show_default="one per core")
def main(
    method: str,
    pairs: Path,
    fr: Path,
    teachers: tuple[Path, ...],
    targets: Path | None,
    out: Path,
    work: Path | None,
    zoo: Path,
    only: tuple[str, ...],
    psnr: float,
    strong: str | None,
    lpips: Path | None,
    mesh: Path | None,
    limit: int | None,
    seed: int,
    workers: int,
) -> None:
    """Measure every row and write one JSON."""
    try:
        goal = read_targets("dodge", targets, None) if targets else Goal()
        store = Store()
        fetched = joining(store, panel(store))
        rows = settings(method, tuple(str(t) for t in teachers), str(ZOO / "student-attention"), psnr, fetched)
        if unknown := set(only) - {row.key for row in rows}:
            raise click.UsageError(f"no row is called {sorted(unknown)}; there are: {', '.join(row.key for row in rows)}")
        rows = [row for row in rows if not only or row.key in only or row.key == method]
        rows = [row for row in rows if row.method != "tip-im" or goal.rivals]
        look = Look(fr, ("judge",), goal, seed=seed, zoo=zoo, lpips=lpips, mesh=mesh)
        measured = run(rows, read_pairs(pairs)[:limit], look, work or out.with_suffix(""), workers, names(strong))
        result = document(measured, rows, look, command_line(), workers)
    except FAILURES as error:
        fail(error)
    write_result(out, result)
    for key, summary in result["methods"].items():
        found = summary["recognisers"].items()
        rates = "  ".join(f"{name} {e['verification'][0]['protected']:.1f} % ({e['mean_similarity']:.3f})" for name, e in found)
        quality, mean = summary["quality"], summary["strong"]
        seen = f"SSIMULACRA2 {quality['ssimulacra2']:.1f}  mid band {quality['mid_band']:.1f}  {quality['psnr']:.1f} dB"
        click.echo(f"{key:34} {seen} {quality['ssim']:.3f}  strong {mean['protected']:.1f} % (clean {mean['clean']:.1f} %)  {rates}")


if __name__ == "__main__":
    sys.exit(main())
