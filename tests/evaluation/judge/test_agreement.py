"""Kappa of a published table and of tables by hand."""

from __future__ import annotations

import pytest

from insightedit.evaluation.core.statistics import fleiss_kappa, ratings_kappa

# the worked example of the encyclopaedias: 10 subjects, 14 raters, 5 categories
EXAMPLE = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def test_kappa_of_the_worked_example() -> None:
    assert fleiss_kappa(EXAMPLE) == pytest.approx(0.210, abs=5e-4)


def test_kappa_by_hand_and_at_the_ends() -> None:
    assert fleiss_kappa([[3, 0], [0, 3]]) == pytest.approx(1.0)
    # shares 1/2 and 1/2; two of three pairs disagree in every item: (1/3 - 1/2) / (1 - 1/2)
    assert fleiss_kappa([[2, 1], [1, 2]]) == pytest.approx(-1 / 3)
    assert fleiss_kappa([[3, 0], [3, 0]]) is None
    assert ratings_kappa([(8, 8, 7), (7, 7, 8)]) == pytest.approx(-1 / 3)
    assert ratings_kappa([[8.0, 8.0], [2.0, 2.0]]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fleiss_kappa([]), "counts have the shape .0,.: give one row per item"),
        (lambda: fleiss_kappa([[1, 2], [1, 1]]), "items have 2 to 3 ratings: each needs the same number"),
        (lambda: fleiss_kappa([[1, 0], [0, 1]]), "items have 1 to 1 ratings: .* at least 2"),
    ],
)
def test_errors_teach(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
