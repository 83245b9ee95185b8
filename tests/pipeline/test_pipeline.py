"""The whole way, on real classes at tiny size."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, EulerAncestralDiscreteScheduler

from insightedit.images.reading import read_picture
from insightedit.pipelines.base import InsightEditOutput
from insightedit.pipelines.edit import InsightEditPipeline
from tests.pipeline.conftest import build_pipeline

WORDS = "make the dog red"


def as_bytes(result):
    return [image.tobytes() for image in result.images]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(32, 32), (70, 41), (5, 90), (1, 1)])
def test_size_and_mode_in_are_size_and_mode_out(tiny_pipeline, picture_of, mode, size):
    source = picture_of(mode, size)
    result = tiny_pipeline(source, WORDS, seed=1, num_inference_steps=1, mask_threshold=0.2)
    image, mask = result.images[0], result.masks[0]
    assert (image.mode, image.size) == (source.mode, source.size)
    assert mask.shape == result.edit_maps[0].shape == size[::-1]
    np.testing.assert_array_equal(read_picture(image).colour[~mask], read_picture(source).colour[~mask])


def test_every_part_takes_part(tiny_pipeline, picture_of):
    source = picture_of("RGB", (40, 40))
    plain = as_bytes(tiny_pipeline(source, WORDS, seed=1, background_lock=False))
    for change in (
        {"seed": 2},
        {"instruction": "remove the cat"},
        {"image": picture_of("RGB", (40, 40), 5)},
        {"guidance_scale": 1.0},
        {"image_guidance_scale": 3.0},
        {"num_inference_steps": 3},
        {"image_prompt_scale": 0.0},
        {"reference_image": source},
    ):
        arguments = {"image": source, "instruction": WORDS, "seed": 1, **change}
        assert as_bytes(tiny_pipeline(**arguments, background_lock=False)) != plain, change


def test_a_batch_gives_the_bytes_of_its_singles(tiny_pipeline, picture_of):
    pictures = [picture_of("RGB", (40, 30), 1), picture_of("L", (64, 64), 2), picture_of("RGBA", (9, 50), 3)]
    words = ["make it red", "remove the small animal on the left side", "sepia"]
    together = tiny_pipeline(pictures, words, seed=[5, 6, 5])
    for index, (picture, text, seed) in enumerate(zip(pictures, words, [5, 6, 5], strict=True)):
        alone = tiny_pipeline(picture, text, seed=seed)
        assert as_bytes(alone) == [together.images[index].tobytes()]
        np.testing.assert_array_equal(alone.edit_maps[0], together.edit_maps[index])
    assert together.seeds == [5, 6, 5]


def test_sharing_a_forward_pass_is_equal_up_to_rounding(tiny_pipeline, picture_of):
    pictures = [picture_of("RGB", (32, 32), seed) for seed in range(3)]
    words = ["make it red", "remove the small animal on the left side", "sepia"]
    options = {"seed": 7, "output_type": "latent"}
    alone = tiny_pipeline(pictures, words, **options).images
    shared = tiny_pipeline(pictures, words, batch_size=2, **options).images
    torch.testing.assert_close(shared, alone, atol=1e-3, rtol=1e-3)


def test_one_seed_stands_for_each_picture(tiny_pipeline, picture_of):
    source = picture_of("RGB", (32, 32))
    result = tiny_pipeline([source, source], WORDS, seed=3)
    assert result.seeds == [3, 3]
    assert as_bytes(result)[0] == as_bytes(result)[1]


def test_drawn_seeds_repeat_the_result(tiny_pipeline, picture_of):
    source = picture_of("RGB", (32, 32))
    first = tiny_pipeline(source, WORDS)
    assert as_bytes(tiny_pipeline(source, WORDS, seed=first.seeds)) == as_bytes(first)
    assert tiny_pipeline(source, WORDS).seeds != first.seeds


def test_generators_seed(tiny_pipeline, picture_of):
    sources = [picture_of("RGB", (32, 32))] * 2
    one = tiny_pipeline(sources, WORDS, generator=torch.Generator().manual_seed(1))
    again = tiny_pipeline(sources, WORDS, generator=torch.Generator().manual_seed(1))
    each = tiny_pipeline(sources, WORDS, generator=[torch.Generator().manual_seed(1) for _ in sources])
    assert one.seeds == again.seeds
    assert one.seeds[0] != one.seeds[1]
    assert each.seeds == [one.seeds[0]] * 2


def test_a_scheduler_that_adds_noise_repeats_too(tiny_pipeline, picture_of):
    source = picture_of("RGB", (32, 32))
    other = InsightEditPipeline(**{
        **tiny_pipeline.components,
        "scheduler": EulerAncestralDiscreteScheduler.from_config(tiny_pipeline.scheduler.config),
    }, resolution=32, num_edit_tokens=4)  # fmt: skip
    other.set_progress_bar_config(disable=True)
    options = {"seed": 4, "num_inference_steps": 3}
    alone = other(source, WORDS, **options)
    assert as_bytes(other([source, source], WORDS, **options)) == as_bytes(alone) * 2
    assert as_bytes(alone) != as_bytes(tiny_pipeline(source, WORDS, **options))


class TestSaving:
    def test_round_trip_gives_the_same_pixels(self, tiny_pipeline, tmp_path, picture_of):
        source = picture_of("RGB", (50, 60))
        tiny_pipeline.save_pretrained(tmp_path / "model")
        again = InsightEditPipeline.from_pretrained(tmp_path / "model")
        again.set_progress_bar_config(disable=True)
        assert dict(again.config)["num_edit_tokens"] == 4
        assert as_bytes(again(source, WORDS, seed=2)) == as_bytes(tiny_pipeline(source, WORDS, seed=2))
        again.save_pretrained(tmp_path / "second")
        files = {p.relative_to(tmp_path / "model") for p in (tmp_path / "model").rglob("*")}
        assert files == {p.relative_to(tmp_path / "second") for p in (tmp_path / "second").rglob("*")}

    def test_folder_holds_no_pickles_and_names_public_classes(self, tiny_folder):
        assert not [p for p in tiny_folder.rglob("*") if p.suffix in (".bin", ".pt", ".pkl", ".ckpt")]
        index = json.loads((tiny_folder / "model_index.json").read_text())
        assert index["unet"] == ["insightedit", "EditUNet"]
        assert index["bridge"] == ["insightedit", "EditBridge"]
        assert index["mllm"] == ["transformers", "LlavaForConditionalGeneration"]

    def test_replacing_a_part_keeps_the_public_name(self, tiny_pipeline):
        other = InsightEditPipeline(**tiny_pipeline.components, resolution=32, num_edit_tokens=4)
        other.unet = tiny_pipeline.unet
        assert other.config.unet == ("insightedit", "EditUNet")

    def test_optional_parts_may_be_missing(self, tiny_pipeline, tmp_path, picture_of):
        parts = {**tiny_pipeline.components, "image_encoder": None, "feature_extractor": None}
        InsightEditPipeline(**parts, resolution=32, num_edit_tokens=4).save_pretrained(tmp_path)
        again = InsightEditPipeline.from_pretrained(tmp_path)
        again.set_progress_bar_config(disable=True)
        source = picture_of("RGB", (8, 8))
        assert len(again(source, WORDS, num_inference_steps=1).images) == 1
        with pytest.raises(ValueError, match="came without its image encoder"):
            again(source, WORDS, reference_image=source)

    def test_half_precision_on_disk_becomes_float32(self, tiny_pipeline, tmp_path):
        tiny_pipeline.save_pretrained(tmp_path)
        half = InsightEditPipeline.from_pretrained(tmp_path, dtype=torch.float16)
        assert {half.unet.dtype, half.mllm.dtype, half.bridge.dtype} == {torch.float16}
        half.save_pretrained(tmp_path / "half")
        again = InsightEditPipeline.from_pretrained(tmp_path / "half")
        assert {again.unet.dtype, again.mllm.dtype, again.vae.dtype, again.bridge.dtype} == {torch.float32}

    def test_the_generic_loader_finds_the_class(self, tiny_folder, tiny_pipeline, picture_of, tmp_path, monkeypatch):
        monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path))
        loaded = DiffusionPipeline.from_pretrained(
            tiny_folder, custom_pipeline="pipeline", trust_remote_code=True, dtype=torch.float32
        )
        assert isinstance(loaded, InsightEditPipeline)
        loaded.set_progress_bar_config(disable=True)
        source = picture_of("RGB", (20, 20))
        assert as_bytes(loaded(source, WORDS, seed=1)) == as_bytes(tiny_pipeline(source, WORDS, seed=1))


class TestOutput:
    def test_types(self, tiny_pipeline, picture_of):
        source = picture_of("RGBA", (20, 10))
        pil = tiny_pipeline(source, WORDS, seed=1).images[0]
        values = tiny_pipeline(source, WORDS, seed=1, output_type="np").images[0]
        tensor = tiny_pipeline(source, WORDS, seed=1, output_type="pt").images[0]
        assert (values.shape, values.dtype) == ((10, 20, 4), np.float32)
        np.testing.assert_array_equal(np.rint(values * 255), np.asarray(pil))
        np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), values)

    def test_latents_have_no_maps(self, tiny_pipeline, picture_of):
        result = tiny_pipeline(picture_of("RGB", (20, 10)), WORDS, output_type="latent")
        assert result.images.shape == (1, 4, 8, 8)
        assert (result.masks, result.edit_maps) == ([], [])

    def test_tuple(self, tiny_pipeline, picture_of):
        result = tiny_pipeline(picture_of("RGB", (8, 8)), WORDS, return_dict=False)
        assert len(result) == len(InsightEditOutput.__dataclass_fields__)

    def test_versions_and_settings(self, tiny_pipeline, picture_of):
        result = tiny_pipeline(picture_of("RGB", (8, 8)), WORDS, guidance_scale=3.0)
        assert {"torch", "diffusers", "transformers", "insightedit"} <= set(result.versions)
        assert result.settings["guidance_scale"] == 3.0
        assert result.settings["num_inference_steps"] == 2

    def test_expressive_instruction(self, tiny_pipeline, picture_of):
        source = picture_of("RGB", (8, 8))
        said = tiny_pipeline(source, WORDS, describe=True).expressive_instructions
        assert said == tiny_pipeline(source, WORDS, describe=True).expressive_instructions
        assert isinstance(said[0], str)
        assert tiny_pipeline(source, WORDS).expressive_instructions == [None]

    def test_an_expressive_model_reads_what_it_wrote(self, tiny_root, picture_of):
        pipeline = build_pipeline(tiny_root)
        pipeline.set_progress_bar_config(disable=True)
        source = picture_of("RGB", (32, 32))
        options = {"seed": 1, "output_type": "np", "background_lock": False}
        plain = pipeline(source, WORDS, **options)
        pipeline.register_to_config(expressive=True)
        spoken = pipeline(source, WORDS, **options)
        assert spoken.expressive_instructions == pipeline(source, WORDS, describe=True).expressive_instructions
        assert not np.array_equal(spoken.images[0], plain.images[0])
        rgb = np.array(source)
        said = pipeline.encode_instruction([WORDS], [rgb], None, spoken.expressive_instructions)
        other = pipeline.encode_instruction([WORDS], [rgb], None, ["something else"])
        assert not torch.equal(said.encoder_hidden_states, other.encoder_hidden_states)

    def test_own_mask(self, tiny_pipeline, picture_of):
        source = picture_of("RGB", (40, 20))
        own = np.zeros((20, 40), bool)
        own[5:15, 5:30] = True
        result = tiny_pipeline(source, WORDS, mask=own)
        np.testing.assert_array_equal(result.masks[0], own)
        changed = (np.asarray(result.images[0]) != np.asarray(source)).any(axis=2)
        assert changed.any()
        assert not changed[~own].any()


def test_callback_sees_and_replaces_latents(tiny_pipeline, picture_of):
    steps = []

    def callback(pipeline, step, timestep, tensors):
        steps.append((pipeline is tiny_pipeline, step, int(timestep)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    result = tiny_pipeline(picture_of("RGB", (8, 8)), WORDS, output_type="latent", callback_on_step_end=callback)
    assert [step for _, step, _ in steps] == [0, 1]
    assert not result.images.any()


def test_modes_of_the_parts_are_left_as_found(tiny_pipeline, picture_of):
    tiny_pipeline.bridge.train()
    tiny_pipeline.unet.eval()
    try:
        first = tiny_pipeline(picture_of("RGB", (8, 8)), WORDS, seed=1)
        assert tiny_pipeline.bridge.training
        assert not tiny_pipeline.unet.training
    finally:
        tiny_pipeline.bridge.eval()
    assert as_bytes(first) == as_bytes(tiny_pipeline(picture_of("RGB", (8, 8)), WORDS, seed=1))


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"instruction": "  "}, "`instruction` is empty"),
            ({"instruction": None}, "`instruction` is missing"),
            ({"instruction": []}, "`instruction` is empty"),
            ({"prompt": "twice"}, "two names of one thing"),
            ({"instruction": ["a", "b"], "image": "three"}, "got 3 pictures and 2 instructions"),
            ({"seed": -1}, "`seed` -1 is out of range"),
            ({"seed": [1, 2]}, "got 2 values for `seed` and 1 pictures"),
            ({"seed": 1, "generator": torch.Generator()}, "choose one"),
            ({"num_inference_steps": 0}, "at least 1 step"),
            ({"guidance_scale": float("nan")}, "`guidance_scale` is nan"),
            ({"image_prompt_scale": -1.0}, "`image_prompt_scale` is -1.0"),
            ({"batch_size": 0}, "`batch_size` is 0"),
            ({"output_type": "jpg"}, "choose one of pil, np, pt, latent"),
            ({"mask": np.ones((3, 3), bool)}, "the mask has 3 x 3 px and the picture 8 x 8"),
            ({"mask": np.ones((8, 8), bool), "background_lock": False}, "drop one of the two"),
            ({"callback_on_step_end_tensor_inputs": ["noise"]}, r"names \['noise'\]"),
        ],
    )
    def test_bad_arguments(self, tiny_pipeline, picture_of, arguments, message):
        source = picture_of("RGB", (8, 8))
        arguments = {"image": source, "instruction": WORDS, **arguments}
        if arguments["image"] == "three":
            arguments["image"] = [source] * 3
        with pytest.raises(ValueError, match=message):
            tiny_pipeline(**arguments)

    def test_bad_resolution(self, tiny_pipeline):
        with pytest.raises(ValueError, match="take a multiple of 8"):
            InsightEditPipeline(**tiny_pipeline.components, resolution=36, num_edit_tokens=4)
