"""Reports: tables hold the measured numbers, regressions are found, files that are no results are refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import report
from faceprotect_sdk.cli.main import cli
from faceprotect_sdk.methods import STRENGTHS, recipe_of
from harness import tables
from harness.settings import CLEAN
from harness.strong import MEAN


def method(rate: float, psnr: float = 37.0, ssim: float = 0.97, seen: bool = False) -> dict[str, Any]:
    """``seen``: as results are since SSIMULACRA2 and the strong judges are measured."""
    entry = {"at": "far_1e-2", "threshold": 0.3, "clean": 5.0, "protected": rate, "interval": [rate - 2, rate + 2]}
    found = {f"{when}_rank_{k}_untargeted": rate for when in ("clean", "protected") for k in (1, 5)}
    quality = {"psnr": psnr, "ssim": ssim, "points_moved": 0.021}
    figures = {"ssimulacra2": 2 * psnr - 30, "ssimulacra2_p10": 30.0, "mid_band": 46.0 - psnr}
    mean = {"judges": ["judge"], "clean": 5.0, "protected": rate - 0.5, "interval": [rate - 3, rate + 1]}
    return {
        "people": 10,
        "searched_on": [],
        "quality": (figures if seen else {}) | quality,
        "seconds": {"warm": 1.0},
        **({"strong": mean} if seen else {}),
        "recognisers": {"judge": {"verification": [entry], "mean_similarity": 0.1, "identification": {"gallery": 10.0, **found}}},
        "robustness": {v: {"judge": {"protected": rate, "clean": 5.0}} for v in ("as written", "JPEG q75")},
        "groups": [{"group": "grey", "people": 3, "psnr": psnr, "rates": {"judge": rate}, "clean": {"judge": 5.0}}],
        "faces": [],
    }


def document(*, seen: bool) -> dict[str, Any]:
    points = {"latent@low": (81.25, 39.0, 0.985), "latent@medium": (92.5, 37.0, 0.975), "latent@high": (98.75, 33.0, 0.955)}
    return {
        "schema": 1,
        "command": "python benchmarks/protection.py",
        "goal": "dodge",
        "seed": 0,
        "date": "2026-01-02",
        "commit": "abc1234",
        "version": "1",
        "onnxruntime": "1",
        "machine": "m",
        "left_out": [],
        "recognisers": {"judge": {"strong": True} if seen else {}},
        "settings": [{"key": key, "method": "latent"} for key in points],
        "methods": {CLEAN: method(5.0, 50.0, seen=seen), **{key: method(*value, seen=seen) for key, value in points.items()}},
    }


@pytest.fixture
def result() -> dict[str, Any]:
    return document(seen=True)


@pytest.fixture
def older() -> dict[str, Any]:
    """A result of before SSIMULACRA2 and the strong judges."""
    return document(seen=False)


def write(path: Path, document: dict[str, Any]) -> str:
    path.write_text(json.dumps(document))
    return str(path)


def test_report_holds_every_rate_its_provenance_and_the_plots(tmp_path: Path, result: dict[str, Any]) -> None:
    done = CliRunner().invoke(report.main, [write(tmp_path / "r.json", result), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out/report.md").read_text()
    for expected in ("92.5 [90, 94]", "commit abc1234", "2026-01-02", "2.1 %", "| JPEG q75 | 5.0 | 81.2 | 92.5 | 98.8 |", "r-curves.png"):
        assert expected in text
    for name in ("r-curves.png", "r-robustness.png"):
        assert (tmp_path / "out" / name).stat().st_size > 5000


def test_what_people_see_and_the_mean_of_the_strong_judges_come_first(result: dict[str, Any]) -> None:
    head, _, *rows = tables.protection(result).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:7]] == ["method", "SSIMULACRA2", "mid band", "PSNR dB", "SSIM", "strong judges %"]
    assert "| latent@medium | 44.0 | 9.0 | 37.0 | 0.975 | **92.0 [90, 94]** | 92.5 [90, 94] |" in rows[2]
    assert tables.curve(result, ["latent@high", "latent@low"], MEAN, "ssimulacra2") == [(36.0, 98.25), (48.0, 80.75)]


def test_the_mean_after_a_variant_is_that_of_the_strong_judges_alone(result: dict[str, Any]) -> None:
    result["recognisers"] |= {"weak": {"strong": False}, "other": {"strong": True}}
    result["methods"]["latent@low"]["robustness"]["JPEG q75"] |= {"weak": {"protected": 0.0}, "other": {"protected": 60.0}}
    assert tables.after_variant(result, "latent@low", "JPEG q75", MEAN) == (81.25 + 60) / 2
    assert tables.judged(result) == ["judge", "other", "weak"]


def test_older_results_are_reported_with_a_dash(tmp_path: Path, older: dict[str, Any]) -> None:
    done = CliRunner().invoke(report.main, [write(tmp_path / "r.json", older), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "out/report.md").read_text()
    assert "| latent@medium | – | – | 37.0 | 0.975 | – | 92.5 [90, 94] |" in text
    assert MEAN not in text
    assert (tmp_path / "out/r-curves.png").stat().st_size > 5000


def test_an_older_result_is_checked_for_what_it_holds(result: dict[str, Any], older: dict[str, Any]) -> None:
    assert report.regressions(result, older, 2.0, 0.2, 0.03) == []
    assert report.differences(result, older) == []
    found = report.regressions(older, result, 2.0, 0.2, 0.03)
    assert "latent@medium: ssimulacra2 is no longer measured" in found
    assert "latent@medium: other strong judges: judge -> none" in found


def test_a_page_gets_the_table_between_its_marks(tmp_path: Path, result: dict[str, Any]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        assert CliRunner().invoke(report.main, [write(tmp_path / "r.json", result), "--page", str(page)]).exit_code == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("92.5 [90, 94]") == 1
    page.write_text("no marks")
    assert CliRunner().invoke(report.main, [write(tmp_path / "r.json", result), "--page", str(page)]).exit_code == 2


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (("recognisers", "judge", "verification", 0, "protected"), 89.0, "latent@medium: judge 92.5 % -> 89.0 %"),
        (("recognisers", "judge", "verification", 0, "protected"), 91.0, ""),
        (("strong", "protected"), 89.5, "latent@medium: mean of the strong judges 92.0 % -> 89.5 %"),
        (("strong", "protected"), 90.5, ""),
        (("strong", "judges"), ["other"], "latent@medium: other strong judges: judge -> other"),
        (("quality", "ssimulacra2"), 42.9, "latent@medium: ssimulacra2 44.0 -> 42.9"),
        (("quality", "ssimulacra2"), 43.1, ""),
        (("quality", "ssimulacra2"), 90.0, ""),
        (("quality", "mid_band"), 9.3, "latent@medium: mid_band 9.0 -> 9.3"),
        (("quality", "mid_band"), 9.1, ""),
        (("quality", "mid_band"), 1.0, ""),
        (("quality", "psnr"), 36.7, "latent@medium: psnr 37.0 -> 36.7"),
        (("quality", "ssim"), 0.972, "latent@medium: ssim"),
        (("quality", "psnr"), 36.9, ""),
        (("recognisers", "judge", "mean_similarity"), 0.2, "latent@medium: mean similarity of judge 0.1 -> 0.2"),
        (("recognisers", "judge", "mean_similarity"), 0.0, ""),
        (("recognisers", "judge", "verification", 0, "protected"), 100.0, ""),
    ],
)
def test_regressions_beyond_the_tolerance_are_found(
    tmp_path: Path, result: dict[str, Any], path: tuple[Any, ...], value: Any, found: str
) -> None:
    new = copy.deepcopy(result)
    place = new["methods"]["latent@medium"]
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    words = [write(tmp_path / "new.json", new), "--check", write(tmp_path / "old.json", result), "--tolerance", "2"]
    done = CliRunner().invoke(report.main, words)
    assert done.exit_code == (1 if found else 0)
    assert found in done.output
    same = CliRunner().invoke(report.main, [words[0], "--same", words[2]])
    assert same.exit_code == 1
    assert CliRunner().invoke(report.main, [words[0], "--same", words[0]]).exit_code == 0


def test_only_settings_that_differ_in_strength_make_a_curve() -> None:
    def noise(psnr: int, **fields: Any) -> dict[str, Any]:
        return {"key": f"mi-fgsm@{psnr}{fields}", "method": "mi-fgsm", "psnr": psnr, **fields}

    ablation = [{"key": f"row {n}", "method": "latent", "margin": 1.0, "budget": 0.1, "recipe": {"steps": n}} for n in range(4)]
    settings = [*(noise(p) for p in (34, 36, 38)), noise(36, iterations=60), *ablation, *(noise(p, iterations=9) for p in (1, 2, 3))]
    found = tables.families({"settings": settings})
    assert found == {"mi-fgsm": [s["key"] for s in settings[:3]], "mi-fgsmx9": [s["key"] for s in settings[-3:]]}


def test_the_same_numbers_may_stand_beside_further_methods(result: dict[str, Any]) -> None:
    fewer = copy.deepcopy(result)
    del fewer["methods"]["latent@low"]
    assert report.differences(result, fewer) == []
    assert report.differences(fewer, result) == ["latent@low: not in the new result"]


def test_a_method_or_recogniser_that_is_gone_is_a_regression(result: dict[str, Any]) -> None:
    new = copy.deepcopy(result)
    del new["methods"]["latent@low"]
    new["methods"][CLEAN]["recognisers"]["judge"]["mean_similarity"] = 0.5
    found = report.regressions(new, result, 2.0, 0.2, 0.03)
    assert "latent@low: no longer measured" in found
    assert f"{CLEAN}: mean similarity of judge 0.1 -> 0.5" in found


def test_other_files_are_refused(tmp_path: Path) -> None:
    for content in ("{", "[]", '{"schema": 2, "methods": {}}'):
        (tmp_path / "x.json").write_text(content)
        done = CliRunner().invoke(report.main, [str(tmp_path / "x.json")])
        assert done.exit_code == 2
        assert "not a result" in done.output


RESULTS = Path(report.__file__).parent / "results"
#: Where results are shown, and which.
PAGES = {
    "docs/results.md": ("auto_sface", "auto_panel", "auto_strengths", "fast"),
    "docs/results-former-budget.md": (
        *("dodge", "dodge_sface", "style", "auto_former", "auto_sface_former", "diffusion", "diffusion_low"),
        *("diffusion_sface", "makeup"),
        *("held_out", "held_out_sface"),
        *("ablations", "ablations_style", "ablations_diffusion", "ablations_published", "ablations_distilled"),
        *("literal", "both", "decoy", "impersonate"),
    ),
}


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_the_results_that_are_in_the_project(tmp_path: Path, page: str) -> None:
    written = Path(report.__file__).parents[1] / page
    (tmp_path / "page.md").write_text(written.read_text())
    words = [*(str(RESULTS / f"{name}.json") for name in PAGES[page]), "--page", str(tmp_path / "page.md")]
    assert CliRunner().invoke(report.main, words).exit_code == 0
    assert (tmp_path / "page.md").read_text() == written.read_text()


@pytest.mark.parametrize(("name", "method"), [("auto_sface", "auto"), ("auto_panel", "auto"), ("fast", "fast")])
def test_readme_states_figures_of_the_results(name: str, method: str) -> None:
    measured = report.read(RESULTS / f"{name}.json")["methods"][f"{method}@medium"]
    seen, lost = measured["quality"]["ssimulacra2"], measured["strong"]["protected"]
    rows = [line for line in (RESULTS.parents[1] / "README.md").read_text().splitlines() if line.startswith(f"| `{method}`")]
    assert any(line.endswith(f"| {seen:.1f} | {lost:.1f} % of {measured['people']} |") for line in rows), rows


@pytest.mark.parametrize(("method", "name"), [("auto", "auto_strengths")])
def test_strengths_are_those_that_were_measured(method: str, name: str) -> None:
    document = report.read(RESULTS / f"{name}.json")
    measured = {one["key"]: (one["margin"], one["budget"]) for one in document["settings"] if one["method"] == method}
    wanted = {f"{method}@{strength}": (numbers.margin, numbers.budget) for strength, numbers in recipe_of(method).method.strengths.items()}
    assert wanted.keys() <= measured.keys()
    assert {key: measured[key] for key in wanted} == wanted


def test_results_name_no_folder_of_the_machine_that_made_them() -> None:
    for path in RESULTS.glob("*.json"):
        command = json.loads(path.read_text()).get("command", "")
        assert not [word for word in command.replace(":", " ").split() if word.startswith("/")], path.name


def test_help_states_the_measured_rates() -> None:
    text = " ".join(CliRunner().invoke(cli, ["protect", "--help"]).output.split())
    methods = report.read(RESULTS / "auto_strengths.json")["methods"]
    for strength in STRENGTHS:
        method = methods[f"auto@{strength}"]
        seen, rate = method["quality"]["ssimulacra2"], method["strong"]["protected"]
        assert f"{strength} {seen:.0f}, {rate:.0f} %" in text
