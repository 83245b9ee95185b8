"""Every trainer at tiny size: steps, exact resume, export into the stock folder, and what is special to each."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC, AutoencoderKL, StableDiffusionPipeline
from torch.nn import functional as F
from transformers import CLIPImageProcessor, CLIPModel, CLIPTextModel

from insightedit.comprehension.prompts import TASK_PREFIXES, question_turn
from insightedit.generation.transformer import EditTransformer
from insightedit.generation.unet import EditUNet
from insightedit.miniatures.builders import build_vae
from insightedit.miniatures.sizes import TINY, VaeSize
from insightedit.scenes import CLASSES, COLOURS, SLOTS
from insightedit.scenes.scene import Background, Scene, SceneObject
from insightedit.training.miniatures import clip, editing, llava, loop, sd, sharpen
from insightedit.training.miniatures.loop import TrainOptions, train_part
from tests.miniatures.fakes import Squares

SQUARES = Squares(32)
OPTIONS = TrainOptions(steps=3, warmup_steps=1, workers=0, lr=1e-3)
PARTS = {
    "vision": clip.VisionPart,
    "clip": clip.ClipPart,
    "vae": sd.VaePart,
    "llava": llava.LlavaPart,
    "sd": sd.SdPart,
    "ip2p": editing.Ip2pPart,
    "pixart": editing.PixartPart,
    "sharpen": sharpen.SharpenPart,
}
METRICS = {
    "vision": {"class_accuracy", "colour_accuracy"},
    "clip": {"recall_at_1_of_256", "source_or_target"},
    "vae": {"psnr", "scaling_factor"},
    "llava": {f"accuracy_{kind}" for kind in llava.KINDS} | {"exact_expressive", "exact_grounding", "exact_vqa"},
    "sd": {"val_error", "val_error_null"},
    "ip2p": {"val", "val_null", "val_place", "val_null_place"},
    "pixart": {"val", "val_null", "val_place", "val_null_place"},
    "sharpen": {"psnr", "crispness"},
}


@pytest.fixture(autouse=True)
def _few_held_out_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (clip, llava, sd):
        monkeypatch.setattr(module, "VAL_COUNT", 32)
    monkeypatch.setattr(sd, "VAL_PICTURES", 16)
    monkeypatch.setattr(editing, "VAL_PAIRS", 16)
    monkeypatch.setattr(llava, "GREEDY_COUNT", 3)
    monkeypatch.setattr(sharpen, "VAL_SCENES", 8)


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_root, tmp_path / "root"))


def _part(name: str, root: Path) -> Any:
    return PARTS[name](root, SQUARES, SQUARES, 8)


@pytest.mark.parametrize("name", PARTS)
def test_resume_is_exact_and_the_folder_holds_what_was_trained(name: str, root: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, ema_decay=PARTS[name].options.ema_decay)
    straight = _part(name, root)
    before = {k: v.clone() for k, v in straight.model.state_dict().items()}
    resumed_root = Path(shutil.copytree(root, tmp_path / "other"))
    _, metrics = train_part(straight, tmp_path / "straight", options)
    train_part(_part(name, resumed_root), tmp_path / "resumed", replace(options, stop_after=1))
    resumed = _part(name, resumed_root)
    train_part(resumed, tmp_path / "resumed", options)
    assert metrics.keys() == METRICS[name]
    for key, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    assert any(not torch.equal(value, before[key]) for key, value in straight.model.state_dict().items())
    for ours, theirs in zip(
        sorted(root.rglob("*.safetensors")), sorted(resumed_root.rglob("*.safetensors")), strict=True
    ):
        assert ours.read_bytes() == theirs.read_bytes()


def test_vision_trains_the_tower_that_clip_and_llava_start_from(root: Path, tmp_path: Path) -> None:
    before = CLIPModel.from_pretrained(root / "clip").state_dict()
    train_part(_part("vision", root), tmp_path / "run", OPTIONS)
    after = CLIPModel.from_pretrained(root / "clip").state_dict()
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"vision_model"}
    tower = _part("llava", root).model.model.vision_tower.state_dict()
    other = [key for key in tower if not torch.equal(tower[key], after[f"vision_model.{key}"])]
    assert other == ["embeddings.position_embedding.weight"]
    marks = tower[other[0]] - after[f"vision_model.{other[0]}"]
    assert marks[0].abs().max() == 0 and float(marks.abs().max()) == pytest.approx(1.0, abs=1e-4)
    cells = marks[1:].reshape(4, 4, -1)  # half of the numbers tell the column, half the row
    assert torch.allclose(cells[0, :, :16], cells[3, :, :16], atol=1e-5)
    assert torch.allclose(cells[:, 0, 16:], cells[:, 3, 16:], atol=1e-5)
    assert len(marks[1:].round(decimals=4).unique(dim=0)) == 16


def test_patch_labels_show_the_front_object_where_it_stands() -> None:
    behind = SceneObject(CLASSES[3], slot=7, x=500, y=500, height=600)
    front = SceneObject(CLASSES[5], slot=4, x=375, y=375, height=300, colour="red")
    scene = Scene(Background("grey", 0, 0, 1000), (behind, front))
    classes, colours, places = (labels.reshape(4, 4) for labels in clip.patch_labels(scene, 4))
    assert classes.tolist() == [[0, 0, 0, 0], [0, 6, 4, 0], [0, 4, 4, 0], [0, 0, 0, 0]]
    assert colours.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert places.tolist() == [[0, 0, 0, 0], [0, 5, 8, 0], [0, 8, 8, 0], [0, 0, 0, 0]]


def test_clip_exports_its_text_tower_for_the_pipeline(root: Path) -> None:
    part = _part("clip", root)
    torch.nn.init.ones_(part.model.text_model.final_layer_norm.bias)
    part.export()
    tower = CLIPTextModel.from_pretrained(root / "sd", subfolder="text_encoder")
    assert torch.equal(tower.final_layer_norm.bias, torch.ones(32))
    assert CLIPImageProcessor.from_pretrained(root / "clip").crop_size["height"] == 32


def test_clip_counts_equal_captions_as_positives(root: Path) -> None:
    part = _part("clip", root)
    batch = part.batch(0)
    batch["input_ids"] = batch["input_ids"][:1].expand(8, -1)
    losses = part.loss(batch, torch.Generator())
    assert losses["recall"] == 1.0


def test_vae_exports_one_over_the_latents_deviation(root: Path) -> None:
    _part("vae", root).export()
    model = AutoencoderKL.from_pretrained(root / "sd", subfolder="vae")
    scenes = [SQUARES[i] for i in range(32)]
    pixels = loop.to_vae_pixels(loop.stack([s.source for s in scenes] + [s.target for s in scenes]))
    with torch.no_grad():
        latents = model.encode(pixels).latent_dist.mode() * model.config.scaling_factor
    assert float(latents.std()) == pytest.approx(1.0, abs=1e-3)


def test_a_deterministic_autoencoder_trains_too(root: Path, tmp_path: Path) -> None:
    size = replace(TINY, vae=VaeSize("dc", 4, (32, 32, 64), layers_per_block=1, norm_num_groups=0))
    build_vae(size).save_pretrained(root / "sd" / "vae")
    part = _part("vae", root)
    assert isinstance(part.model, AutoencoderDC)
    _, metrics = train_part(part, tmp_path / "run", OPTIONS)
    assert np.isfinite(metrics["psnr"])
    assert _part("sd", root).loss(_part("sd", root).batch(0), torch.Generator())["loss"].isfinite()


def test_vae_batches_are_a_function_of_the_step(root: Path) -> None:
    part = _part("vae", root)
    assert torch.equal(part.batch(3)["pixels"], part.batch(3)["pixels"])
    assert not torch.equal(part.batch(3)["pixels"], part.batch(4)["pixels"])


def test_sd_trains_the_unet_only_and_the_pipeline_still_draws(root: Path) -> None:
    part = _part("sd", root)
    part.loss(part.batch(0), torch.Generator().manual_seed(0))["loss"].backward()
    assert all(p.grad is not None for p in part.model.parameters())
    assert all(p.grad is None for model in (part.vae, part.text_encoder) for p in model.parameters())
    part.export()
    pipeline = StableDiffusionPipeline.from_pretrained(root / "sd", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("A red square.", num_inference_steps=1, output_type="np").images.shape == (1, 32, 32, 3)


def test_ip2p_starts_as_a_copy_of_the_source(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editing, "CHANGE_FLOOR", 1e-6)
    part = _part("ip2p", root)
    metrics = part.evaluate()  # at pure noise the first guess is the source itself
    assert metrics["val"] == metrics["val_null"] == pytest.approx(1.0, abs=1e-4)


def test_ip2p_learns_where_by_its_place_head_too(root: Path) -> None:
    part = _part("ip2p", root)
    torch.nn.init.ones_(part.model["place"].weight)
    losses = part.loss(part.batch(0), torch.Generator().manual_seed(0))
    losses["place"].backward()
    assert part.unet.mid_block.resnets[0].conv1.weight.grad.abs().max() > 0
    assert part.unet.conv_out.weight.grad is None
    assert "place" not in {name.split(".")[0] for name, _ in part.unet.named_parameters()}


def test_ip2p_freezes_the_text_tower_and_exports_both(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing, "TEXT_STEPS", 2)
    before = CLIPTextModel.from_pretrained(root / "sd", subfolder="text_encoder").state_dict()
    part = _part("ip2p", root)
    towers = []
    for stop in (2, None):
        train_part(part, tmp_path / "run", replace(OPTIONS, steps=4, stop_after=stop))
        towers.append(CLIPTextModel.from_pretrained(root / "sd", subfolder="text_encoder").state_dict())
    assert any(not torch.equal(value, before[key]) for key, value in towers[0].items())
    assert all(torch.equal(value, towers[1][key]) for key, value in towers[0].items())
    unet = EditUNet.from_pretrained(root / "ip2p", subfolder="unet")
    assert unet.config.source_prior == editing.SOURCE_PRIOR
    assert torch.equal(unet.conv_out.weight, part.unet.conv_out.weight)
    assert unet.conv_out.weight.abs().max() > 0


def test_llava_starts_from_clips_vision_tower(root: Path) -> None:
    model = CLIPModel.from_pretrained(root / "clip")
    torch.nn.init.ones_(model.vision_model.pre_layrnorm.bias)
    model.save_pretrained(root / "clip")
    assert torch.equal(_part("llava", root).model.model.vision_tower.pre_layrnorm.bias, torch.ones(32))


def test_llava_tokens_are_the_processors_tokens(root: Path) -> None:
    part = _part("llava", root)
    row = {k: v[0] for k, v in part.batch(0).items()}
    exchanges = llava.conversation(SQUARES[0], np.random.default_rng([3, 0]))
    for number, exchange in enumerate(exchanges, start=1):
        text = question_turn(exchange.question).prompt + f" {exchange.answer}</s>"
        wanted = part.processor(images=SQUARES[0].source, text=text, return_tensors="pt").input_ids[0]
        here = (row["branch"] == 0) | (row["branch"] == number)
        assert row["input_ids"][here].tolist() == wanted.tolist()
        assert row["position_ids"][here].tolist() == list(range(len(wanted)))
        answer = row["labels"][row["branch"] == number]
        assert part.processor.decode(answer[answer != llava.IGNORE], skip_special_tokens=True) == exchange.answer


def test_a_patch_is_like_the_words_for_what_covers_it(root: Path) -> None:
    part = _part("llava", root)
    dog, red, place = clip.CLASS_LABELS["dog"], clip.COLOUR_LABELS["red"], llava.PLACE_LABELS["top left"]
    tables = (part.names, dog), (part.tints, red), (part.places, place)
    of_dog, of_red, of_place = (table[number].nonzero().flatten().tolist() for table, number in tables)
    said = part.processor.tokenizer("see the red dog at the top left", add_special_tokens=False).input_ids
    assert {*of_dog, *of_red, *of_place} <= set(said)
    for table, labels in ((part.names, clip.CLASS_LABELS), (part.tints, COLOURS), (part.places, SLOTS)):
        assert table.sum(dim=1).tolist() == pytest.approx([0.0] + [1.0] * len(labels))

    words = F.normalize(part.model.get_input_embeddings().weight.detach(), dim=-1, eps=1e-3)
    there = words[of_dog].mean(dim=0) + words[of_place].mean(dim=0)
    features = torch.stack([there, -there, torch.zeros(len(there))])[None]
    classes, colours, places = torch.tensor([dog, dog, 0]), torch.tensor([0, red, 0]), torch.tensor([place, place, 0])
    with torch.no_grad():
        part.features = features
        found = part._naming(classes, colours, places)
        part.features = features
        bare = part._naming(torch.zeros(3, dtype=torch.int64), colours, places)
    logits = 20 * F.normalize(features[0, :2], dim=-1) @ words.T
    wanted = 0.6 * torch.stack([part.names[dog], 0.75 * part.names[dog] + 0.25 * part.tints[red]])
    wanted += 0.4 * part.places[place]
    assert float(found["loss"]) == pytest.approx(float(F.cross_entropy(logits, wanted)), rel=1e-5)
    assert float(found["named"]) == float(found["placed"]) == 0.5  # the first is like its words, the second opposite
    assert {name: float(value) for name, value in bare.items()} == {"loss": 0.0, "named": 0.0, "placed": 0.0}


def test_likeness_reaches_projector_tower_and_words_but_not_the_row_of_padding(root: Path) -> None:
    part = _part("llava", root)
    table = part.model.get_input_embeddings()
    batch = part.batch(0)
    part.model.get_image_features(loop.to_clip_pixels(batch["pictures"]))
    assert {batch[key].shape for key in llava.COVERS} == {(8, part.model.config.image_seq_length)}
    covers = [torch.full((batch[key].numel(),), 3) for key in llava.COVERS]
    part._naming(*covers)["loss"].backward()
    assert part.model.model.multi_modal_projector.linear_1.weight.grad.abs().max() > 0
    assert part.model.model.vision_tower.embeddings.patch_embedding.weight.grad.abs().max() > 0
    assert 0 < float(table.weight.grad.abs().max()) < 1e3
    assert part.features is None


def test_a_packed_branch_is_a_conversation_of_its_own(root: Path) -> None:
    part = _part("llava", root)
    part.model.eval()
    batch = part.batch(0)
    packed, labels, _ = part._answer_logits(batch)
    exchanges = llava.conversation(SQUARES[0], np.random.default_rng([3, 0]))
    done = 0
    for exchange in exchanges:
        text = question_turn(exchange.question).prompt + f" {exchange.answer}</s>"
        inputs = part.processor(images=SQUARES[0].source, text=text, return_tensors="pt")
        count = len(part.processor.tokenizer(f"<image> {exchange.answer}</s>", add_special_tokens=False).input_ids) - 1
        alone = part.model(**inputs).logits[0, -count - 1 : -1]
        torch.testing.assert_close(packed[done : done + count], alone, rtol=1e-4, atol=1e-5)
        assert labels[done : done + count].tolist() == inputs.input_ids[0, -count:].tolist()
        done += count


def test_attention_stays_within_prefix_and_branch() -> None:
    mask = llava.attention_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0]
    rows = ["100000", "110000", "111000", "111100", "110010", "110001"]
    assert mask.int().tolist() == [[int(c) for c in row] for row in rows]


def test_conversation_has_every_kind() -> None:
    kinds = [e.kind for e in llava.conversation(SQUARES[0], np.random.default_rng(0))]
    assert kinds == ["caption", "expressive", "grounding", "vqa", "vqa"]


def test_conversation_has_no_grounding_where_the_edit_means_no_object() -> None:
    scene = SQUARES[0]
    pairs = scene.qa()[:1]
    scene.qa = lambda: pairs
    kinds = [e.kind for e in llava.conversation(scene, np.random.default_rng(0))]
    assert kinds == ["caption", "expressive", "vqa"]


def test_pixels_are_what_the_stock_processor_makes(tiny_root: Path) -> None:
    scenes = [SQUARES[i].source for i in range(2)]
    processor = CLIPImageProcessor.from_pretrained(tiny_root / "clip")
    wanted = processor(scenes, return_tensors="pt").pixel_values
    torch.testing.assert_close(loop.to_clip_pixels(loop.stack(scenes)), wanted, rtol=1e-4, atol=1e-5)


def test_captioned_pictures_come_in_pairs() -> None:
    samples = [SQUARES[i] for i in (5, 6)]
    stacked, captions = loop.both_images(samples), loop.both_captions(samples)
    assert stacked.shape == (4, 3, 32, 32)
    assert stacked.dtype == torch.uint8
    assert captions == [*(SQUARES[i].caption_source for i in (5, 6)), *(SQUARES[i].caption_target for i in (5, 6))]


def test_pixart_starts_as_a_copy_of_the_source(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editing, "CHANGE_FLOOR", 1e-6)
    monkeypatch.setattr(editing, "CREATION_SHARE", 10**6)
    part = _part("pixart", root)
    batch = part.batch(0)
    last = torch.full((8,), 999)
    errors = part.errors(batch, last, torch.Generator().manual_seed(0))
    assert float(errors["loss"].detach()) == pytest.approx(1.0, abs=0.02)


def test_pixart_draws_every_fourth_sample_on_a_blank_canvas(root: Path) -> None:
    part = _part("pixart", root)
    batch = part.batch(0)
    assert batch["has_source"].tolist() == [1, 1, 1, 0] * 2
    assert batch["changed"][3].min() == 1, "on a blank canvas everything is new"
    for row, task in ((3, "subject"), (0, "editing")):
        prefix = part.tokenizer(TASK_PREFIXES[task], add_special_tokens=False).input_ids
        assert batch["input_ids"][row, : len(prefix)].tolist() == prefix


def test_pixart_exports_what_the_recipe_loads(root: Path, tmp_path: Path) -> None:
    part = _part("pixart", root)
    train_part(part, tmp_path / "run", OPTIONS)
    loaded = EditTransformer.from_transformer(
        root / "pixart",
        subfolder="transformer",
        source_channels=4,
        source_prior=editing.SOURCE_PRIOR,
        alphas_cumprod=part.scheduler.alphas_cumprod,
    )
    trained = part.transformer.state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in loaded.state_dict().items())
    assert loaded.proj_out.weight.abs().max() > 0, "a trained output layer starts anew"
