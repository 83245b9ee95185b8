"""A pipeline of any comprehension and denoiser: what it refuses. `tests/test_seams.py` edits with it."""

from __future__ import annotations

import pytest

from insightedit import EditBridge
from insightedit.comprehension.blip2_t5 import Blip2T5Comprehension
from insightedit.pipelines.edit import ComposedEditPipeline


def parts(pipeline, **more):
    assert isinstance(pipeline.bridge, EditBridge)
    names = ("mllm", "processor", "bridge", "vae", "scheduler")
    return {name: getattr(pipeline, name) for name in names} | more


@pytest.mark.parametrize("count", [0, 2])
def test_one_denoiser_draws(tiny_pipeline, count):
    denoisers = dict.fromkeys(("unet", "transformer")[:count], tiny_pipeline.unet)
    with pytest.raises(ValueError, match=f"{count} denoisers were given: `unet` or `transformer`, one of them, draws"):
        ComposedEditPipeline(**parts(tiny_pipeline, **denoisers))


def test_nothing_is_imported_because_a_folder_says_so(tiny_pipeline):
    settings = {"kind": "somebody.elses:Reader"}
    with pytest.raises(ValueError, match="reads with somebody.elses:Reader, .* write `import somebody.elses` first"):
        ComposedEditPipeline(**parts(tiny_pipeline, unet=tiny_pipeline.unet, comprehension_settings=settings))


def test_a_reader_that_cannot_be_made_of_parts_says_so():
    with pytest.raises(NotImplementedError, match="Blip2T5Comprehension says not how it is made of a saved model's"):
        Blip2T5Comprehension.from_parts({}, {})


def test_a_setting_that_there_is_not_is_refused(tiny_pipeline):
    with pytest.raises(
        TypeError, match="`resolutoin` is no setting of ComposedEditPipeline: comprehension_settings, "
    ):
        ComposedEditPipeline(**parts(tiny_pipeline, unet=tiny_pipeline.unet), resolutoin=64)
