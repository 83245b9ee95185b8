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

from insightedit.evaluation.metrics.similarity import image_similarity
from insightedit.evaluation.metrics.subjects import (
    Detection,
    Detector,
    GroundingDinoDetector,
    SamSegmenter,
    Segmenter,
    SubjectPair,
    cut_subject,
    load_detector,
    load_segmenter,
    pixel_box,
    subject_preservation,
    summarise_subjects,
)
from tests.evaluation.metrics.toy_encoders import ProjectionEncoder, photos

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "red", "fox", "dog"]
TOWER = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}


class MarkDetector:
    """Finds the pure red pixels of a picture."""

    name, revision = "marks", "1"

    def __init__(self, grow: float = 0.0) -> None:
        self.grow = grow
        self.phrases: list[str] = []

    def detect(self, picture, phrase):
        self.phrases.append(phrase)
        rows, columns = np.nonzero((picture == (255, 0, 0)).all(axis=2))
        if not len(rows):
            return None
        left, top = columns.min() - self.grow, rows.min() - self.grow
        right, bottom = columns.max() + 1 + self.grow, rows.max() + 1 + self.grow
        return Detection((float(left), float(top), float(right), float(bottom)), 0.9)


class MarkSegmenter:
    """Of a box, the pure red pixels."""

    name, revision = "marks", "1"

    def segment(self, picture, box):
        return (picture == (255, 0, 0)).all(axis=2)


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
            detector = GroundingDinoDetector(*tiny_detector(), name="tiny", box_threshold=threshold)
            found = detector.detect(picture, phrase)
            assert found.score == pytest.approx(best, abs=1e-5)
            assert found.box == pytest.approx(boxes[scores.argmax()].tolist(), abs=1e-3)
    nothing = GroundingDinoDetector(*tiny_detector(), name="tiny", box_threshold=1.0)
    assert nothing.detect(picture, "red fox") is None


def test_the_phrase_matters_to_the_detector():
    picture = photos(1)[0]
    detector = GroundingDinoDetector(*tiny_detector(), name="tiny", box_threshold=0.0)
    assert detector.detect(picture, "dog").score != detector.detect(picture, "red fox").score
    for phrase in ("", " . "):
        with pytest.raises(ValueError, match="the phrase is empty: name the object to be found"):
            detector.detect(picture, phrase)
    with pytest.raises(ValueError, match="box_threshold is 1.5: it lies between 0 and 1, in MIGEBench 0.3"):
        GroundingDinoDetector(*tiny_detector(), name="tiny", box_threshold=1.5)


def test_one_mask_is_asked_for_with_the_box():
    """Against the network asked directly: box and picture scaled to 64 px, the first mask scaled back."""
    picture, box = photos(1, 40, 56)[0], (3.0, 4.0, 40.0, 33.0)
    model, processor = tiny_segmenter()
    mask = SamSegmenter(model, processor, name="tiny").segment(picture, box)
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
    found = GroundingDinoDetector(*tiny_detector(), name="tiny", box_threshold=0.0)
    detector = load_detector(tmp_path / "dino", box_threshold=0.0)
    assert isinstance(detector, Detector)
    assert detector.detect(picture, "fox").box == pytest.approx(found.detect(picture, "fox").box, abs=1e-3)
    assert (detector.name, detector.revision) == (str(tmp_path / "dino"), found.revision)
    assert load_detector(tmp_path / "dino").box_threshold == 0.3
    masks = SamSegmenter(*tiny_segmenter(), name="tiny")
    segmenter = load_segmenter(tmp_path / "sam")
    assert isinstance(segmenter, Segmenter)
    np.testing.assert_array_equal(segmenter.segment(picture, box), masks.segment(picture, box))
    assert (segmenter.name, segmenter.revision) == (str(tmp_path / "sam"), masks.revision)
    with pytest.raises(ValueError, match="holds a model of type 'grounding-dino', not 'sam'"):
        load_segmenter(tmp_path / "dino")
    shutil.copytree(tmp_path / "dino", tmp_path / "mute")
    (tmp_path / "mute" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="mute holds no tokenizer: download it again"):
        load_detector(tmp_path / "mute")


def test_absent_networks_are_told_with_the_way_to_get_them(tmp_path):
    for load, name in (
        (load_detector, "IDEA-Research/grounding-dino-base"),
        (load_segmenter, "facebook/sam-vit-huge"),
    ):
        with pytest.raises(FileNotFoundError, match=f"`hf download {name}` fetches it once"):
            load(cache_dir=tmp_path)


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
        def detect(self, picture, phrase):
            return Detection((5.0, 5.0, 5.2, 5.2), 0.9)

    picture = marked()
    blank = photos(1)[0]
    unseen = cut_subject(blank, "disc", detector=MarkDetector(), segmenter=MarkSegmenter())
    assert unseen.detection is None
    np.testing.assert_array_equal(unseen.picture, blank)
    too_small = cut_subject(picture, "disc", detector=Nowhere(), segmenter=MarkSegmenter())
    assert too_small.detection is None
    np.testing.assert_array_equal(too_small.picture, picture)


def test_preservation_compares_the_cut_and_counts_what_is_not_found():
    encoders = {"DINO": ProjectionEncoder(12), "CLIP_I": ProjectionEncoder(7)}
    detector, segmenter = MarkDetector(), MarkSegmenter()
    subject = cut_subject(marked(), "disc", detector=detector, segmenter=segmenter).picture
    blank = photos(2)[1]
    pairs = [
        SubjectPair(picture, phrase, subject)
        for picture, phrase in ((marked(), "disc"), (marked("ring"), "a ring"), (blank, "x"))
    ]
    detector.phrases.clear()
    scores = list(subject_preservation(encoders, iter(pairs), detector=detector, segmenter=segmenter, batch_size=2))
    assert detector.phrases == ["disc", "a ring", "x"], "each picture is searched once, for all encoders"
    assert [score.detection is not None for score in scores] == [True, True, False]
    for name, encoder in encoders.items():
        assert scores[0].values[name] == pytest.approx(1.0)
        assert scores[1].values[name] < 0.999
        (whole,) = image_similarity(encoder, [(blank, subject)])
        assert scores[2].values[name] == pytest.approx(whole)
    summary = summarise_subjects(scores)
    values = [score.values["DINO"] for score in scores]
    assert summary.means["DINO"] == pytest.approx(sum(values) / 3)
    assert summary.means_detected["DINO"] == pytest.approx(sum(values[:2]) / 2)
    assert (summary.detection_rate.successes, summary.detection_rate.n) == (2, 3)
    assert summarise_subjects(scores[2:]).means_detected == {"DINO": None, "CLIP_I": None}


def test_real_networks_go_through_the_whole_metric():
    """Random networks: what they find is arbitrary, but it is the same as step by step."""
    detector = GroundingDinoDetector(*tiny_detector(), name="tiny", box_threshold=0.0)
    segmenter = SamSegmenter(*tiny_segmenter(), name="tiny")
    picture, encoder = photos(1)[0], ProjectionEncoder()
    box = (4.0, 5.0, 44.0, 35.0)

    class Fixed:
        name, revision = "fixed", "1"

        def detect(self, picture, phrase):
            assert detector.detect(picture, phrase) is not None
            return Detection(box, 0.5)

    mask = segmenter.segment(picture, box)
    assert mask[5:35, 4:44].any()
    by_hand = np.where(mask[:, :, None], picture, 0).astype(np.uint8)[5:35, 4:44]
    (wanted,) = image_similarity(encoder, [(by_hand, photos(2)[1])])
    (score,) = subject_preservation(
        {"DINO": encoder}, [SubjectPair(picture, "fox", photos(2)[1])], detector=Fixed(), segmenter=segmenter
    )
    assert score.values["DINO"] == pytest.approx(wanted)


def test_what_cannot_be_compared_is_refused():
    class Grey(MarkSegmenter):
        def segment(self, picture, box):
            return super().segment(picture, box).astype(np.uint8)

    detector = MarkDetector()
    with pytest.raises(ValueError, match=r"marks gave a mask of uint8 \(60, 80\) for a picture of \(60, 80\)"):
        cut_subject(marked(), "disc", detector=detector, segmenter=Grey())
    with pytest.raises(ValueError, match=r"picture has shape \(60, 80\); pictures are"):
        cut_subject(marked()[:, :, 0], "disc", detector=detector, segmenter=Grey())
    with pytest.raises(ValueError, match="no encoder: give at least one"):
        list(subject_preservation({}, [], detector=detector, segmenter=Grey()))
    with pytest.raises(ValueError, match="at least one sample"):
        summarise_subjects([])
