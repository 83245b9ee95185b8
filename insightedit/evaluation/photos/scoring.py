"""One output for a request on a photograph: what it shows, what was told of it, and what that is worth.

Letters as in `insightedit.evaluation.scenes.metrics`: S the photograph, T the exact answer, O the output. A
whole-picture edit succeeds if O is nearest to the right operation, in any of its degrees, among all operations in all
degrees and S, and has gone at least half of the way from S to T. What should be left alone is right only if every value
equals S.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from insightedit.evaluation.core.run_folder import Said
from insightedit.evaluation.photos.requests import DECLINED, PhotoRequest
from insightedit.evaluation.scenes import metrics
from insightedit.images.reading import read_rgb
from insightedit.images.tones import TONES, apply_tone, operation_of
from insightedit.scenes.assets import Photo

COMPARED = 1 << 14  # pixels that candidates are compared on, at most, evenly spread
SAID = re.compile(r"make the whole picture (?P<phrase>.+)")  # what the models of this package say


def phrase_of(words: str) -> str | None:
    """The operation that an expressive instruction names, one of `TONES`; None if it names none."""
    found = SAID.fullmatch(words.strip().lower())
    return found["phrase"] if found and found["phrase"] in TONES else None


def native_psnr(output: np.ndarray, truth: np.ndarray) -> float:
    """PSNR in dB of two (H, W, 3) uint8 over all values, at most `metrics.PSNR_CAP`."""
    return metrics.decibel(metrics.squared_distance(output, truth) / truth.size)


def spread(picture: np.ndarray) -> np.ndarray:
    """(N, 3) uint8: at most `COMPARED` of the pixels of (H, W, 3), evenly spread; all of a small picture."""
    pixels = picture.reshape(-1, 3)
    count = min(COMPARED, len(pixels))
    return pixels[np.arange(count) * len(pixels) // count]


@lru_cache(maxsize=64)  # photographs come in turns, and all operations on one of 12 megapixels take a minute or two
def tone_candidates(photo: Photo) -> Mapping[str, np.ndarray]:
    """Every phrase of `TONES`, and "source" -> what it makes of a photograph, see `spread`."""
    source = read_rgb(photo.path)
    return {"source": spread(source)} | {phrase: spread(apply_tone(source, phrase)) for phrase in TONES}


def nearest_tone(output: np.ndarray, phrase: str, candidates: Mapping[str, np.ndarray]) -> str:
    """The candidate that an output (H, W, 3) uint8 is nearest to; a tie goes to what is not `phrase`.

    A candidate whose pixels equal those of `phrase` is a second name of the right answer, and is left out.
    """
    seen, right = spread(output), candidates[phrase]
    distances = {
        name: metrics.squared_distance(seen, pixels)
        for name, pixels in candidates.items()
        if name != phrase and not np.array_equal(pixels, right)
    }
    distances[phrase] = metrics.squared_distance(seen, right)  # the last, so that a tie goes to another
    return min(distances, key=lambda name: distances[name])


def score_request(
    request: PhotoRequest, source: np.ndarray, truth: np.ndarray, output: np.ndarray, said: Said
) -> dict[str, Any]:
    """All that can be told of one output, by the names of the protocol's columns; None where one has no meaning.

    Pictures are (H, W, 3) uint8 of one size.
    """
    untouched = bool(np.array_equal(output, source))
    found: dict[str, Any] = {
        "kind": request.kind,
        "instruction": request.instruction,
        "words": said.words,
        "confidence": said.confidence,
        "said_so": None if said == Said() else said.has_doubts,
        "untouched": untouched,
    }
    if request.kind in DECLINED:
        return {**found, "left_alone": untouched, "verdict": "left alone" if untouched else "changed"}
    found["wrongly_refused"] = untouched
    if request.phrase is None or request.photo is None:
        return {**found, "verdict": "refused" if untouched else "edited"}
    return {**found, **_tone_scores(request.phrase, request.photo, source, truth, output, said)}


def _tone_scores(
    phrase: str, photo: Photo, source: np.ndarray, truth: np.ndarray, output: np.ndarray, said: Said
) -> dict[str, Any]:
    nearest = nearest_tone(output, phrase, tone_candidates(photo))
    is_right = nearest != "source" and operation_of(nearest) == operation_of(phrase)
    progress = metrics.relative_progress(source, truth, output, metrics.changed_mask(source, truth))
    success = is_right and progress >= metrics.MIN_PROGRESS
    meant = None if said.words is None else phrase_of(said.words)
    everywhere, psnr = np.ones(truth.shape[:2], dtype=bool), native_psnr(output, truth)
    wanted, drawn = (metrics.gradient_energy(picture, everywhere) for picture in (truth, output))
    wrong = "no edit" if nearest == "source" else "partial edit" if is_right else "wrong operation"
    return {
        "phrase": phrase,
        "nearest": nearest,
        "understood": None
        if said.words is None
        else meant is not None and operation_of(meant) == operation_of(phrase),
        "right_degree": None if said.words is None else meant == phrase,
        "success": success,
        "psnr": psnr,
        "capped": psnr >= metrics.PSNR_CAP,
        "progress": progress,
        "detail": min(1.0, drawn / wanted) if wanted else None,
        "verdict": "success" if success else wrong,
    }
