"""What the measured embeddings say: rates, ranks, quality, groups. Pure functions; every rate is in percent.

Success of a protection (Shamshad et al., "CLIP2Protect", CVPR 2023, section 4, as the field counts it): verification, dodging: similarity
to another photo of the same person below the threshold; towards a target: similarity to another photo of the target at or above it.
Identification, untargeted: the own identity is not among the first k of the gallery; targeted: the target is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.features import frechet_distance
from harness.panel import similarity_matrix
from harness.run import Measured, Recogniser, Row
from harness.settings import CLEAN, GoalKind

Similarities = NDArray[np.float64]
Hits = NDArray[np.bool_]
Shares = NDArray[np.float64]
RESAMPLES = 2000
RATES = {"far_1e-2": 1e-2, "far_1e-3": 1e-3}
QUALITY = (
    "ssimulacra2",
    "ssimulacra2_face",
    "mid_band",
    "mesh_moved",
    "psnr",
    "ssim",
    "ms_ssim",
    "feature_distance",
    "lpips",
    "points_moved",
)
#: What is stated of the spread over faces beside the mean: the median, and the quantile that cuts off the worst tenth.
SPREAD = {"ssimulacra2": 0.1, "mid_band": 0.9}


def rate(hits: Hits | Shares) -> float:
    """Percent of hits, or the mean of shares of them."""
    return round(100 * float(np.mean(hits)), 1)


def interval(hits: Hits | Shares, seed: int = 0) -> list[float]:
    """95 % interval of a rate, in percent: bootstrap over people (percentile method), or the exact binomial one where all or none hit."""
    from scipy.stats import binomtest, bootstrap

    if (hits == 1).all() or not hits.any():
        exact = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, "exact")
        return [round(100 * float(edge), 1) for edge in (exact.low, exact.high)]
    found = bootstrap((hits.astype(float),), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed))
    return [round(100 * float(edge), 1) for edge in found.confidence_interval]


def stack(rows: Sequence[Row], name: str) -> NDArray[np.float32]:
    """One array of all rows."""
    return np.stack([row[name] for row in rows])


def impostor_thresholds(similarity: Similarities) -> dict[str, float]:
    """Thresholds at each false accept rate, from the off-diagonal of photos against partners (all pairs of two people)."""
    strangers = similarity[~np.eye(len(similarity), dtype=bool)]
    if strangers.size == 0:
        return {}
    enough = {name: far for name, far in RATES.items() if strangers.size * far >= 1}
    return {f"{name}, these pairs": round(float(np.quantile(strangers, 1 - far)), 4) for name, far in enough.items()}


def pairwise(first: NDArray[np.float32], second: NDArray[np.float32], measure: str) -> Similarities:
    """Similarity of each row to its own partner, [N]."""
    return np.array([similarity_matrix(a[None], b[None], measure)[0, 0] for a, b in zip(first, second, strict=True)])


def ranks(similarity: Similarities, own: Sequence[int]) -> NDArray[np.int64]:
    """Rank (1 is first) of gallery entry ``own[i]`` for each probe i of similarities [probes, gallery]."""
    mine = similarity[np.arange(len(own)), list(own)]
    return np.asarray((similarity > mine[:, None]).sum(1) + 1)


def recogniser_summary(one: Recogniser, rows: Sequence[Row], clean: Sequence[Row], kind: GoalKind, both: bool) -> dict[str, Any]:
    """Verification and identification under one recogniser."""
    photo, plain = stack(rows, f"photo {one.name}")[:, 0], stack(clean, f"photo {one.name}")[:, 0]
    gallery = stack(clean, f"partner {one.name}")
    reference = stack(rows, f"target {one.name}") if kind != "dodge" else gallery
    found, before = pairwise(photo, reference, one.measure), pairwise(plain, reference, one.measure)
    thresholds = one.thresholds | impostor_thresholds(similarity_matrix(plain, gallery, one.measure))
    verification = []
    for name, threshold in thresholds.items():
        hits, already = (x >= threshold if kind != "dodge" else x < threshold for x in (found, before))
        entry = {"at": name, "threshold": round(threshold, 4), "clean": rate(already), "protected": rate(hits), "interval": interval(hits)}
        if both:
            twice = pairwise(photo, stack(rows, f"partner {one.name}"), one.measure) < threshold
            entry |= {"both_protected": rate(twice), "both_interval": interval(twice)}
        verification.append(entry)
    summary: dict[str, Any] = {"verification": verification, "mean_similarity": round(float(found.mean()), 4)}
    summary["identification"] = identification(one, photo, plain, gallery, rows, kind)
    return summary


def identification(
    one: Recogniser,
    photo: NDArray[np.float32],
    plain: NDArray[np.float32],
    gallery: NDArray[np.float32],
    rows: Sequence[Row],
    kind: GoalKind,
) -> dict[str, float]:
    """Rank-1 and Rank-5 success, and the same for clean photos; the gallery holds the partners of all people, and the targets."""
    own = list(range(len(photo)))
    names = sorted({row["facts"]["target"] for row in rows}) if kind != "dodge" else []
    if names:
        extra = [next(row[f"target {one.name}"] for row in rows if row["facts"]["target"] == name) for name in names]
        gallery = np.concatenate([gallery, np.stack(extra)])
        aimed = [len(photo) + names.index(row["facts"]["target"]) for row in rows]
    result = {}
    for label, probes in (("clean", plain), ("protected", photo)):
        similarity = similarity_matrix(probes, gallery, one.measure)
        untargeted = ranks(similarity, own)
        result |= {f"{label}_rank_{k}_untargeted": rate(untargeted > k) for k in (1, 5)}
        if names:
            targeted = ranks(similarity, aimed)
            result |= {f"{label}_rank_{k}_targeted": rate(targeted <= k) for k in (1, 5)}
    return {"gallery": float(len(gallery)), **result}


def robustness(measured: Measured, rows: Sequence[Row], clean: Sequence[Row], kind: GoalKind) -> dict[str, dict[str, dict[str, float]]]:
    """Rate at the verdict's threshold under every variant and recogniser, beside that of unprotected photos."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for index, variant in enumerate(measured.variants):
        table[variant] = {}
        for one in measured.recognisers:
            hits = [_hits(one, part, rows, clean, kind, index) for part in (rows, clean)]
            table[variant][one.name] = {"protected": rate(hits[0]), "clean": rate(hits[1])}
    return table


def strong_summary(measured: Measured, rows: Sequence[Row], clean: Sequence[Row], kind: GoalKind) -> dict[str, Any]:
    """The mean of the strong judges' rates at the verdict's threshold; the interval is over people."""
    strong = [one for one in measured.recognisers if one.name in measured.strong]
    found, already = (np.mean([_hits(one, part, rows, clean, kind) for one in strong], 0) for part in (rows, clean))
    return {"judges": [one.name for one in strong], "clean": rate(already), "protected": rate(found), "interval": interval(found)}


def _hits(one: Recogniser, part: Sequence[Row], rows: Sequence[Row], clean: Sequence[Row], kind: GoalKind, variant: int = 0) -> Hits:
    """Whom ``one`` no longer matches (or takes for the target) in the photos of ``part``, at the verdict's threshold."""
    threshold = next(iter(one.thresholds.values()))
    reference = stack(rows, f"target {one.name}") if kind != "dodge" else stack(clean, f"partner {one.name}")
    score = pairwise(stack(part, f"photo {one.name}")[:, variant], reference, one.measure)
    return np.asarray(score >= threshold if kind != "dodge" else score < threshold)


def quality(rows: Sequence[Row]) -> dict[str, float]:
    """Means over the faces, and the spread of what people see; ``frechet`` over the pooled features of all."""
    facts = [row["facts"] for row in rows]
    result: dict[str, float] = {}
    for name in QUALITY:
        values = [fact[name] for fact in facts if fact.get(name) is not None]
        if values:
            result[name] = round(float(np.mean(values)), 4)
        if values and name in SPREAD:
            result[f"{name}_median"] = round(float(np.median(values)), 4)
            result[f"{name}_p{100 * SPREAD[name]:.0f}"] = round(float(np.quantile(values, SPREAD[name])), 4)
    moved = [fact["points_moved"] for fact in facts if fact["points_moved"] is not None]
    result |= {"points_moved_p95": round(float(np.quantile(moved, 0.95)), 4)} if moved else {}
    for name, called in (("pooled", "frechet_features"), ("inception", "fid")):
        if rows and name in rows[0] and len(rows) > 2:
            pair = stack(rows, name)
            result[called] = round(frechet_distance(pair[:, 0], pair[:, 1]), 4)
    return result


def seconds(rows: Sequence[Row]) -> dict[str, float]:
    """Per photo: cold is the first of each process (engines are opened), warm the median of the others."""
    facts = [row["facts"] for row in rows]
    cold = [fact["seconds"] for fact in facts if fact["first"]]
    warm = [fact["seconds"] for fact in facts if not fact["first"]] or cold
    searches = [fact["attempts"] for fact in facts]
    result = {"warm": round(float(np.median(warm)), 2), "searches": round(float(np.mean(searches)), 2)}
    return result | ({"cold": round(float(np.mean(cold)), 2)} if cold else {})


def groups(measured: Measured, rows: Sequence[Row], clean: Sequence[Row], kind: GoalKind) -> list[dict[str, Any]]:
    """Rates per group of faces: grey and colour, and thirds of face width and of turn (nose off the middle of the eyes)."""
    facts = [row["facts"] for row in clean]
    masks: dict[str, Hits] = {"grey": np.array([fact["grey"] for fact in facts])}
    masks["colour"] = ~masks["grey"]
    for name, low, high in (("face_width", "small face", "large face"), ("turn", "frontal", "turned")):
        values = np.array([fact[name] for fact in facts])
        first, second = np.quantile(values, [1 / 3, 2 / 3])
        masks |= {f"{low} (third)": values <= first, f"{high} (third)": values > second}
    table = []
    for name, mask in masks.items():
        chosen = np.flatnonzero(mask)
        if not len(chosen):
            continue
        entry: dict[str, Any] = {"group": name, "people": len(chosen)}
        part, plain = [rows[i] for i in chosen], [clean[i] for i in chosen]
        for figure in ("ssimulacra2", "mid_band", "psnr"):
            entry[figure] = round(float(np.mean([row["facts"][figure] for row in part])), 2)
        rates = robustness(measured, part, plain, kind)[measured.variants[0]]
        entry["rates"] = {one: value["protected"] for one, value in rates.items()}
        entry["clean"] = {one: value["clean"] for one, value in rates.items()}
        table.append(entry)
    return table


def faces(measured: Measured, rows: Sequence[Row], clean: Sequence[Row], kind: GoalKind) -> dict[str, list[Any]]:
    """A table with a short row per face, so that two results can be compared face by face."""
    table = [[row["facts"]["number"], *(round(float(row["facts"][k]), 4) for k in ("psnr", "ssim"))] for row in rows]
    for one in measured.recognisers:
        reference = stack(rows, f"target {one.name}") if kind != "dodge" else stack(clean, f"partner {one.name}")
        found = pairwise(stack(rows, f"photo {one.name}")[:, 0], reference, one.measure)
        for entry, value in zip(table, found, strict=True):
            entry.append(round(float(value), 4))
    seen = ("ssimulacra2", "mid_band")
    for entry, row in zip(table, rows, strict=True):
        entry += [round(float(row["facts"][name]), 4) for name in seen]
    return {"columns": ["number", "psnr", "ssim", *(one.name for one in measured.recognisers), *seen], "rows": table}


def summarise(measured: Measured, key: str, kind: GoalKind, *, both: bool = False) -> dict[str, Any]:
    """Everything that is reported of one setting."""
    rows, clean = measured.rows[key], measured.rows[CLEAN]
    both = both and key != CLEAN
    confirmed = [row["facts"].get("confirmed") for row in rows]
    recognisers: Mapping[str, Any] = {one.name: recogniser_summary(one, rows, clean, kind, both) for one in measured.recognisers}
    return {
        "people": len(rows),
        "surrogates": measured.surrogates[key],
        "searched_on": measured.searched[key],
        "strong": strong_summary(measured, rows, clean, kind),
        "recognisers": recognisers,
        "robustness": robustness(measured, rows, clean, kind),
        "quality": quality(rows),
        "seconds": seconds(rows),
        "groups": groups(measured, rows, clean, kind),
        "faces": faces(measured, rows, clean, kind),
        # Of how many photos `protect` would have written the file; rates are of all of them.
        **({"confirmed": round(100 * float(np.mean(confirmed)), 1)} if rows and None not in confirmed else {}),
    }


def area_under(points: Sequence[tuple[float, float]], low: float, high: float) -> float | None:
    """Mean rate over ``low`` to ``high`` of a curve through ``points`` (x, rate), linear between them; None where it ends before."""
    ordered = sorted(points)
    if not ordered or ordered[0][0] > low or ordered[-1][0] < high:
        return None
    x, y = (np.array(column, float) for column in zip(*ordered, strict=True))
    grid = np.unique(np.concatenate([[low, high], x[(x > low) & (x < high)]]))
    return round(float(np.trapezoid(np.interp(grid, x, y), grid) / (high - low)), 1)
