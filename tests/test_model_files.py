"""From folders, files and hub ids to a family: what is found, what is missing, what fits."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from deployments.diffusion import loading
from deployments.diffusion.families.flux import Flux
from deployments.diffusion.families.registry import FAMILIES, family_of_checkpoint
from deployments.diffusion.memory import GIB, allowed_bytes, check_fits, limit_memory
from deployments.diffusion.model_files import EMBEDDED, ModelFiles, find_model
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.weights import Part
from tests.driving import drive, driven, pixels
from tests.rows import make_row
from tests.single_file import save_checkpoint
from tests.tiny_families import MAKERS, save_sd3, save_stable_diffusion, save_xl
from tests.tiny_model import open_model


def settings(source: Path | str, **more: Any) -> DiffusionSettings:
    return DiffusionSettings(id="m", source=str(source), device="cpu", **more)


def picture(family: Any) -> Any:
    with driven(family) as engine:
        future = engine.submit(make_row(seed=3))
        drive(engine, [future])
        return pixels(future.result())


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A tiny Stable Diffusion to spoil."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def checkpoint(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(open_model(folder).pipeline, path)
    return path


@pytest.fixture
def configs(folder: Path) -> Path:
    """The same folder without weights."""
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    return folder


@pytest.mark.parametrize("name", MAKERS)
def test_the_family_is_recognised_from_the_folder(name: str, tmp_path: Path) -> None:
    MAKERS[name](tmp_path)
    family = find_model(settings(tmp_path)).family
    expected = {"xl": "stable-diffusion-xl", "sd3": "stable-diffusion-3", "flux": "flux"}
    assert family.name == expected.get(name.split()[0], "stable-diffusion")


def test_no_two_families_claim_a_pipeline() -> None:
    names = [name for family in FAMILIES for name in family.pipeline_names]
    assert len(names) == len(set(names))


def test_a_checkpoint_draws_what_its_folder_draws(
    checkpoint: Path, configs: Path, tiny_folder: Path
) -> None:
    single = open_model(checkpoint, source_config=str(configs))
    assert single.name == "stable-diffusion"
    assert (picture(single) == picture(open_model(tiny_folder))).all()


def test_the_checkpoints_own_weights_come_first(
    checkpoint: Path, folder: Path, tiny_folder: Path
) -> None:
    """Its configs are most often those of the model that it was tuned from, weights and all."""
    for path in folder.rglob("*.safetensors"):
        save_file({k: torch.zeros_like(v) for k, v in load_file(path).items()}, path)
    files = find_model(settings(checkpoint, source_config=str(folder)))
    assert [part.name for part in files.parts if part.files] == []
    single = open_model(checkpoint, source_config=str(folder))
    assert (picture(single) == picture(open_model(tiny_folder))).all()


def test_what_a_checkpoint_lacks_comes_from_the_folder(
    checkpoint: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    only_text = tmp_path / "only-text"
    shutil.copytree(tiny_folder, only_text)
    for part in ("unet", "vae"):
        for path in (only_text / part).glob("*.safetensors"):
            path.unlink()
    without_text = tmp_path / "no-text.safetensors"
    kept = {k: v for k, v in load_file(checkpoint).items() if "text_model" not in k}
    save_file(kept, without_text)
    family = open_model(without_text, source_config=str(only_text))
    assert (picture(family) == picture(open_model(tiny_folder))).all()
    for path in (only_text / "text_encoder").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ValueError, match="it has no weights for text_encoder, and neither has"):
        find_model(settings(without_text, source_config=str(only_text)))


def test_a_checkpoint_of_another_size(checkpoint: Path, tmp_path: Path) -> None:
    """Of the same family, and not of the same model."""
    save_stable_diffusion(tmp_path / "other", cross_attention_dim=24)
    for path in (tmp_path / "other").rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(ValueError, match=r"model tiny: .* does not fit the configs in"):
        open_model(checkpoint, source_config=str(tmp_path / "other"))


def test_a_checkpoint_without_configs(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="set source_config to a diffusers folder of a stable-d"):
        find_model(settings(checkpoint))


def test_a_checkpoint_of_another_family(checkpoint: Path, tmp_path: Path) -> None:
    save_xl(tmp_path / "xl")
    with pytest.raises(
        ValueError, match=r"weights are of stable-diffusion, and source_config .*xl"
    ):
        find_model(settings(checkpoint, source_config=str(tmp_path / "xl")))
    save_file({"lm_head.weight": torch.zeros(1)}, tmp_path / "gpt.safetensors")
    with pytest.raises(ValueError, match="no family here has weights of these names"):
        find_model(settings(tmp_path / "gpt.safetensors"))


def test_published_checkpoints_are_told_apart() -> None:
    """Some keys of each, as published."""
    unet = "model.diffusion_model.input_blocks.0.0.weight"
    keys = {
        "stable-diffusion": [unet, "cond_stage_model.transformer.text_model.final_layer_norm.bias"],
        "stable-diffusion-xl": [
            unet,
            "model.diffusion_model.label_emb.0.0.weight",
            "conditioner.embedders.1.model.ln_final.bias",
        ],
        "stable-diffusion-3": [
            "model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias",
            "text_encoders.clip_l.logit_scale",
        ],
        "flux": ["double_blocks.0.img_attn.norm.key_norm.scale", "img_in.bias"],
    }
    for name, names in keys.items():
        found = family_of_checkpoint(names)
        assert found is not None
        assert found.name == name
    assert family_of_checkpoint(["lm_head.weight"]) is None


def test_missing_weights_are_named(folder: Path) -> None:
    for path in (folder / "unet").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ValueError, match="has no weights for unet; complete the folder"):
        find_model(settings(folder))


def test_damaged_files_are_named(folder: Path) -> None:
    [weights] = (folder / "unet").glob("*.safetensors")
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=r"unet/.* cannot be read as safetensors .*git lfs pull"):
        find_model(settings(folder)).weights()
    shard = folder / "unet" / "diffusion_pytorch_model-00001-of-00002.safetensors"
    weights.rename(shard)
    with pytest.raises(ValueError, match="has 1 of 2 weight files"):
        find_model(settings(folder))
    (folder / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match=r"model_index\.json cannot be read"):
        find_model(settings(folder))


def test_pickles_are_read_only_when_allowed(folder: Path) -> None:
    [weights] = (folder / "unet").glob("*.safetensors")
    torch.save(load_file(weights), folder / "unet" / "diffusion_pytorch_model.bin")
    expected = picture(open_model(folder))
    weights.unlink()
    with pytest.raises(ValueError, match=r"only as \.bin, which can run code"):
        find_model(settings(folder))
    assert (picture(open_model(folder, allow_pickle=True)) == expected).all()


def test_variants(folder: Path) -> None:
    [weights] = (folder / "unet").glob("*.safetensors")
    other = folder / "unet" / "diffusion_pytorch_model.other.safetensors"
    save_file({k: v * 0.5 for k, v in load_file(weights).items()}, other)

    def unet_files(**more: str) -> list[str]:
        found = find_model(settings(folder, **more)).parts
        return [path.name for part in found if part.name == "unet" for path in part.files]

    assert unet_files() == [weights.name]
    assert unet_files(variant="other") == [other.name]
    with pytest.raises(ValueError, match="variant is 'pf16', and no weight file in"):
        unet_files(variant="pf16")
    weights.unlink()
    assert unet_files() == [other.name]
    assert open_model(folder).name == "stable-diffusion"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("/nowhere/model", "no such folder or file here"),
        ("model.safetensors", "no such folder or file here"),
        ("some/file.safetensors", "no such folder or file here"),
    ],
)
def test_a_source_that_is_not_there(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"model m: source is '{source}': .*{said}"):
        find_model(settings(source))
    with pytest.raises(ValueError, match="leave source_config out"):
        find_model(settings(source, source_config="elsewhere"))


def test_a_hub_id_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"the hub did not give it \(.*\); check the name and"):
        find_model(settings("nobody/no-such-model-as-this"))


def test_a_folder_that_is_no_model(folder: Path) -> None:
    index = folder / "model_index.json"
    said = json.loads(index.read_text())
    index.write_text(json.dumps({**said, "_class_name": "KandinskyPipeline"}))
    with pytest.raises(ValueError, match="says KandinskyPipeline: no family here serves that"):
        find_model(settings(folder))
    index.unlink()
    with pytest.raises(ValueError, match=r"has no model_index\.json"):
        find_model(settings(folder))


def test_each_part_has_a_line_while_it_is_read(
    tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "deployments.diffusion.reading"):
        open_model(tiny_folder)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(",")[0] for line in lines] == [
        "model tiny: read text_encoder (1 of 3)",
        "model tiny: read unet (2 of 3)",
        "model tiny: read vae (3 of 3)",
    ]


def test_a_third_text_encoder_can_be_left_out(tmp_path: Path) -> None:
    save_sd3(tmp_path)
    with pytest.raises(ValueError, match="t5 is false, and a stable-diffusion cannot do without"):
        find_model(settings(EMBEDDED, t5=False))
    family = open_model(tmp_path, t5=False)
    assert family.pipeline.text_encoder_3 is None
    assert "text_encoder_3" not in find_model(settings(tmp_path, t5=False)).weights()


def test_weights_are_counted_by_their_headers() -> None:
    files, family = find_model(settings(EMBEDDED)), open_model(EMBEDDED)
    counts = files.weights()
    assert set(counts) == {"text_encoder", "unet", "vae"}
    for name, count in counts.items():
        part = getattr(family.pipeline, name)
        assert count == sum(tensor.numel() for tensor in part.state_dict().values())


def test_each_part_of_a_checkpoint_is_counted_and_nothing_else(
    checkpoint: Path, configs: Path, tiny_folder: Path
) -> None:
    averaged = {"model_ema.diffusion_modelinput_blocks00weight": torch.zeros(1000)}
    save_file({**load_file(checkpoint), **averaged}, checkpoint)
    counts = find_model(settings(checkpoint, source_config=str(configs))).weights()
    assert counts == find_model(settings(tiny_folder)).weights()


def test_a_checkpoint_of_flux_alone_is_counted_whole(tmp_path: Path) -> None:
    """Its names have no beginning in common."""
    layers = [
        *("double_blocks.0", "single_blocks.9", "img_in", "txt_in", "time_in.in_layer"),
        *("vector_in.out_layer", "guidance_in.in_layer", "final_layer.linear"),
    ]
    path, part = tmp_path / "flux.safetensors", Part("transformer", FluxTransformer2DModel)
    save_file({f"{layer}.weight": torch.zeros(2, 3) for layer in layers}, path)
    assert ModelFiles(Flux, tmp_path, path, (part,)).weights() == {"transformer": 6 * len(layers)}


def test_too_little_memory_says_what_is_needed_and_what_is_there() -> None:
    weights = {"unet": GIB, "vae": GIB // 4}
    half = settings("x", dtype="bfloat16")
    cpu = torch.device("cpu")
    check_fits(half, cpu, weights, allowed=int(2.5 * GIB), words="is free")
    with pytest.raises(
        ValueError,
        match=r"model m: its weights need 2.50 GiB in bfloat16 \(unet 2.00, vae 0.50\) and "
        r"2.40 GiB is free; give the replica more",
    ):
        check_fits(half, cpu, weights, allowed=int(2.4 * GIB), words="is free")


def test_a_model_that_does_not_fit_is_not_read(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "allowed_bytes", lambda *_: (1000, "is free"))
    monkeypatch.setattr(loading, "read_pipeline", pytest.fail)
    with pytest.raises(ValueError, match=r"and 0\.00 GiB is free"):
        open_model(tiny_folder)


def test_what_is_free_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70 * GIB, 80 * GIB))
    allowed, words = allowed_bytes(settings("x", memory_fraction=0.5), torch.device("cuda"))
    assert allowed == 40 * GIB
    assert words == "may be used here: 0.5 of 80.0 GiB, of which 70.0 are free"


def test_a_replica_is_held_to_its_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", held.append)
    limit_memory(settings("x", memory_fraction=0.5), torch.device("cuda"))
    limit_memory(settings("x", memory_fraction=0.5), torch.device("cpu"))
    limit_memory(settings("x"), torch.device("cuda"))
    assert held == [0.5]
