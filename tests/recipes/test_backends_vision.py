"""Grounding DINO, SAM and SAM 2 of the real classes, against what transformers itself makes of their outputs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, GroundingDinoForObjectDetection, Sam2Model, SamModel

from data_recipes.backends.vision import GroundingDino, Sam, Sam2
from insightedit.detection import Detection
from insightedit.detection.grounding_dino import assign_phrases
from tests.recipes.tiny_vision import write_grounding_dino, write_sam, write_sam2

PHRASES = ["A red dog.", "the cat", "old table"]
BOXES = [(2.0, 3.0, 30.0, 20.0), (10.0, 5.0, 50.0, 33.0), (0.0, 0.0, 55.0, 40.0)]


def picture(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_grounding_dino(tmp_path_factory.mktemp("models") / "dino"))


def reference(folder: str, pixels: np.ndarray, text: str, box: float, words: float) -> list[dict[str, Any]]:
    """What transformers' own post-processing finds."""
    model = GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(images=Image.fromarray(pixels), text=text, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    return processor.post_process_grounded_object_detection(outputs, inputs.input_ids, box, words, [pixels.shape[:2]])[
        0
    ]


def middle_score(folder: str) -> float:
    """A threshold that half of the random model's boxes pass."""
    scores = reference(folder, picture(0), "a red dog. the cat. old table.", 0.0, 0.0)["scores"]
    assert len(scores) == 12 and scores.std() > 1e-3
    return float(scores.median())


def test_boxes_are_those_of_transformers_and_each_belongs_to_a_phrase(dino: str):
    threshold = middle_score(dino)
    model = GroundingDino(dino, box_threshold=threshold, text_threshold=0.0, device="cpu")
    (found,) = model.detect([picture(0)], [PHRASES], [{}])
    wanted = reference(dino, picture(0), "a red dog. the cat. old table.", threshold, 0.0)
    boxes = np.clip(wanted["boxes"].numpy(), 0, [56, 40, 56, 40])
    assert 0 < len(found) <= len(boxes)
    for one in found:
        assert np.abs(boxes - np.array(one.box)).max(axis=1).min() < 1e-3 and one.phrase in PHRASES
        assert 0 <= one.box[0] < one.box[2] <= 56 and 0 <= one.box[1] < one.box[3] <= 40
    assert all(a.score >= b.score for a, b in pairwise(found)), "best first"
    assert model.usage.calls == model.usage.asked == 1 and model.usage.input_tokens > 7


def test_the_score_is_that_of_the_phrase_and_not_of_full_stops(dino: str):
    """The network's full stops are its best tokens; yet each box has the score of a phrase's own words."""
    detector = GroundingDino(dino, device="cpu").detector
    seen = []

    def raise_full_stops(model: Any, inputs: Any, outputs: Any) -> None:
        outputs.logits[..., [4, 7, 10]] = 5.0  # [CLS] a red dog . the cat . old table . [SEP]
        seen.append(outputs.logits[0].sigmoid().numpy())

    detector.model.register_forward_hook(raise_full_stops)
    detector.detect([picture(0)], [PHRASES], box_threshold=0.9, text_threshold=0.0)
    (scores,) = seen
    (found,) = detector.detect([picture(0)], [PHRASES], box_threshold=0.9, text_threshold=0.0)
    words = {"A red dog.": [1, 2, 3], "the cat": [5, 6], "old table": [8, 9]}
    wanted = sorted((max((row[at].max(), name) for name, at in words.items()) for row in scores), reverse=True)
    assert [one.score for one in found] == pytest.approx([score for score, _ in wanted])
    assert [one.phrase for one in found] == [name for _, name in wanted]
    middle = float(np.median([one.score for one in found]))
    (fewer,) = detector.detect([picture(0)], [PHRASES], box_threshold=0.9, text_threshold=middle)
    assert fewer == [one for one in found if one.score > middle] != found


def test_a_box_has_the_phrase_that_it_agrees_with_best_and_ends_at_the_picture_s_edges():
    boxes = np.array([[0.5, 0.5, 0.5, 0.5], [0.9, 0.1, 0.4, 0.4], [1.5, 0.5, 0.2, 0.2]], dtype=np.float32)
    scores = np.array([[0.5, 0.6], [0.9, 0.1], [0.9, 0.1]], dtype=np.float32)
    first, second = assign_phrases(["a dog", "the cat"], scores, boxes, (40, 60))
    assert first == Detection("the cat", (15.0, 10.0, 45.0, 30.0), pytest.approx(0.6))
    assert second.phrase == "a dog" and second.box == pytest.approx((42.0, 0.0, 60.0, 12.0))


def test_a_batch_finds_what_single_pictures_do(dino: str):
    model = GroundingDino(dino, box_threshold=middle_score(dino), text_threshold=0.0, device="cpu", batch_size=2)
    pictures = [picture(0), picture(1), picture(2, 64, 40), picture(3), picture(4)]
    phrases = [PHRASES, ["a teapot"], PHRASES[:2], [], ["the cat", "the cat", "..."]]
    together = model.detect(pictures, phrases, [{}] * 5)
    for one, wanted, found in zip(pictures, phrases, together, strict=True):
        alone = model.detect([one], [wanted], [{}])[0]
        assert [a.phrase for a in alone] == [b.phrase for b in found]
        np.testing.assert_allclose([a.box for a in alone], [b.box for b in found], atol=1e-3)
    assert together[3] == [] and together[0]
    assert model.detect([], [], []) == []


def test_more_phrases_than_the_model_can_read_at_once_are_read_in_parts(dino: str):
    model = GroundingDino(dino, box_threshold=0.0, text_threshold=0.0, device="cpu")
    phrases = ["two wooden dog on the left", "a red cat", "the blue dog", "a teapot", "An old table"]
    texts = model.detector.join_phrases([*phrases, "a  Red cat."])  # the same words again are told once
    assert [text for _, text in texts] == [
        "two wooden dog on the left. a red cat.",
        "the blue dog. a teapot. an old table.",
    ]
    for spans, text in texts:
        assert [text[a:b] for _, a, b in spans] == [phrase.lower() for phrase, _, _ in spans]
    assert [phrase for spans, _ in texts for phrase, _, _ in spans] == phrases
    found = model.detect([picture(0)], [phrases], [{}])[0]
    parts = model.detect([picture(0)] * 2, [phrases[:2], phrases[2:]], [{}] * 2)
    assert sorted(map(str, found)) == sorted(map(str, parts[0] + parts[1]))


@pytest.mark.parametrize("value", [-0.1, 1.0])
@pytest.mark.parametrize("name", ["box_threshold", "text_threshold"])
def test_thresholds_out_of_range(name: str, value: float):
    with pytest.raises(ValueError, match=f"{name} is {value}: scores are from 0 to 1"):
        GroundingDino("m", **{name: value})


def test_published_thresholds_are_the_defaults():
    assert GroundingDino().settings == {"box_threshold": 0.4, "text_threshold": 0.3, "dtype": "auto"}
    with pytest.raises(ValueError, match="batch_size is 0"):
        GroundingDino(batch_size=0)


@pytest.fixture(scope="module", params=["sam", "sam2"])
def segmenter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    write, kind, stock = {"sam": (write_sam, Sam, SamModel), "sam2": (write_sam2, Sam2, Sam2Model)}[request.param]
    folder = write(tmp_path_factory.mktemp("models") / request.param)
    made = kind(str(folder), device="cpu", batch_size=3)
    made.stock = stock.from_pretrained(folder).eval()
    return made


def stock_masks(segmenter: Any, pixels: np.ndarray, box: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Three masks (3, H, W) and their predicted IoU, by transformers alone."""
    processor = segmenter.segmenter.processor
    inputs = processor(images=Image.fromarray(pixels), input_boxes=[[list(box)]], return_tensors="pt")
    with torch.no_grad():
        outputs = segmenter.stock(pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"])
    sizes = [inputs["reshaped_input_sizes"]] if "reshaped_input_sizes" in inputs else []
    masks = processor.post_process_masks(outputs.pred_masks.float(), inputs["original_sizes"], *sizes)
    return np.asarray(masks[0]).reshape(3, *pixels.shape[:2]), outputs.iou_scores[0, 0].numpy()


def test_of_three_masks_the_one_that_is_thought_best(segmenter: Any):
    (masks,) = segmenter.segment([picture(0)], [BOXES], [{}])
    chosen = set()
    for mask, box in zip(masks, BOXES, strict=True):
        assert mask.shape == (40, 56) and mask.dtype == bool
        three, scores = stock_masks(segmenter, picture(0), box)
        assert (mask == three[scores.argmax()]).mean() > 0.999
        chosen.add(int(scores.argmax()))
        assert len({one.tobytes() for one in three}) > 1, "or any would do"
    assert chosen and segmenter.usage.calls == segmenter.usage.asked == 1


def test_a_batch_cuts_out_what_single_boxes_do(segmenter: Any):
    pictures = [picture(0), picture(1, 64, 24), picture(2), picture(3), picture(4)]
    boxes = [BOXES, [(1.0, 2.0, 20.0, 60.0)], [], BOXES[1:], BOXES[:1]]
    together = segmenter.segment(pictures, boxes, [{}] * 5)
    assert [len(masks) for masks in together] == [3, 1, 0, 2, 1] and together[1][0].shape == (64, 24)
    for one, wanted, found in zip(pictures, boxes, together, strict=True):
        for box, mask in zip(wanted, found, strict=True):
            alone = segmenter.segment([one], [[box]], [{}])[0][0]
            assert (alone == mask).mean() > 0.999
    assert segmenter.segment([], [], []) == []


def test_segmenters_refuse_settings_out_of_range():
    for kind in (Sam, Sam2):
        with pytest.raises(ValueError, match="dtype is 'half': choose one of auto"):
            kind("m", dtype="half")
        with pytest.raises(ValueError, match="batch_size is 0: give a number above 0"):
            kind("m", batch_size=0)
        assert kind("org/sam", revision="main").name == "org/sam@main"


def test_names_of_folders_are_the_same_on_every_machine(tmp_path: Path):
    (tmp_path / "sam").mkdir()
    assert Sam(str(tmp_path / "sam")).name == "sam"


def test_models_run_in_half_precision_too(dino: str, segmenter: Any):
    found = GroundingDino(dino, box_threshold=0.0, text_threshold=0.0, device="cpu", dtype="bfloat16")
    assert len(found.detect([picture(0)], [PHRASES], [{}])[0]) == 12
    half = type(segmenter)(segmenter.model, device="cpu", dtype="bfloat16")
    ((mask,),) = half.segment([picture(0)], [BOXES[:1]], [{}])
    assert mask.shape == (40, 56) and half.segmenter.model.dtype == torch.bfloat16
