"""Finding, cutting and comparing subjects: the rule by hand, the two networks at tiny size."""

from __future__ import annotations

import functools
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import (
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
)

from insightedit.detection import Detection
from insightedit.detection.grounding_dino import GroundingDinoDetector
from insightedit.detection.sam import SamSegmenter
from insightedit.evaluation.metrics.subjects import cut_subject, load_detector, load_segmenter, pixel_box
from tests.evaluation.metrics.toy_encoders import photos

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "red", "fox", "dog"]
TOWER = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}


class MarkDetector:
    """Finds the pure red pixels of a picture."""

    name, revision = "marks", "1"

    def __init__(self, grow: float = 0.0) -> None:
        self.grow = grow

    def best_box(self, picture, phrase, *, threshold):
        rows, columns = np.nonzero((picture == (255, 0, 0)).all(axis=2))
        if not len(rows):
            return None
        left, top = columns.min() - self.grow, rows.min() - self.grow
        right, bottom = columns.max() + 1 + self.grow, rows.max() + 1 + self.grow
        return Detection(phrase, (float(left), float(top), float(right), float(bottom)), 0.9)


class MarkSegmenter:
    """Of a box, the pure red pixels."""

    name, revision = "marks", "1"

    def segment(self, pictures, boxes, *, best_of_three):
        assert not best_of_three
        return [[(picture == (255, 0, 0)).all(axis=2)] for picture in pictures]


def marked(shape: str = "disc") -> np.ndarray:
    """A picture with a red disc, or a ring, of 20 px."""
    picture = photos(1, 60, 80)[0].copy()
    rows, columns = np.mgrid[:60, :80]
    distance = np.hypot(rows - 30, columns - 40)
    picture[(distance <= 10) & ((distance > 5) | (shape == "disc"))] = (255, 0, 0)
    return picture


@functools.cache
def tiny_detector() -> tuple[GroundingDinoForObjectDetection, GroundingDinoProcessor]:
    torch.manual_seed(0)
    layers = {f"{part}_layers": 2 for part in ("encoder", "decoder")}
    layers |= {f"{part}_ffn_dim": 32 for part in ("encoder", "decoder")}
    layers |= {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    layers |= {f"{part}_n_points": 2 for part in ("encoder", "decoder")}
    config = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin",
            "image_size": 64,
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [2, 2, 2, 2],
            "window_size": 4,
            "out_indices": [2, 3, 4],
        },
        text_config={
            **TOWER,
            "model_type": "bert",
            "vocab_size": len(WORDS),
            "intermediate_size": 32,
            "max_position_embeddings": 64,
        },
        num_queries=12,
        d_model=32,
        disable_custom_kernels=True,
        max_text_len=64,
        **layers,
    )
    words = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}, model_max_length=64)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 48, "longest_edge": 96})
    return GroundingDinoForObjectDetection(config).eval(), GroundingDinoProcessor(images, words)


@functools.cache
def tiny_segmenter() -> tuple[SamModel, SamProcessor]:
    torch.manual_seed(0)
    sides = {"image_size": 64, "patch_size": 8}
    config = SamConfig(
        vision_config={
            **sides,
            **TOWER,
            "output_channels": 16,
            "window_size": 4,
            "global_attn_indexes": [0],
            "num_pos_feats": 8,
        },
        prompt_encoder_config={**sides, "hidden_size": 16, "mask_input_channels": 4},
        mask_decoder_config={**TOWER, "mlp_dim": 32, "iou_head_hidden_dim": 16},
    )
    images = SamImageProcessor(
        size={"longest_edge": 64},
        pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 16},
        mask_pad_size={"height": 16, "width": 16},
    )
    return SamModel(config).eval(), SamProcessor(images)


def raw_boxes(picture, text):
    """Scores (Q,) and boxes (Q, 4) in pixels, from the network's own output."""
    model, processor = tiny_detector()
    with torch.no_grad():
        output = model(**processor(images=Image.fromarray(picture), text=text, return_tensors="pt"))
    scores = output.logits[0].sigmoid().max(dim=-1).values
    x, y, width, height = output.pred_boxes[0].unbind(-1)
    corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)
    return scores, corners * torch.tensor([*picture.shape[1::-1]] * 2)


def test_the_best_box_above_the_threshold_is_taken():
    picture = photos(1)[0]
    scores, boxes = raw_boxes(picture, "red fox.")
    best, second = scores.topk(2).values.tolist()
    assert best > second
    for phrase in ("red fox", " Red Fox. "):
        for threshold in (0.0, (best + second) / 2):
            found = GroundingDinoDetector(*tiny_detector()).best_box(picture, phrase, threshold=threshold)
            assert found.score == pytest.approx(best, abs=1e-5)
            assert found.box == pytest.approx(boxes[scores.argmax()].tolist(), abs=1e-3)
    assert GroundingDinoDetector(*tiny_detector()).best_box(picture, "red fox", threshold=1.0) is None


def test_the_phrase_matters_to_the_detector():
    picture = photos(1)[0]
    detector = GroundingDinoDetector(*tiny_detector())
    dog, fox = (detector.best_box(picture, phrase, threshold=0.0) for phrase in ("dog", "red fox"))
    assert dog.score != fox.score and (dog.phrase, fox.phrase) == ("dog", "red fox")
    for phrase in ("", " . "):
        with pytest.raises(ValueError, match="the phrase is empty: name the object to be found"):
            detector.best_box(picture, phrase, threshold=0.0)


def test_one_mask_is_asked_for_with_the_box():
    """Against the network asked directly: box and picture scaled to 64 px, the first mask scaled back."""
    picture, box = photos(1, 40, 56)[0], (3.0, 4.0, 40.0, 33.0)
    model, processor = tiny_segmenter()
    ((mask,),) = SamSegmenter(model, processor).segment([picture], [[box]], best_of_three=False)
    assert (mask.shape, mask.dtype) == ((40, 56), np.bool_)
    pixels = processor(images=Image.fromarray(picture), return_tensors="pt")
    height, width = pixels.reshaped_input_sizes[0].tolist()
    scaled = torch.tensor(box) * torch.tensor([width / 56, height / 40] * 2)
    with torch.no_grad():
        low = model(
            pixel_values=pixels.pixel_values, input_boxes=scaled[None, None], multimask_output=False
        ).pred_masks[0]
    large = F.interpolate(low, (64, 64), mode="bilinear")[..., :height, :width]
    wanted = F.interpolate(large, (40, 56), mode="bilinear")[0, 0] > 0
    assert 0 < wanted.float().mean() < 1
    np.testing.assert_array_equal(mask, wanted.numpy())


def test_detector_and_segmenter_come_from_the_disk(tmp_path):
    picture, box = photos(1)[0], (3.0, 4.0, 30.0, 33.0)
    for name, parts in (("dino", tiny_detector()), ("sam", tiny_segmenter())):
        for part in parts:
            part.save_pretrained(tmp_path / name)
    found = GroundingDinoDetector(*tiny_detector())
    detector = load_detector(tmp_path / "dino")
    first, second = (one.best_box(picture, "fox", threshold=0.0) for one in (detector, found))
    assert first.box == pytest.approx(second.box, abs=1e-3)
    assert (detector.name, detector.revision) == (str(tmp_path / "dino"), found.revision)
    masks = SamSegmenter(*tiny_segmenter())
    segmenter = load_segmenter(tmp_path / "sam")
    np.testing.assert_array_equal(
        *(one.segment([picture], [[box]], best_of_three=False) for one in (segmenter, masks))
    )
    assert (segmenter.name, segmenter.revision) == (str(tmp_path / "sam"), masks.revision)
    with pytest.raises(ValueError, match="holds a model of type 'grounding-dino', not 'sam'"):
        load_segmenter(tmp_path / "dino")
    shutil.copytree(tmp_path / "dino", tmp_path / "mute")
    (tmp_path / "mute" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="mute holds no tokenizer: download it again"):
        load_detector(tmp_path / "mute")


def test_absent_networks_are_told_with_the_way_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for load, name in (
        (load_detector, "IDEA-Research/grounding-dino-base"),
        (load_segmenter, "facebook/sam-vit-huge"),
    ):
        with pytest.raises(FileNotFoundError, match=f"`hf download {name}` fetches it once"):
            load()


def test_the_cut_is_the_box_and_black_outside_of_the_mask():
    picture = marked("ring")
    cut = cut_subject(picture, "ring", detector=MarkDetector(grow=2.4), segmenter=MarkSegmenter())
    wanted = picture[18:43, 28:53].copy()
    wanted[(wanted != (255, 0, 0)).any(axis=2)] = 0
    np.testing.assert_array_equal(cut.picture, wanted)
    assert not wanted[12, 12].any(), "the hole of the ring is black"
    assert cut.detection.box == pytest.approx((27.6, 17.6, 53.4, 43.4))


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((1.4, 2.6, 10.5, 11.5), (1, 3, 10, 12)),  # Python and Pillow round half to even
        ((-3.0, -0.2, 90.0, 61.0), (0, 0, 80, 60)),
        ((5.0, 5.0, 5.4, 20.0), None),
        ((80.0, 10.0, 95.0, 20.0), None),
    ],
)
def test_a_box_is_rounded_and_kept_inside(box, wanted):
    assert pixel_box(box, (60, 80, 3)) == wanted


def test_boxes_are_rounded_as_pillow_does():
    picture = marked()
    for box in ((1.4, 2.6, 10.5, 11.5), (0.5, 1.5, 20.5, 30.51)):
        left, top, right, bottom = pixel_box(box, picture.shape)
        theirs = np.asarray(Image.fromarray(picture).crop(box))
        np.testing.assert_array_equal(picture[top:bottom, left:right], theirs)


def test_the_whole_picture_stands_in_for_what_is_not_found():
    class Nowhere(MarkDetector):
        def best_box(self, picture, phrase, *, threshold):
            return Detection(phrase, (5.0, 5.0, 5.2, 5.2), 0.9)

    picture = marked()
    blank = photos(1)[0]
    unseen = cut_subject(blank, "disc", detector=MarkDetector(), segmenter=MarkSegmenter())
    assert unseen.detection is None
    np.testing.assert_array_equal(unseen.picture, blank)
    too_small = cut_subject(picture, "disc", detector=Nowhere(), segmenter=MarkSegmenter())
    assert too_small.detection is None
    np.testing.assert_array_equal(too_small.picture, picture)


def test_the_published_threshold_is_asked_for():
    asked = []

    class Asked(MarkDetector):
        def best_box(self, picture, phrase, *, threshold):
            asked.append((phrase, threshold))

    cut_subject(marked(), "a ring", detector=Asked(), segmenter=MarkSegmenter())
    assert asked == [("a ring", 0.3)]


def test_real_networks_go_through_the_whole_cut(monkeypatch):
    """Random networks: what they find is arbitrary, but it is the same as step by step."""
    monkeypatch.setattr("insightedit.evaluation.metrics.subjects.BOX_THRESHOLD", 0.0)
    detector, segmenter = GroundingDinoDetector(*tiny_detector()), SamSegmenter(*tiny_segmenter())
    picture = photos(1)[0]
    found = detector.best_box(picture, "fox", threshold=0.0)
    left, top, right, bottom = pixel_box(found.box, picture.shape)
    ((mask,),) = segmenter.segment([picture], [[found.box]], best_of_three=False)
    by_hand = np.where(mask[:, :, None], picture, 0).astype(np.uint8)[top:bottom, left:right]
    cut = cut_subject(picture, "fox", detector=detector, segmenter=segmenter)
    assert cut.detection == found and cut.picture.shape == by_hand.shape
    np.testing.assert_array_equal(cut.picture, by_hand)


def test_what_cannot_be_compared_is_refused():
    class Grey(MarkSegmenter):
        def segment(self, *given, **more):
            return [[mask.astype(np.uint8) for mask in masks] for masks in super().segment(*given, **more)]

    detector = MarkDetector()
    with pytest.raises(ValueError, match=r"marks gave a mask of uint8 \(60, 80\) for a picture of \(60, 80\)"):
        cut_subject(marked(), "disc", detector=detector, segmenter=Grey())
    with pytest.raises(ValueError, match=r"picture has shape \(60, 80\); pictures are"):
        cut_subject(marked()[:, :, 0], "disc", detector=detector, segmenter=Grey())
