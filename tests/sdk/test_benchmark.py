"""The command ``benchmark``: what a report holds, what one beside an earlier one says, and what is refused."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from cli_tools import run as _run

from faceprotect_sdk import benchmark
from faceprotect_sdk.benchmark import compare, percentiles, power_state, stage_percentiles
from faceprotect_sdk.cli.main import main

pytestmark = pytest.mark.usefixtures("toy_cli")


def _engine_benchmark(
    capsys: pytest.CaptureFixture[str], *arguments: object, engine: object = "latent-step"
) -> tuple[int, list[dict], str]:
    return _run(capsys, "benchmark", "--engine", engine, "--repeat", 3, "--device", "cpu", "--threads", 1, "--json", *arguments)


def test_benchmark_of_an_engine(capsys: pytest.CaptureFixture[str], zoo: Path) -> None:
    code, (document,), _ = _engine_benchmark(capsys)
    assert code == 0
    assert document["device"] == "cpu"
    assert 0 < document["p50_s"] <= document["p90_s"] <= document["p95_s"] <= document["p99_s"]
    assert document["per_second"] * document["p50_s"] == pytest.approx(1, rel=0.01)
    assert document["cold_start_s"] > 0
    assert document["peak_rss_mb"] > 10
    assert document["device_mb"] is None  # asked for on the CPU
    assert document["stages"] is None
    code, (by_folder,), _ = _engine_benchmark(capsys, engine=zoo / "latent-step")
    assert code == 0
    assert by_folder["subject"] == document["subject"] == "engine latent-step"


def test_benchmark_of_a_method_accounts_for_its_stages(capsys: pytest.CaptureFixture[str], png: Path) -> None:
    words = ("benchmark", "--method", "latent", "--photo", png, "--repeat", 1, "--device", "cpu")
    code, (document,), _ = _run(capsys, *words, "--json")
    assert code == 0
    assert document["subject"] == "method latent"
    assert document["stages"].keys() >= {"detect", "search", "encode", "score"}
    parts = sum(stage["p50_s"] for stage in document["stages"].values())
    assert 0.5 * document["p50_s"] < parts <= document["p50_s"] + 1e-6 * len(document["stages"])
    earlier = png.with_name("earlier.json")
    earlier.write_text(json.dumps(document))
    capsys.readouterr()
    assert main([str(word) for word in (*words, "--compare", earlier)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^stage search +p50_s [\d.]+  p90_s", text, re.MULTILINE)
    assert str(earlier) in text
    assert "warning" not in text


def test_benchmark_without_a_subject_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(capsys, "benchmark")[0] == 2
    assert _run(capsys, "benchmark", "--method", "latent")[0] == 2
    assert _run(capsys, "benchmark", "--engine", "nobody")[0] == 5


def test_a_comparison_divides_and_names_what_differs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first = _engine_benchmark(capsys)[1][0]
    numbers = {key for key, value in first.items() if key.endswith(("_s", "_mb")) and value is not None}
    half = {key: value / 2 if key in numbers else value for key, value in first.items() if key != "p95_s"}
    file = tmp_path / "earlier.json"
    file.write_text(json.dumps({**half, "device": "cuda", "threads": 8}))
    code, (document,), _ = _engine_benchmark(capsys, "--compare", file)
    assert code == 0
    ratios = document["compared"]["ratios"]
    assert ratios.keys() == {"p50_s", "p90_s", "p99_s", "cold_start_s", "peak_rss_mb"}, "p95_s is in one of them only"
    for name, ratio in ratios.items():
        assert ratio == pytest.approx(document[name] / half[name], rel=1e-3)
    assert document["compared"]["warnings"] == ["device was cuda, is cpu", "threads was 8, is 1"]


def test_a_report_beside_itself_has_ratios_of_one() -> None:
    numbers = {"p50_s": 0.5, "p90_s": 0.0}
    report = {"peak_rss_mb": None, "threads": 1, **numbers, "stages": {"search": {"p50_s": 0.25}, "old": {"p50_s": 1.0}}}
    assert compare({**report, "stages": {"search": {"p50_s": 0.5}, "new": {}}}, report) == {
        "ratios": {"p50_s": 1.0},
        "stages": {"search": {"p50_s": 2.0}},
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "is no single JSON object"),
        ('{"p50_s": 1}\n{"p50_s": 2}\n', "is no single JSON object"),
        ("[]", "is no report"),
        ('{"subject": "engine latent-step"}', "is no report"),
        (lambda report: json.dumps({**report, "p50_s": "fast"}), "is no report"),
        (lambda report: json.dumps({**report, "p99_s": math.nan}), "is no report"),
        (lambda report: json.dumps({**report, "subject": "method latent"}), "is about method latent"),
    ],
)
def test_a_file_that_cannot_be_compared_is_refused_before_anything_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, message: str
) -> None:
    report = {"subject": "engine latent-step", "device": "cpu", "machine": "m", "runtime": "r", "threads": 1}
    report |= dict.fromkeys(("p50_s", "p90_s", "p99_s", "cold_start_s"), 1.0)
    if content is not None:
        (tmp_path / "earlier.json").write_text(content(report) if callable(content) else content)
    monkeypatch.setattr("faceprotect_sdk.benchmark._measure", lambda *_: pytest.fail("was measured"))
    code, _, error = _engine_benchmark(capsys, "--compare", tmp_path / "earlier.json")
    assert code == 2
    assert message in error
    assert "earlier.json" in error


def test_stages_that_a_run_left_out_took_no_time() -> None:
    found = stage_percentiles([{"a": 1.0}, {"a": 3.0, "b": 2.0}])
    assert found == {"a": percentiles([1.0, 3.0]), "b": percentiles([0.0, 2.0])}
    assert found["a"]["p50_s"] == 2.0


def test_the_power_state_is_that_of_a_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert power_state(tmp_path) is None
    files = {
        "etc/nv_tegra_release": "# R36",
        "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000\n",
        "sys/class/devfreq/15340000.vic/cur_freq": "729600000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "",
        **{f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq": "1510400\n" for core in (10, 2)},
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    clocks = {"cpu_mhz": {"cpu2": 1510.4, "cpu10": 1510.4}, "gpu_mhz": {"17000000.gpu": 1020.0}}
    assert power_state(tmp_path) == {"mode": None, **clocks}
    program = tmp_path / "nvpmodel"
    program.write_text("#!/bin/sh\necho 'NVPM WARN: fan mode is not set!'\necho 'NV Power Mode: MAXN'\necho $#$1\n")
    program.chmod(0o755)
    assert power_state(tmp_path) == {"mode": "NV Power Mode: MAXN, 1-q", **clocks}
    program.write_text("#!/bin/sh\nexit 1\n")
    assert power_state(tmp_path) == {"mode": None, **clocks}


def test_memory_of_the_gpu_is_what_is_less_free(monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([(900_000_000, 1), (650_000_000, 1)])

    class Gpu:
        closed = False

        def __init__(self, folders: object) -> None: ...

        def memory(self) -> tuple[int, int]:
            return next(free)

        def close(self) -> None:
            Gpu.closed = True

    monkeypatch.setattr(benchmark, "Cuda", Gpu)
    assert benchmark.DeviceMemory("cuda").taken_mb() == 250.0
    assert Gpu.closed
    assert benchmark.DeviceMemory("cpu").taken_mb() is None
