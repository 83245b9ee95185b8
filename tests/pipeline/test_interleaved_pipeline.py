"""The pipeline for instructions with pictures: edits, creation, seeds, saving, and every mistake."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from insightedit.config import load_config
from insightedit.export.folder import export_editor
from insightedit.model.build import build_editor
from insightedit.pipelines.compose import pipeline_from_editor
from insightedit.pipelines.inputs import pair_references
from insightedit.pipelines.interleaved import InterleavedEditPipeline
from insightedit.pipelines.loading import load_pipeline
from insightedit.pipelines.model_folder import PIPELINES

RANDOM = np.random.default_rng(0)
PHOTO, DOG, CAT = (RANDOM.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((50, 70), (20, 30), (64, 33)))
EDIT, PUT, DRAW = "make the picture bright", "add <imagehere> here", "draw <imagehere> and <imagehere>"


@pytest.fixture(scope="module")
def config():
    return load_config("mige", 3, ["tiny"])


@pytest.fixture(scope="module")
def editor(config):
    editor = build_editor(config)
    torch.manual_seed(0)
    with torch.no_grad():  # nothing that starts at zero is left there: every part takes part in the result
        editor.bridge.fusion.out.weight.normal_(std=0.5)
        editor.transformer.pos_embed.proj.weight[:, 4:].normal_(std=0.2)
    return editor


@pytest.fixture(scope="module")
def pipe(editor, config) -> InterleavedEditPipeline:
    pipe = pipeline_from_editor(editor, config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pixels(result, index: int = 0) -> np.ndarray:
    return np.asarray(result.images[index])


class TestEdits:
    @pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
    def test_any_size_and_mode_comes_back_as_it_was(self, pipe, mode):
        result = pipe(Image.fromarray(PHOTO).convert(mode), EDIT, seed=1)
        assert (result.images[0].size, result.images[0].mode) == ((70, 50), mode)
        assert result.masks[0].shape == result.edit_maps[0].shape == (50, 70)
        assert len(result.evidence) == 1 and result.expressive_instructions == [None]

    def test_outside_the_users_mask_nothing_changes(self, pipe):
        mask = np.zeros((50, 70), dtype=bool)
        mask[:, :30] = True
        edited = pixels(pipe(PHOTO, EDIT, seed=1, mask=mask))
        assert np.array_equal(edited[:, 30:], PHOTO[:, 30:])
        assert not np.array_equal(edited[:, :30], PHOTO[:, :30])

    def test_source_instruction_and_references_all_count(self, pipe):
        one = pixels(pipe(PHOTO, PUT, reference_images=[DOG], seed=1, background_lock=False))
        others = (
            pipe(PHOTO, PUT, reference_images=[CAT], seed=1, background_lock=False),
            pipe(PHOTO[::-1].copy(), PUT, reference_images=[DOG], seed=1, background_lock=False),
            pipe(PHOTO, "remove <imagehere> here", reference_images=[DOG], seed=1, background_lock=False),
            pipe(PHOTO, PUT, reference_images=[DOG], seed=2, background_lock=False),
        )
        assert all(not np.array_equal(pixels(other), one) for other in others)

    def test_a_path_an_array_and_a_pil_image_are_one_picture(self, pipe, tmp_path):
        Image.fromarray(DOG).save(tmp_path / "dog.png")
        results = [
            pixels(pipe(PHOTO, PUT, reference_images=reference, seed=1))
            for reference in (DOG, [Image.fromarray(DOG)], str(tmp_path / "dog.png"))
        ]
        assert all(np.array_equal(result, results[0]) for result in results)


class TestCreation:
    def test_draws_the_models_square(self, pipe):
        result = pipe(instruction=DRAW, reference_images=[DOG, CAT], seed=1)
        assert result.images[0].size == (32, 32)
        assert result.masks[0].all() and result.edit_maps[0].min() == 1 and result.evidence == []

    def test_text_alone_is_enough(self, pipe):
        assert pipe(instruction="a red ball", seed=1).images[0].size == (32, 32)

    def test_its_defaults_are_its_own(self, pipe):
        drawn = pipe(instruction=DRAW, reference_images=[DOG, CAT], seed=1)
        edited = pipe(PHOTO, EDIT, seed=1)
        assert (drawn.settings["guidance_scale"], edited.settings["guidance_scale"]) == (7.0, 5.0)
        assert drawn.settings["reference_images"] == [2]

    def test_the_order_of_references_counts(self, pipe):
        one = pipe(instruction=DRAW, reference_images=[DOG, CAT], seed=1)
        other = pipe(instruction=DRAW, reference_images=[CAT, DOG], seed=1)
        assert not np.array_equal(pixels(one), pixels(other))


class TestBatches:
    WORDS = (EDIT, PUT)
    REFERENCES = ([], [DOG])

    def test_alone_and_in_a_call_of_several_the_bytes_are_the_same(self, pipe):
        together = pipe([PHOTO, CAT], self.WORDS, reference_images=self.REFERENCES, seed=[3, 4])
        alone = [
            pipe(PHOTO, EDIT, seed=3), pipe(CAT, PUT, reference_images=[DOG], seed=4),
        ]  # fmt: skip
        for index in range(2):
            assert np.array_equal(pixels(together, index), pixels(alone[index]))
        again = pipe(instruction=[DRAW, "a ball"], reference_images=[[DOG, CAT], []], seed=5)
        assert np.array_equal(pixels(again, 1), pixels(pipe(instruction="a ball", seed=5)))

    def test_sharing_a_forward_pass_is_equal_up_to_rounding(self, pipe):
        options = {"reference_images": self.REFERENCES, "seed": 3, "output_type": "latent"}
        one = pipe([PHOTO, CAT], self.WORDS, batch_size=1, **options).images
        two = pipe([PHOTO, CAT], self.WORDS, batch_size=2, **options).images
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)

    def test_the_global_random_state_does_not_count(self, pipe):
        first = pixels(pipe(instruction="a ball", seed=5))
        torch.manual_seed(1234)
        assert np.array_equal(first, pixels(pipe(instruction="a ball", seed=5)))

    def test_output_types_hold_the_same_picture(self, pipe):
        pil, array, tensor = (
            pipe(instruction="a ball", seed=5, output_type=kind).images[0] for kind in ("pil", "np", "pt")
        )
        assert np.array_equal(np.rint(array * 255), np.asarray(pil))
        assert torch.equal(tensor, torch.from_numpy(array).permute(2, 0, 1))

    def test_callbacks_see_and_replace_latents(self, pipe):
        steps = []

        def zero(pipeline, step, timestep, tensors):
            steps.append(step)
            return {"latents": torch.zeros_like(tensors["latents"])}

        result = pipe(instruction="a ball", seed=5, output_type="latent", callback_on_step_end=zero, return_dict=False)
        assert steps == [0, 1] and result[0].abs().sum() == 0


class TestFolders:
    def test_saved_and_loaded_the_pixels_are_the_same(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path)
        loaded = load_pipeline(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert isinstance(loaded, InterleavedEditPipeline)
        assert type(loaded.scheduler).__name__ == "DPMSolverMultistepScheduler"
        assert (loaded.scheduler.config.algorithm_type, loaded.scheduler.config.solver_order) == ("dpmsolver++", 2)
        for arguments in ({"image": PHOTO, "instruction": EDIT}, {"instruction": PUT, "reference_images": [DOG]}):
            assert np.array_equal(pixels(pipe(**arguments, seed=7)), pixels(loaded(**arguments, seed=7)))

    def test_an_export_loads_and_edits(self, editor, config, tmp_path):
        folder = export_editor(editor, config, tmp_path / "model")
        assert "InterleavedEditPipeline.from_pretrained" in (folder / "README.md").read_text()
        assert "import InterleavedEditPipeline" in (folder / "pipeline.py").read_text()
        loaded = load_pipeline(folder)
        loaded.set_progress_bar_config(disable=True)
        assert loaded(PHOTO, PUT, reference_images=[DOG], seed=1).images[0].size == (70, 50)
        assert next(editor.parameters()).dtype == torch.float32, "the editor itself stays as it is"

    def test_the_pipeline_of_another_package_is_named(self, tmp_path):
        (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
        with pytest.raises(ValueError, match="of the class StableDiffusionPipeline, which this package does not run"):
            load_pipeline(tmp_path)
        assert set(PIPELINES) == {"InsightEditPipeline", "InterleavedEditPipeline", "ComposedEditPipeline"}

    def test_training_mode_is_left_as_it_was(self, editor, pipe):
        editor.comprehension.text_encoder.train()
        pipe(instruction="a ball", seed=5)
        assert editor.comprehension.text_encoder.training
        editor.eval()


class TestMistakes:
    def refuses(self, pipe, match: str, **arguments) -> None:
        with pytest.raises(ValueError, match=match):
            pipe(**{"image": PHOTO, "instruction": EDIT, **arguments})

    def test_placeholders_and_references(self, pipe):
        self.refuses(pipe, "has 0 <imagehere> and 1 reference images", reference_images=[DOG])
        self.refuses(pipe, "has 1 <imagehere> and 0 reference images", instruction=PUT)
        five = "<imagehere> " * 5
        self.refuses(pipe, "reads at most 4 in one", instruction=five, reference_images=[DOG] * 5)

    def test_lists_of_references(self, pipe):
        self.refuses(pipe, "holds 2 lists and there are 1 instructions", reference_images=[[DOG], [CAT]])
        assert pair_references([], 2) == [[], []]

    def test_a_mask_without_a_picture(self, pipe):
        mask = np.ones((32, 32), dtype=bool)
        self.refuses(pipe, "a blank canvas has nothing to keep", image=None, mask=mask)

    def test_no_instruction(self, pipe):
        self.refuses(pipe, "`instruction` is missing", image=None, instruction=None)
        self.refuses(pipe, "`instruction` is empty", image=None, instruction=" ")

    def test_numbers_are_checked_as_elsewhere(self, pipe):
        self.refuses(pipe, "`num_inference_steps` is 0", num_inference_steps=0)
        self.refuses(pipe, "`guidance_scale` is -1", guidance_scale=-1)
        self.refuses(pipe, "names \\['noise'\\]", callback_on_step_end_tensor_inputs=["noise"])

    def test_a_long_instruction(self, pipe):
        self.refuses(pipe, "tokens too long: this model reads 96", instruction="a very green fish " * 30)

    def test_a_resolution_that_does_not_fit(self, pipe):
        parts = dict(pipe.components)
        with pytest.raises(
            ValueError, match="`resolution` 36 does not fit autoencoder and transformer: take a multiple of 8"
        ):
            InterleavedEditPipeline(**parts, resolution=36)

    def test_the_other_pipeline_reads_no_references(self, tiny_pipeline):
        with pytest.raises(ValueError, match="reads no pictures inside an instruction"):
            tiny_pipeline(PHOTO, EDIT, reference_images=[DOG])
        with pytest.raises(ValueError, match="2 reference pictures were given, this model takes one"):
            tiny_pipeline.reference_options([DOG, CAT])
        assert tiny_pipeline.reference_options([]) == {}
