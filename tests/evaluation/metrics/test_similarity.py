"""The maths of the cosine metrics, by hand, with features that are known."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor

from insightedit.evaluation.metrics.encoders import ClipEncoder
from insightedit.evaluation.metrics.masks import paper_crop, strict_crop
from insightedit.evaluation.metrics.preprocess import clip_preprocess
from insightedit.evaluation.metrics.similarity import (
    clip_score,
    cosine,
    direction_similarity,
    image_similarity,
    mean_image_similarity,
    text_similarity,
    unit,
)
from tests.evaluation.metrics.toy_encoders import SIDE, ProjectionEncoder, photos, tiny_clip, tokenizer

CAPTIONS = ["a red fox", "a dog in the jungle", "no hat", "two cats", "a train station in city"]


@pytest.fixture
def encoder():
    return ProjectionEncoder()


def by_hand(first, second):
    """Cosines with numpy, row by row."""
    a, b = first.double().numpy(), second.double().numpy()
    return [float(x @ y / math.sqrt((x @ x) * (y @ y))) for x, y in zip(a, b, strict=True)]


def test_cosine_of_known_angles():
    first = torch.tensor([[3.0, 0.0], [1.0, 1.0], [2.0, 0.0], [1.0, 0.0]])
    second = torch.tensor([[0.0, 5.0], [7.0, 7.0], [-9.0, 0.0], [1.0, math.sqrt(3.0)]])
    result = cosine(first, second)
    assert result.dtype == torch.float64
    assert result.tolist() == pytest.approx([0.0, 1.0, -1.0, 0.5], abs=1e-7)
    assert cosine(first, first).max() <= 1.0


def test_clip_i_and_cvs_are_cosines_of_pictures(encoder):
    edited, target = photos(10)[:5], photos(10)[5:]
    wanted = by_hand(encoder.image_features(edited), encoder.image_features(target))
    pairs = list(zip(edited, target, strict=True))
    assert [image_similarity(encoder, *pair) for pair in pairs] == pytest.approx(wanted, abs=1e-7)
    cvs = [image_similarity(encoder, *pair, scale=100) for pair in pairs]
    assert cvs == pytest.approx([100 * w for w in wanted], abs=1e-5)
    assert np.std(wanted) > 0.05, "the pairs should differ"
    assert image_similarity(encoder, edited[0], edited[0]) == pytest.approx(1.0)


def test_clip_t_and_cts_are_cosines_with_the_caption(encoder):
    edited = photos(5)
    wanted = by_hand(encoder.image_features(edited), encoder.text_features(CAPTIONS))
    pairs = list(zip(edited, CAPTIONS, strict=True))
    assert [text_similarity(encoder, *pair) for pair in pairs] == pytest.approx(wanted, abs=1e-7)
    cts = [text_similarity(encoder, *pair, scale=100) for pair in pairs]
    assert cts == pytest.approx([100 * w for w in wanted], abs=1e-5)


def test_clip_score_cuts_each_picture_below_zero(encoder):
    edited = photos(5)
    wanted = by_hand(encoder.image_features(edited), encoder.text_features(CAPTIONS))
    assert min(wanted) < 0 < max(wanted), "both signs are needed"
    scores = [clip_score(encoder, *pair) for pair in zip(edited, CAPTIONS, strict=True)]
    assert scores == pytest.approx([100 * max(w, 0.0) for w in wanted], abs=1e-5)


def test_clip_score_sees_only_the_crop(encoder):
    """The paper's crop loses the last row and column, so a change there changes the strict score only."""
    picture, mask = photos(1, 64, 64)[0], np.zeros((64, 64), np.uint8)
    mask[10:31, 20:41] = 255
    outside, edge = picture.copy(), picture.copy()
    outside[mask == 0] = 0
    edge[30, 20:41] = 255 - edge[30, 20:41]

    def scores(picture):
        crops = (paper_crop(picture, mask, side=64), strict_crop(picture, mask, like=picture, side=64))
        return [text_similarity(encoder, crop, "a red fox") for crop in crops]

    paper, strict = scores(picture)
    assert scores(outside) == [paper, strict]
    assert scores(edge)[0] == paper
    assert abs(scores(edge)[1] - strict) > 1e-4


def torchmetrics_score(model, picture, text):
    """torchmetrics 1.9 expects the tensors that transformers 4 gave; with 5 it fails unless they are restored."""
    from torchmetrics.functional.multimodal import clip_score as reference

    class Version4(CLIPModel):
        def get_image_features(self, *args, **kwargs):
            return super().get_image_features(*args, **kwargs).pooler_output

        def get_text_features(self, *args, **kwargs):
            return super().get_text_features(*args, **kwargs).pooler_output

    old = Version4(model.config).eval()
    old.load_state_dict(model.state_dict())
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = CLIPProcessor(images, tokenizer())
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)
    with torch.no_grad():
        return float(reference(pixels, text, lambda: (old, processor)))


def test_clip_score_is_that_of_torchmetrics():
    """For the random network and its mirror image, so that there are scores above 0 and some that are cut to it."""
    mirrored = copy.deepcopy(tiny_clip())
    mirrored.visual_projection.weight.data.neg_()
    way = clip_preprocess("processor_torchvision", size=SIDE)
    pairs = list(zip(photos(2), CAPTIONS, strict=False))
    seen = []
    for model in (tiny_clip(), mirrored):
        ours = ClipEncoder(model, tokenizer(), name="tiny", preprocess=way)
        scores = [clip_score(ours, *pair) for pair in pairs]
        theirs = [torchmetrics_score(model, *pair) for pair in pairs]
        assert scores == pytest.approx(theirs, abs=1e-3)
        seen += scores
    assert min(seen) == 0.0
    assert max(seen) > 1.0


def rows(count=5):
    """Source, edited, both captions."""
    pictures = photos(2 * count)
    captions = [*CAPTIONS, *CAPTIONS]
    return [(pictures[i], pictures[count + i], captions[i], captions[i + 1]) for i in range(count)]


def published_direction(encoder, source, edited, source_caption, target_caption):
    """CLIP_dir as MIGE computes it: not a number where either difference is zero."""
    pictures = F.normalize(encoder.image_features([edited, source]).double(), dim=-1)
    texts = F.normalize(encoder.text_features([target_caption, source_caption]).double(), dim=-1)
    picture, text = pictures[0] - pictures[1], texts[0] - texts[1]
    return float((picture / picture.norm()) @ (text / text.norm()))


def test_direction_is_the_cosine_of_the_two_changes(encoder):
    wanted = [published_direction(encoder, *row) for row in rows()]
    assert [direction_similarity(encoder, *row) for row in rows()] == pytest.approx(wanted, abs=1e-7)
    assert np.std(wanted) > 0.05, "the rows should differ"


def test_equal_captions_are_dropped_and_no_ops_score_nothing(encoder):
    source, edited, *_ = rows()[0]
    same_words = (source, edited, "a dog", "a dog")
    same_to_clip = (source, edited, "a dog", "A DOG ")
    no_op = (source, source.copy(), "a dog", "a cat")
    neither = (source, source, "a dog", "a dog")
    for row, value in ((same_words, None), (same_to_clip, None), (no_op, 0.0), (neither, None)):
        assert math.isnan(published_direction(encoder, *row))
        assert direction_similarity(encoder, *row) == value
    encoder.batches.clear()
    assert direction_similarity(encoder, *same_words) is None
    assert encoder.batches == [], "rows that are dropped need no encoder"


def test_a_change_that_the_encoder_does_not_see_is_a_no_op():
    """Pixels that the centre crop cuts away."""
    encoder = ClipEncoder(tiny_clip(), tokenizer(), name="tiny", preprocess=clip_preprocess(size=SIDE))
    source = photos(1, 64, 256)[0]
    edited = source.copy()
    edited[:, :40] = 0
    assert direction_similarity(encoder, source, edited, "a dog", "a cat") == 0.0


def test_an_edit_may_have_another_size_than_its_source(encoder):
    value = direction_similarity(encoder, photos(1)[0], photos(2, 30, 30)[1], "a dog", "a cat")
    assert value is not None and -1 <= value <= 1


def test_dreambench_pairs_with_all_real_pictures(encoder):
    generated, *real = photos(4)
    table = by_hand(encoder.image_features([generated]).expand(3, -1), encoder.image_features(real))
    assert mean_image_similarity(encoder, generated, real) == pytest.approx(sum(table) / 3, abs=1e-7)
    assert np.std(table) > 1e-3, "the real pictures should differ"


def test_features_without_direction_are_refused():
    good = torch.ones(2, 3)
    for bad in (torch.tensor([0.0, 0, 0]), torch.tensor([1.0, math.nan, 0]), torch.tensor([math.inf, 1, 0])):
        with pytest.raises(ValueError, match="zero or not finite, which has no direction: run it in float32"):
            unit(torch.stack([good[0], bad]))
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(1, 3\): take both from one encoder"):
        cosine(good, good[:1])


def test_what_cannot_be_measured_is_refused(encoder):
    picture = photos(1)[0]
    for metric in (text_similarity, clip_score):
        with pytest.raises(ValueError, match="a caption is empty, .*: leave the row out"):
            metric(encoder, picture, " \n")
    with pytest.raises(ValueError, match="a caption is empty"):
        direction_similarity(encoder, picture, picture, "", "a dog")
    with pytest.raises(ValueError, match="the subject has no real picture to compare with: add one"):
        mean_image_similarity(encoder, picture, [])
