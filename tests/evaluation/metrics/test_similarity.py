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
    Direction,
    DirectionRow,
    GeneratedSubject,
    batches,
    clip_score,
    cosine,
    direction_similarity,
    dreambench_similarity,
    image_similarity,
    summarise_directions,
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
    assert list(image_similarity(encoder, pairs)) == pytest.approx(wanted, abs=1e-7)
    assert list(image_similarity(encoder, pairs, scale=100)) == pytest.approx([100 * w for w in wanted], abs=1e-5)
    assert np.std(wanted) > 0.05, "the pairs should differ"
    assert list(image_similarity(encoder, [(edited[0], edited[0])])) == pytest.approx([1.0])


def test_clip_t_and_cts_are_cosines_with_the_caption(encoder):
    edited = photos(5)
    wanted = by_hand(encoder.image_features(edited), encoder.text_features(CAPTIONS))
    pairs = list(zip(edited, CAPTIONS, strict=True))
    assert list(text_similarity(encoder, pairs)) == pytest.approx(wanted, abs=1e-7)
    assert list(text_similarity(encoder, pairs, scale=100)) == pytest.approx([100 * w for w in wanted], abs=1e-5)


def test_clip_score_cuts_each_picture_below_zero(encoder):
    edited = photos(5)
    wanted = by_hand(encoder.image_features(edited), encoder.text_features(CAPTIONS))
    assert min(wanted) < 0 < max(wanted), "both signs are needed"
    scores = list(clip_score(encoder, zip(edited, CAPTIONS, strict=True)))
    assert scores == pytest.approx([100 * max(w, 0.0) for w in wanted], abs=1e-5)


def test_clip_score_sees_only_the_crop(encoder):
    """The paper's crop loses the last row and column, so a change there changes the strict score only."""
    picture, mask = photos(1, 64, 64)[0], np.zeros((64, 64), np.uint8)
    mask[10:31, 20:41] = 255
    outside, edge = picture.copy(), picture.copy()
    outside[mask == 0] = 0
    edge[30, 20:41] = 255 - edge[30, 20:41]

    def scores(picture):
        crops = (paper_crop(picture, mask, side=64), strict_crop(picture, mask, size=(64, 64), resize="none"))
        return list(text_similarity(encoder, [(crop, "a red fox") for crop in crops]))

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
        scores = list(clip_score(ours, pairs))
        theirs = [torchmetrics_score(model, *pair) for pair in pairs]
        assert scores == pytest.approx(theirs, abs=1e-3)
        seen += scores
    assert min(seen) == 0.0
    assert max(seen) > 1.0


def rows(count=5):
    pictures = photos(2 * count)
    captions = [*CAPTIONS, *CAPTIONS]
    return [DirectionRow(pictures[i], pictures[count + i], captions[i], captions[i + 1]) for i in range(count)]


def published_direction(encoder, row):
    """CLIP_dir as MIGE computes it: not a number where either difference is zero."""
    pictures = F.normalize(encoder.image_features([row.edited, row.source]).double(), dim=-1)
    texts = F.normalize(encoder.text_features([row.target_caption, row.source_caption]).double(), dim=-1)
    picture, text = pictures[0] - pictures[1], texts[0] - texts[1]
    return float((picture / picture.norm()) @ (text / text.norm()))


def test_direction_is_the_cosine_of_the_two_changes(encoder):
    wanted = [published_direction(encoder, row) for row in rows()]
    results = list(direction_similarity(encoder, rows(), batch_size=2))
    assert [result.value for result in results] == pytest.approx(wanted, abs=1e-7)
    assert {result.status for result in results} == {"scored"}
    assert np.std(wanted) > 0.05, "the rows should differ"
    summary = summarise_directions(results)
    assert summary.mean == pytest.approx(sum(wanted) / 5)
    assert (summary.n, summary.no_ops, summary.dropped) == (5, 0, 0)


def test_equal_captions_are_dropped_and_no_ops_score_nothing(encoder):
    first, second, third, fourth, fifth = rows()
    same_words = DirectionRow(second.source, second.edited, "a dog", "a dog")
    same_to_clip = DirectionRow(third.source, third.edited, "a dog", "A DOG ")
    no_op = DirectionRow(fourth.source, fourth.source.copy(), "a dog", "a cat")
    neither = DirectionRow(fifth.source, fifth.source, "a dog", "a dog")
    for row in (same_words, same_to_clip, no_op, neither):
        assert math.isnan(published_direction(encoder, row))
    results = list(direction_similarity(encoder, [same_words, first, same_to_clip, no_op, neither]))
    assert results[0] == results[2] == results[4] == Direction(None, "equal_captions")
    assert results[3] == Direction(0.0, "no_op")
    value = published_direction(encoder, first)
    assert results[1].value == pytest.approx(value)
    summary = summarise_directions(results)
    assert summary.mean == pytest.approx(value / 2)
    assert (summary.n, summary.no_ops, summary.dropped) == (2, 1, 3)


def test_a_change_that_the_encoder_does_not_see_is_a_no_op():
    """Pixels that the centre crop cuts away."""
    encoder = ClipEncoder(tiny_clip(), tokenizer(), name="tiny", preprocess=clip_preprocess(size=SIDE))
    source = photos(1, 64, 256)[0]
    edited = source.copy()
    edited[:, :40] = 0
    (result,) = direction_similarity(encoder, [DirectionRow(source, edited, "a dog", "a cat")])
    assert result == Direction(0.0, "no_op")


def test_nothing_but_equal_captions_has_no_mean(encoder):
    row = rows()[0]
    equal = DirectionRow(row.source, row.edited, "a dog", "a dog")
    results = list(direction_similarity(encoder, [equal, equal]))
    assert encoder.batches == [], "rows that are dropped need no encoder"
    summary = summarise_directions(results)
    assert (summary.mean, summary.n, summary.dropped) == (None, 0, 2)


def test_an_edit_may_have_another_size_than_its_source(encoder):
    row = DirectionRow(photos(1)[0], photos(2, 30, 30)[1], "a dog", "a cat")
    (result,) = direction_similarity(encoder, [row])
    assert result.status == "scored"


def test_dreambench_pairs_with_all_real_pictures_or_with_the_input(encoder):
    pictures = photos(9)
    real = {"dog": pictures[:3], "vase": pictures[3:5]}
    generated = [
        GeneratedSubject(pictures[5], "dog", 2),
        GeneratedSubject(pictures[6], "vase"),
        GeneratedSubject(pictures[7], "dog"),
    ]
    features = {subject: encoder.image_features(pictures) for subject, pictures in real.items()}
    table = [
        by_hand(encoder.image_features([row.picture]).expand_as(features[row.subject]), features[row.subject])
        for row in generated
    ]
    averaged = list(dreambench_similarity(encoder, generated, real, pairing="all", batch_size=2))
    assert averaged == pytest.approx([sum(row) / len(row) for row in table], abs=1e-7)
    single = list(dreambench_similarity(encoder, generated, real, pairing="input"))
    assert single == pytest.approx([table[0][2], table[1][0], table[2][0]], abs=1e-7)
    assert abs(averaged[0] - single[0]) > 1e-3


def test_a_subjects_real_pictures_are_read_once(encoder):
    class Folder(dict):
        asked: list[str] = []  # noqa: RUF012

        def get(self, key, default=None):
            self.asked.append(key)
            return super().get(key, default)

    pictures = photos(4)
    real = Folder(dog=pictures[:2])
    generated = [GeneratedSubject(picture, "dog") for picture in pictures]
    list(dreambench_similarity(encoder, generated, real, pairing="all", batch_size=1))
    assert real.asked == ["dog"]


@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_the_batch_size_does_not_matter(encoder, size):
    pictures = photos(10)
    pairs = list(zip(pictures[:5], pictures[5:], strict=True))
    texts = list(zip(pictures[:5], CAPTIONS, strict=True))
    real = {"dog": pictures[5:]}
    generated = [GeneratedSubject(picture, "dog", 1) for picture in pictures[:5]]
    clip = ClipEncoder(tiny_clip(), tokenizer(), name="tiny", preprocess=clip_preprocess(size=SIDE))
    for one, atol in ((encoder, 1e-7), (clip, 1e-5)):
        for metric in (
            lambda n, one=one: image_similarity(one, pairs, batch_size=n),
            lambda n, one=one: text_similarity(one, texts, batch_size=n),
            lambda n, one=one: clip_score(one, texts, batch_size=n),
            lambda n, one=one: (r.value for r in direction_similarity(one, rows(), batch_size=n)),
            lambda n, one=one: dreambench_similarity(one, generated, real, pairing="all", batch_size=n),
        ):
            assert list(metric(size)) == pytest.approx(list(metric(5)), abs=100 * atol)


def test_pictures_are_read_as_they_are_needed(encoder):
    read = []

    def files():
        for number, picture in enumerate(photos(7)):
            read.append(number)
            yield picture, picture

    results = image_similarity(encoder, files(), batch_size=3)
    assert read == []
    next(results)
    assert read == [0, 1, 2]
    assert len(list(results)) == 6
    assert encoder.batches == [3, 3, 3, 3, 1, 1], "two calls a batch, the last one shorter"


def test_no_pairs_give_no_results(encoder):
    assert list(image_similarity(encoder, [])) == []
    assert list(direction_similarity(encoder, [])) == []


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
            list(metric(encoder, [(picture, " \n")]))
    with pytest.raises(ValueError, match="a caption is empty"):
        list(direction_similarity(encoder, [DirectionRow(picture, picture, "", "a dog")]))
    with pytest.raises(ValueError, match="batch_size is 0: it is at least 1"):
        list(batches([picture], 0))
    one = [GeneratedSubject(picture, "dog", 2)]
    with pytest.raises(ValueError, match="pairing is 'first': it is one of all, input"):
        list(dreambench_similarity(encoder, one, {"dog": [picture]}, pairing="first"))
    for real in ({}, {"dog": []}):
        with pytest.raises(ValueError, match="the subject 'dog' has no real picture to compare with"):
            list(dreambench_similarity(encoder, one, real, pairing="all"))
    with pytest.raises(ValueError, match="input_index is 2, and 'dog' has 1 real pictures, counted from 0"):
        list(dreambench_similarity(encoder, one, {"dog": [picture]}, pairing="input"))
