"""Markdown tables of a result document (what ``protection.py`` writes)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.settings import CLEAN
from harness.summary import area_under

Document = dict[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right of the first column."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def provenance(document: Document) -> str:
    """What made the numbers."""
    people = document["methods"][CLEAN]["people"]
    out = f"; left out: {', '.join(document['left_out'])}" if document["left_out"] else ""
    where = f"{document['machine']}, ONNX Runtime {document['onnxruntime']}"
    return (
        f"{people} people, goal {document['goal']}, seed {document['seed']}, {document['date']}, commit {document['commit']}, "
        f"{where}{out}.\n"
        f"`{document['command']}`\n"
    )


def _percent(entry: dict[str, Any], searched: bool) -> str:
    low, high = entry["interval"]
    text = f"{entry['protected']:.1f} [{low:.0f}, {high:.0f}]"
    return f"({text})" if searched else text


def protection(document: Document) -> str:
    """Success at each recogniser's own threshold, quality and cost; in brackets where the method searched on the recogniser."""
    names = list(document["recognisers"])
    rows = []
    for key, method in document["methods"].items():
        quality = method["quality"]
        rates = [_percent(method["recognisers"][n]["verification"][0], n in method["searched_on"]) for n in names]
        rows.append([key, f"{quality['psnr']:.1f}", f"{quality['ssim']:.3f}", *rates, f"{method['seconds']['warm']:.1f}"])
    return table(["method", "PSNR dB", "SSIM", *[f"{n} %" for n in names], "s"], rows)


def quality(document: Document) -> str:
    """How much the photos changed. The feature net is CenterFace's backbone: neither LPIPS nor FID."""
    columns = {
        "psnr": "PSNR dB", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "feature_distance": "feature distance",
        "frechet_features": "Frechet, features", "lpips": "LPIPS", "fid": "FID",
        "points_moved": "points moved", "points_moved_p95": "95th percentile",
    }  # fmt: skip
    present = [name for name in columns if any(name in m["quality"] for m in document["methods"].values())]
    rows = [[key, *[_figure(name, m["quality"].get(name)) for name in present]] for key, m in document["methods"].items()]
    return table(["method", *[columns[name] for name in present]], rows)


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f} %" if name.startswith("points") else f"{value:.1f}" if name == "psnr" else f"{value:.4f}"


def thresholds(document: Document) -> str:
    """Verification at every threshold, stated and from the run's own impostor pairs."""
    both = any("both_protected" in e for m in document["methods"].values() for r in m["recognisers"].values() for e in r["verification"])
    rows = []
    for key, method in document["methods"].items():
        if key == CLEAN:
            continue
        for name, entry in method["recognisers"].items():
            for one in entry["verification"]:
                row = [key, name, one["at"], f"{one['threshold']:.3f}", f"{one['clean']:.1f}", _percent(one, name in method["searched_on"])]
                rows.append(row + ([f"{one['both_protected']:.1f}"] if "both_protected" in one else [""] if both else []))
    return table(["method", "recogniser", "at", "threshold", "clean %", "protected %", *(["both protected %"] if both else [])], rows)


def identification(document: Document) -> str:
    """Rank-1 and Rank-5 success: the own identity is not found (untargeted), the target is (targeted)."""
    targeted = document["goal"] != "dodge"
    kinds = ["untargeted", *(["targeted"] if targeted else [])]
    head = ["method", "recogniser", "gallery"]
    head += [f"{when} Rank-{k} {kind} %" for kind in kinds for k in (1, 5) for when in ("clean", "protected")]
    rows = []
    for key, method in document["methods"].items():
        for name, entry in method["recognisers"].items() if key != CLEAN else ():
            found = entry["identification"]
            cells = [f"{found[f'{when}_rank_{k}_{kind}']:.1f}" for kind in kinds for k in (1, 5) for when in ("clean", "protected")]
            rows.append([key, name, f"{found['gallery']:.0f}", *cells])
    return table(head, rows)


def robustness(document: Document, recogniser: str) -> str:
    """Success of every method after every variant under one recogniser; the first column is the unprotected photo."""
    keys = list(document["methods"])
    variants = list(document["methods"][keys[0]]["robustness"])
    rows = [[v, *[f"{document['methods'][k]['robustness'][v][recogniser]['protected']:.1f}" for k in keys]] for v in variants]
    return table([f"{recogniser}, %", *keys], rows)


def groups(document: Document, key: str) -> str:
    """Success per group of faces, and for unprotected photos in brackets."""
    names = list(document["recognisers"])
    rows = [
        [g["group"], str(g["people"]), f"{g['psnr']:.1f}", *[f"{g['rates'][n]:.1f} ({g['clean'][n]:.1f})" for n in names]]
        for g in document["methods"][key]["groups"]
    ]
    return table([key, "people", "PSNR dB", *[f"{n} %" for n in names]], rows)


def families(document: Document) -> dict[str, list[str]]:
    """Settings that differ in strength alone, by their method's name; those measured at several strengths make curves."""
    found: dict[tuple[str, str], list[str]] = {}
    for setting in document["settings"]:
        longer = f"x{setting['iterations']}" if "iterations" in setting else ""
        name = "~".join([setting["method"] + longer, *setting.get("without", [])])
        others = {name: value for name, value in setting.items() if name not in ("key", "margin", "budget", "psnr")}
        found.setdefault((name, repr(others)), []).append(setting["key"])
    return {name: keys for (name, _), keys in found.items() if len(keys) > 2}


def curve(document: Document, keys: Sequence[str], recogniser: str, over: str) -> list[tuple[float, float]]:
    """Points (quality, rate) of one method's settings."""
    methods = [document["methods"][key] for key in keys]
    return sorted((m["quality"][over], m["recognisers"][recogniser]["verification"][0]["protected"]) for m in methods)


#: Where curves are compared: what people would still call the same photo, and worse.
SPANS = {"psnr": (35.5, 37.5), "ssim": (0.969, 0.978)}


def areas(document: Document) -> str:
    """Mean success over a span of PSNR and of SSIM, for methods measured at several strengths."""
    unseen = [n for n in document["recognisers"]]
    head = ["method", *[f"{n}, {over.upper()} {low:g} to {high:g}" for n in unseen for over, (low, high) in SPANS.items()]]
    rows = []
    for name, keys in families(document).items():
        values = [area_under(curve(document, keys, n, over), *span) for n in unseen for over, span in SPANS.items()]
        rows.append([name, *["" if v is None else f"{v:.1f} %" for v in values]])
    return table(head, rows) if rows else ""
