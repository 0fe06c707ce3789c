"""Training of surrogates: values and slopes are matched, runs resume, judges never teach."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
import torch

from faceprotect_export.train.students import Trainer, read_teachers

rng = np.random.default_rng(0)


@pytest.fixture
def crops() -> torch.Tensor:
    return torch.from_numpy(np.kron(rng.uniform(0, 1, (4, 3, 20, 20)), np.ones((8, 8)))).float()


def test_only_surrogates_teach(teachers: Path) -> None:
    assert list(read_teachers(teachers, ())) == ["teacher"]
    for only in (("judge",), ("nobody",)):
        with pytest.raises(click.UsageError, match=only[0]):
            read_teachers(teachers, only)


def test_a_step_learns_values_and_slopes(teachers: Path, crops: torch.Tensor) -> None:
    torch.manual_seed(0)
    trainer = Trainer("conv", read_teachers(teachers, ()), 1e-3, None)
    teacher = trainer.teachers["teacher"]
    reference = teacher.look(crops.flip(3)).embedding
    look = teacher.look(crops, reference)
    assert look.gradient is not None
    nudge = 2 * look.gradient / look.gradient.norm()
    up, down = ((teacher.look(crops + s * nudge).embedding * reference).sum() for s in (1, -1))
    assert float(up - down) / 2 == pytest.approx(float((look.gradient * nudge).sum()), rel=0.2)
    losses = [trainer.step(crops, "teacher", look) for _ in range(45)]
    for part in ("value", "slope"):
        assert losses[-1][part] < 0.8 * losses[0][part], part


def test_training_resumes_where_it_stopped(teachers: Path, crops: torch.Tensor, tmp_path: Path) -> None:
    first, second = (Trainer("conv", read_teachers(teachers, ()), 1e-3, None) for _ in range(2))
    first.plain(crops, "teacher", np.random.default_rng(0))
    first.walk(crops, "teacher", np.random.default_rng(1))
    first.save(tmp_path / "run", {"batch": 2})
    assert second.resume(tmp_path / "run") == {"batch": 2}
    look = first.teachers["teacher"].look(crops)
    assert first.step(crops, "teacher", look) == pytest.approx(second.step(crops, "teacher", look), rel=1e-3)
    for key, value in first.average.items():
        torch.testing.assert_close(value, second.average[key], rtol=1e-3, atol=1e-4)


def test_training_starts_from_a_student_of_the_same_teachers(teachers: Path, crops: torch.Tensor, tmp_path: Path) -> None:
    first, second, other = (Trainer(kind, read_teachers(teachers, ()), 1e-3, None) for kind in ("conv", "conv", "attention"))
    first.plain(crops, "teacher", np.random.default_rng(0))
    first.save(tmp_path / "run", {})
    second.start_from(tmp_path / "run" / "student.safetensors")
    for key, value in second.student.state_dict().items():
        torch.testing.assert_close(value, first.average[key].half().to(value.dtype))
    with pytest.raises(click.UsageError, match="another kind"):
        other.start_from(tmp_path / "run" / "student.safetensors")


def test_heads_of_known_teachers_are_kept_and_others_begin_anew(teachers: Path, crops: torch.Tensor, tmp_path: Path) -> None:
    one = read_teachers(teachers, ())["teacher"]
    first = Trainer("conv", {"known": one, "also": one}, 1e-3, None)
    first.plain(crops, "known", np.random.default_rng(0))
    first.save(tmp_path / "run", {})
    for names, ready in ((("also", "known"), True), (("new", "known"), False)):
        second = Trainer("conv", dict.fromkeys(names, one), 1e-3, None)
        fresh = {key: value.clone() for key, value in second.student.heads.state_dict().items()}
        assert second.start_from(tmp_path / "run" / "student.safetensors") == ready
        for key, value in second.student.trunk.state_dict().items():
            torch.testing.assert_close(value, first.average[f"trunk.{key}"].half().to(value.dtype))
        for key, value in second.student.heads.state_dict().items():
            known, also = first.average[f"heads.{key}"].half().float().split(one.size)
            torch.testing.assert_close(value.split(one.size)[0], also if ready else fresh[key].split(one.size)[0])
            torch.testing.assert_close(value.split(one.size)[1], known)
            torch.testing.assert_close(second.average[f"heads.{key}"], value)


def test_a_teacher_is_fed_as_its_specification_says(teachers: Path, crops: torch.Tensor) -> None:
    listing = json.loads((teachers / "fr.json").read_text())
    plain = read_teachers(teachers, ())["teacher"].look(crops).embedding
    entry = listing["models"]["teacher"]["input"]
    entry.update({"range": [0, 255], "mean": [0.0], "std": [255.0]})
    (teachers / "fr.json").write_text(json.dumps(listing))
    torch.testing.assert_close(read_teachers(teachers, ())["teacher"].look(crops).embedding, plain, rtol=2e-2, atol=1e-2)
    entry["color"] = "BGR"
    (teachers / "fr.json").write_text(json.dumps(listing))
    swapped = read_teachers(teachers, ())["teacher"].look(crops.flip(1)).embedding
    torch.testing.assert_close(swapped, plain, rtol=2e-2, atol=1e-2)
