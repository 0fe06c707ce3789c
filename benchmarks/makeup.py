"""What makeup looks like and costs: ``python benchmarks/makeup.py PAIRS --out FILE.json [--sheet FILE.jpg] [--look FOLDER]...``

PAIRS is a folder of face photos (its ``test_align/`` where it has one). Per look: how far the histograms of lips and lids come to what the
look gives them on this face (1 is all the way), what is left of the change outside the mask (nothing is allowed to be), seconds per
face, and PSNR. Removal: on the same faces, painted, whose bare original is therefore known. Recognition is measured by ``protection.py``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from faceprotect_engines.store import Store
from faceprotect_export.makeup.own_look import removal_generator
from faceprotect_export.makeup.reference import shipped_reference
from faceprotect_export.makeup.regions import Frame, skin_colour
from faceprotect_export.objectives.makeup import histogram_distance, palette, wanted_histograms
from faceprotect_export.objectives.penalty import luma
from faceprotect_export.train.looks import pictures
from faceprotect_export.train.makeup_removal import removal_figures
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.face.align import aligned_crop
from faceprotect_sdk.face.detect import find_faces
from faceprotect_sdk.face.mask import face_mask
from faceprotect_sdk.methods import SearchRequest, make_method, strength_of
from faceprotect_sdk.photo.reading import load
from faceprotect_sdk.pool import EnginePool
from harness.provenance import command_line, environment
from protection import write_result

MAKEUP = "makeup"
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def crops_of(folder: Path, limit: int | None) -> NDArray[np.uint8]:
    """Canonical crops uint8 [N, 256, 256, 3] of the largest face of every photo."""
    photos = sorted((folder / "test_align" if (folder / "test_align").is_dir() else folder).glob("*.*"))[:limit]
    found = []
    with Store().open("face-detector") as detector:
        for photo in photos:
            pixels = load(photo).rgb8()
            faces = find_faces(pixels, detector)
            if faces:
                crop = aligned_crop(pixels, faces[0].points)[0].transpose(1, 2, 0)
                found.append((crop * 255).round().astype(np.uint8))
    return np.stack(found)


def transfer(crops: NDArray[np.uint8], look: str, folder: Path | None, sources: Sources, threads: int) -> tuple[dict[str, Any], Tensor]:
    """Figures of one look, and the faces that wear it [N, 3, 256, 256]."""
    room = EnginePool(Store() if folder is None else Store([folder, *Store().roots]), "cpu", threads)
    method, mask, keypoints = make_method(MAKEUP, room, look=look), face_mask(), sources.keypoints()
    limits = {one.name: 0.0 for one in method.surrogates()}
    reference = shipped_reference(look, keypoints)
    rows, worn = [], []
    for index in tqdm(range(len(crops)), desc=look):
        crop = pictures(crops[index : index + 1])
        request = SearchRequest(crop.numpy(), mask, {}, limits, strength_of(method.recipe, "medium").budget, 0)
        if not index:
            method.search(request)  # opens the engines
        started = time.perf_counter()
        difference = method.search(request).difference
        seconds = time.perf_counter() - started
        made = (crop + torch.from_numpy(difference)[None]).clamp(0, 1)
        with torch.no_grad():
            points = keypoints(crop)
            wanted = wanted_histograms(palette(crop, points), reference.palette, reference.bare_palette)
            before, after = (histogram_distance(one, points, wanted) for one in (crop, made))
            colour = skin_colour(crop, Frame(points, crop.shape[-1]))
        row = {f"{name}_left": after[name] / before[name] for name in before.keys() & after.keys() if before[name] > 0.01}
        outside = np.abs(difference * (mask[0] == 0)).max()
        row |= {"outside": float(outside), "seconds": seconds, "psnr": float(-10 * torch.log10((made - crop).square().mean()))}
        rows.append({**row, "skin": float(luma(colour))})
        worn.append(made)
    room.close()
    keys = sorted({key for row in rows for key in row} - {"skin"})
    figures: dict[str, Any] = {key: round(float(np.median([row[key] for row in rows if key in row])), 4) for key in keys}
    figures["outside"] = max(row["outside"] for row in rows)
    shades = np.array([row["skin"] for row in rows])
    for name, chosen in (("darker_half", shades <= np.median(shades)), ("lighter_half", shades > np.median(shades))):
        lips = [row["lips_left"] for row, is_in in zip(rows, chosen, strict=True) if is_in and "lips_left" in row]
        figures[f"lips_left_{name}"] = round(float(np.median(lips)), 4)
    return {**figures, "faces": len(rows)}, torch.cat(worn)


@click.command()
@click.argument("pairs", type=FOLDER)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Picture of the first faces in every look.")
@click.option("--look", "folders", multiple=True, type=FOLDER, help="Also a look of this folder, called LOOK-ANYTHING after its reference.")
@click.option("--weights", default="weights", show_default=True, type=FOLDER)
@click.option("--limit", type=click.IntRange(1), help="Only the first N photos.")
@click.option("--removal/--no-removal", default=True, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    pairs: Path,
    out: Path,
    sheet: Path | None,
    folders: tuple[Path, ...],
    weights: Path,
    limit: int | None,
    removal: bool,
    threads: int,
    seed: int,
) -> None:
    """Measure every look that ships, those in folders, and the removal."""
    torch.set_num_threads(threads)
    sources, crops = Sources(weights, ()), crops_of(pairs, limit)
    result: dict[str, Any] = {"command": command_line(), **environment(1), "seed": seed, "threads": threads, "looks": {}}
    shown = [pictures(crops)]
    looks: list[tuple[str, str, Path | None]] = [(look, look, None) for look in Store().manifest(MAKEUP).metadata["looks"]]
    for key, look, folder in looks + [(str(folder.name), folder.name.split("-")[0], folder) for folder in folders]:
        result["looks"][key], worn = transfer(crops, look, folder, sources, threads)
        click.echo(f"{key}: {result['looks'][key]}")
        shown.append(worn)
    if removal:
        result["removal"] = removal_figures(removal_generator(sources), sources, sources.looks(), crops, seed)
        click.echo(f"removal: {result['removal']}")
    if sheet:
        rows = torch.cat([torch.cat(list(row[:10]), 2) for row in shown], 1)
        pixels = (rows.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        cv2.imwrite(str(sheet), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    write_result(out, result)


if __name__ == "__main__":
    main()
