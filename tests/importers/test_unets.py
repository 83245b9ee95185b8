"""InstructPix2Pix' UNet as something to train from, and IP-Adapter in the image branch."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import ImageProjection
from safetensors.torch import save_file

from insightedit.export.folder import export_pipeline
from insightedit.export.importers import import_checkpoint
from insightedit.generation.unet import EditUNet
from insightedit.pipelines.loading import load_pipeline
from tests.importers import published
from tests.importers.conftest import stored
from tests.pipeline.conftest import tiny_folder, tiny_pipeline

__all__ = ["tiny_folder", "tiny_pipeline"]


def flat(nested):
    return {f"{part}.{name}": tensor for part, held in nested.items() for name, tensor in held.items()}


def test_instructpix2pix_lands_bit_equal_and_draws_the_same(made, tiny_root):
    folder, files, _ = made["instructpix2pix"]
    ours = stored(folder, "unet")
    assert set(ours) == set(files["unet"])
    assert all(torch.equal(tensor, files["unet"][name]) for name, tensor in ours.items())
    stock = UNet2DConditionModel.from_pretrained(tiny_root / "ip2p", subfolder="unet").eval()
    stock.load_state_dict(files["unet"])
    unet = EditUNet.from_pretrained(folder, subfolder="unet").eval()
    sample, text = torch.randn(2, 8, 8, 8), torch.randn(2, 16, published.TEXT)
    with torch.no_grad():
        expected = stock(sample, torch.tensor([1, 999]), text).sample
        torch.testing.assert_close(unet(sample, torch.tensor([1, 999]), text).sample, expected)
    assert "license: other" in (folder / "README.md").read_text()


def test_training_starts_from_the_imported_unet(made):
    folder = made["instructpix2pix"][0]
    branches = {"residual_channels": 32, "image_tokens": 4, "image_embed_dim": 24}
    unet = EditUNet.from_unet(folder, subfolder="unet", source_channels=4, **branches)
    assert torch.equal(unet.conv_in.weight, made["instructpix2pix"][1]["unet"]["conv_in.weight"])


def test_a_bin_file_and_the_unet_folder_itself(made, tmp_path):
    _, files, _ = made["instructpix2pix"]
    source = made["instructpix2pix"][0].parent / "ip2p-source/unet"
    published.write(tmp_path / "unet", {"diffusion_pytorch_model.bin": files["unet"]})
    shutil.copy(source / "config.json", tmp_path / "unet")
    (tmp_path / "out").mkdir()
    import_checkpoint("instructpix2pix", tmp_path / "unet", tmp_path / "out", dtype="fp16")
    assert {t.dtype for t in stored(tmp_path / "out", "unet").values()} == {torch.float16}


def refused(tmp_path, system, source, expected, *bases, **options):
    with pytest.raises((ValueError, FileNotFoundError), match=expected):
        import_checkpoint(system, source, tmp_path / "refused", bases=bases, **options)
    assert not [p for p in tmp_path.iterdir() if "refused" in p.name]


def test_instructpix2pix_refuses_what_does_not_fit(made, tiny_root, tmp_path):
    name = "instructpix2pix"
    refused(tmp_path, name, tiny_root / "sd", r"reads 4 channels and writes 4; one that edits reads 8")
    refused(tmp_path, name, tiny_root / "t5", r"holds no UNet: config.json and diffusion_pytorch_model")
    refused(tmp_path, name, tiny_root / "ip2p", r"--step 2: instructpix2pix has no steps", step=2)
    broken = tmp_path / "broken/unet"
    shutil.copytree(made[name][0].parent / "ip2p-source/unet", broken)
    (broken / "config.json").write_text(json.dumps({"in_channels": 8}))
    refused(tmp_path, name, broken, r"config.json is not the config of a UNet")
    save_file({"conv.weight": torch.zeros(2)}, tmp_path / "single.safetensors")
    base = f"unet={tiny_root}/sd"
    refused(tmp_path, name, tmp_path / "single.safetensors", r"it is no CompVis checkpoint", base)
    half = {"model.diffusion_model.time_embed.0.weight": torch.zeros(128, 32)}
    save_file(half, tmp_path / "half.safetensors")
    refused(tmp_path, name, tmp_path / "half.safetensors", r"lacks 2\d\d of 286 tensors of the unet", base)


@pytest.mark.parametrize("ending", ["bin", "safetensors"])
def test_ip_adapter_fills_the_image_branch_of_a_unet(made, tmp_path, ending):
    nested = published.ip_adapter()
    path = tmp_path / f"adapter.{ending}"
    torch.save(nested, path) if ending == "bin" else save_file(flat(nested), path)
    base = made["instructpix2pix"][0]
    report = import_checkpoint("ip-adapter", path, tmp_path / "out", bases=[str(base)])
    ours, before = stored(tmp_path / "out", "unet"), stored(base, "unet")
    assert all(torch.equal(ours[name], tensor) for name, tensor in before.items())
    projection = "encoder_hid_proj.image_projection_layers.0."
    for theirs, name in (("proj", "image_embeds"), ("norm", "norm")):
        for kind in ("weight", "bias"):
            assert torch.equal(ours[f"{projection}{name}.{kind}"], nested["image_proj"][f"{theirs}.{kind}"])
    unet = EditUNet.from_pretrained(tmp_path / "out", subfolder="unet")
    names = [name for name in unet.attn_processors if "attn2" in name]
    for index, name in enumerate(names):
        for part in "kv":
            source = nested["ip_adapter"][f"{2 * index + 1}.to_{part}_ip.weight"]
            assert torch.equal(ours[f"{name}.to_{part}_ip.0.weight"], source)
    assert len(ours) == len(before) + 2 * len(names) + 4
    assert report.facts["image_tokens"] == 4
    assert unet.config.image_embed_dim == 24


def test_ip_adapter_computes_what_diffusers_loads(made, tmp_path, tiny_root):
    """Against diffusers' own loader of the same file: which attention gets which number."""
    nested = published.ip_adapter()
    torch.save(nested, tmp_path / "adapter.bin")
    base = made["instructpix2pix"][0]
    import_checkpoint("ip-adapter", tmp_path / "adapter.bin", tmp_path / "out", bases=[str(base)])
    ours = EditUNet.from_pretrained(tmp_path / "out", subfolder="unet").eval()
    stock = UNet2DConditionModel.from_pretrained(tiny_root / "ip2p", subfolder="unet").eval()
    stock.load_state_dict(stored(base, "unet"))
    stock._load_ip_adapter_weights([nested], low_cpu_mem_usage=False)
    assert isinstance(stock.encoder_hid_proj.image_projection_layers[0], ImageProjection)
    sample, text, embeds = torch.randn(1, 8, 8, 8), torch.randn(1, 16, published.TEXT), torch.randn(1, 1, 24)
    added = {"image_embeds": [embeds]}
    with torch.no_grad():
        expected = stock(sample, torch.tensor([500]), text, added_cond_kwargs=added).sample
        drawn = ours(sample, torch.tensor([500]), text, added_cond_kwargs=added).sample
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-5)


def test_ip_adapter_in_a_pipeline_that_predicts_its_embedding(tiny_folder, tmp_path, picture):
    torch.save(published.ip_adapter(width=32), tmp_path / "adapter.bin")
    import_checkpoint("ip-adapter", tmp_path / "adapter.bin", tmp_path / "out", bases=[str(tiny_folder)])
    assert not (tmp_path / "out" / "text_encoder").exists(), "the base has none"
    pipeline, before = load_pipeline(tmp_path / "out"), load_pipeline(tiny_folder)
    options = {"seed": 0, "background_lock": False}
    for each in (pipeline, before):
        each.set_progress_bar_config(disable=True)
    ours = np.asarray(pipeline(picture, "remove the dog", **options).images[0])
    assert not np.array_equal(ours, np.asarray(before(picture, "remove the dog", **options).images[0]))
    without = [
        np.asarray(p(picture, "remove the dog", image_prompt_scale=0.0, **options).images[0])
        for p in (pipeline, before)
    ]
    assert np.array_equal(*without)


def test_ip_adapter_for_reference_pictures_only(made, tiny_root, tmp_path, picture):
    torch.save(published.ip_adapter(width=32), tmp_path / "adapter.bin")
    bases = [str(made["smartedit"][0]), f"image_encoder={tiny_root}/clip"]
    import_checkpoint("ip-adapter", tmp_path / "adapter.bin", tmp_path / "out", bases=bases)
    text, given = (stored(folder, "text_encoder") for folder in (tmp_path / "out", made["smartedit"][0]))
    assert all(torch.equal(tensor, given[name]) for name, tensor in text.items()) and len(text) == len(given)
    assert (tmp_path / "out" / "tokenizer").is_dir()
    pipeline = load_pipeline(tmp_path / "out")
    pipeline.register_to_config(resolution=32)
    pipeline.set_progress_bar_config(disable=True)
    options = {"seed": 0, "background_lock": False, "num_inference_steps": 2}
    plain = np.asarray(pipeline(picture, "remove the dog", **options).images[0])
    shown = np.asarray(pipeline(picture, "remove the dog", reference_image=picture, **options).images[0])
    assert not np.array_equal(plain, shown)


def test_ip_adapter_refuses_what_does_not_fit(made, tiny_root, tiny_folder, tmp_path):
    name, unet = "ip-adapter", str(made["instructpix2pix"][0])
    good = published.ip_adapter()

    def file(nested):
        torch.save(nested, tmp_path / "adapter.bin")
        return tmp_path / "adapter.bin"

    refused(tmp_path, name, file(good), r"name it with --base MODEL, a model folder of this package")
    refused(tmp_path, name, file(good), r"--step 2: ip-adapter has no steps", unet, step=2)
    refused(tmp_path, name, file(good), r"reads 4 channels, one that edits reads 8", str(tiny_root / "sd"))
    refused(tmp_path, name, file(good), r"is not a UNet", str(tiny_root / "clip"))
    refused(tmp_path, name, file(good), r"reads image embeddings 24 wide .* predicts them 32", str(tiny_folder))
    wrong = [str(made["smartedit"][0]), f"image_encoder={tiny_root}/clip"]
    refused(tmp_path, name, file(good), r"reads image embeddings 24 wide, the image encoder .* gives 32", *wrong)
    language = [str(made["smartedit"][0]), f"image_encoder={tiny_root}/llava"]
    refused(tmp_path, name, file(good), r"is not a CLIP image encoder with projection", *language)
    plus = {**good, "image_proj": {"latents": torch.zeros(1, 16, 32)}}
    refused(tmp_path, name, file(plus), r"is a Plus, full-face or FaceID adapter", unet)
    refused(tmp_path, name, file({"a": torch.zeros(2)}), r"it is no IP-Adapter file", unet)
    fewer = published.ip_adapter(channels=(32, 64))
    refused(tmp_path, name, file(fewer), r"has 2 cross-attentions \(numbers 1 to 3\), .* has 7 \(1 to 13\)", unet)
    odd = {**good, "image_proj": {**good["image_proj"], "proj.weight": torch.zeros(33, 24)}}
    refused(tmp_path, name, file(odd), r"image_proj.proj.weight has shape \(33, 24\); .* multiple of 32", unet)


def test_the_pipelines_own_exporter_is_used(made, tmp_path):
    """An imported model is exported, described and loaded like any other."""
    from insightedit.pipelines.loading import describe_model

    facts = describe_model(made["smartedit"][0])
    assert facts["license"] == "other"
    again = export_pipeline(load_pipeline(made["smartedit"][0]), tmp_path / "again")
    assert (again / "model_index.json").is_file()
