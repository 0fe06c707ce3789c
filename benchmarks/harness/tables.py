"""Markdown tables of a result document (what ``protection.py`` writes)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.settings import CLEAN
from harness.strong import MEAN
from harness.summary import area_under

Document = dict[str, Any]
DASH = "–"


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


def _cell(value: float | None, digits: int = 1) -> str:
    """A number, or the dash of what an older result does not hold."""
    return DASH if value is None else f"{value:.{digits}f}"


def strong(document: Document) -> list[str]:
    """Names of the strong judges; none in a result of before there was such a thing."""
    return [name for name, entry in document["recognisers"].items() if entry.get("strong")]


def judged(document: Document) -> list[str]:
    """Every judge by name, the strong ones first."""
    first = strong(document)
    return first + [name for name in document["recognisers"] if name not in first]


def protection(document: Document) -> str:
    """What people see, success at each recogniser's own threshold, and cost; in brackets where the method searched on the recogniser."""
    names = judged(document)
    rows = []
    for key, method in document["methods"].items():
        quality, mean = method["quality"], method.get("strong")
        seen = [_cell(quality.get("ssimulacra2")), _cell(quality.get("mid_band")), _cell(quality["psnr"]), _cell(quality["ssim"], 3)]
        headline = DASH if mean is None else f"**{_percent(mean, bool(set(mean['judges']) & set(method['searched_on'])))}**"
        rates = [_percent(method["recognisers"][n]["verification"][0], n in method["searched_on"]) for n in names]
        rows.append([key, *seen, headline, *rates, _cell(method["seconds"]["warm"])])
    head = ["method", "SSIMULACRA2", "mid band", "PSNR dB", "SSIM", "strong judges %"]
    return table([*head, *[f"{n} %" for n in names], "s"], rows)


def quality(document: Document) -> str:
    """How much the photos changed. The feature net is CenterFace's backbone: neither LPIPS nor FID."""
    columns = {
        "ssimulacra2": "SSIMULACRA2",
        "ssimulacra2_median": "median",
        "ssimulacra2_p10": "10th percentile",
        "ssimulacra2_face": "SSIMULACRA2, face in the photo",
        "mid_band": "mid band",
        "mid_band_median": "median",
        "mid_band_p90": "90th percentile",
        "mesh_moved": "mesh moved px",
        "psnr": "PSNR dB",
        "ssim": "SSIM",
        "ms_ssim": "MS-SSIM",
        "feature_distance": "feature distance",
        "frechet_features": "Frechet, features",
        "lpips": "LPIPS",
        "fid": "FID",
        "points_moved": "points moved",
        "points_moved_p95": "95th percentile",
    }
    present = [name for name in columns if any(name in m["quality"] for m in document["methods"].values())]
    rows = [[key, *[_figure(name, m["quality"].get(name)) for name in present]] for key, m in document["methods"].items()]
    return table(["method", *[columns[name] for name in present]], rows)


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return DASH
    if name.startswith("points"):
        return f"{100 * value:.1f} %"
    return _cell(value, 1 if name.startswith(("psnr", "ssimulacra2", "mid_band")) else 2 if name == "mesh_moved" else 4)


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


def after_variant(document: Document, key: str, variant: str, recogniser: str) -> float:
    """Success of a method after a variant under one recogniser, or under the mean of the strong ones (``strong.MEAN``)."""
    found = document["methods"][key]["robustness"][variant]
    rates = [found[name]["protected"] for name in (strong(document) if recogniser == MEAN else [recogniser])]
    return float(sum(rates)) / len(rates)


def robustness(document: Document, recogniser: str) -> str:
    """Success of every method after every variant under one recogniser; the first column is the unprotected photo."""
    keys = list(document["methods"])
    variants = list(document["methods"][keys[0]]["robustness"])
    rows = [[v, *[_cell(after_variant(document, k, v, recogniser)) for k in keys]] for v in variants]
    return table([f"{recogniser}, %", *keys], rows)


def groups(document: Document, key: str) -> str:
    """Success per group of faces, and for unprotected photos in brackets."""
    names = judged(document)
    rows = []
    for g in document["methods"][key]["groups"]:
        rates = [f"{g['rates'][n]:.1f} ({g['clean'][n]:.1f})" for n in names]
        rows.append([g["group"], str(g["people"]), _cell(g.get("ssimulacra2")), _cell(g.get("mid_band")), _cell(g["psnr"]), *rates])
    return table([key, "people", "SSIMULACRA2", "mid band", "PSNR dB", *[f"{n} %" for n in names]], rows)


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
    """Points (quality, rate) of one method's settings under one recogniser, or the mean of the strong ones (``strong.MEAN``)."""
    methods = [document["methods"][key] for key in keys if over in document["methods"][key]["quality"]]
    heads = [m["strong"] if recogniser == MEAN else m["recognisers"][recogniser]["verification"][0] for m in methods]
    return sorted((m["quality"][over], head["protected"]) for m, head in zip(methods, heads, strict=True))


def has_seen(document: Document) -> bool:
    """Whether the result states what people see; those from before have PSNR and SSIM alone."""
    return all("ssimulacra2" in method["quality"] for method in document["methods"].values())


#: Where curves are compared: what people would still call the same photo, and worse.
SPANS = {"ssimulacra2": (45, 60), "psnr": (35.5, 37.5), "ssim": (0.969, 0.978)}


def areas(document: Document) -> str:
    """Mean success over a span of SSIMULACRA2, of PSNR and of SSIM, for methods measured at several strengths."""
    who = [*([MEAN] if strong(document) else []), *judged(document)]
    spans = {over: span for over, span in SPANS.items() if over != "ssimulacra2" or has_seen(document)}
    head = ["method", *[f"{n}, {over.upper()} {low:g} to {high:g}" for n in who for over, (low, high) in spans.items()]]
    rows = []
    for name, keys in families(document).items():
        values = [area_under(curve(document, keys, n, over), *span) for n in who for over, span in spans.items()]
        rows.append([name, *["" if v is None else f"{v:.1f} %" for v in values]])
    return table(head, rows) if rows else ""
