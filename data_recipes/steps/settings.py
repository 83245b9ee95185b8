"""What steps check of their settings: the message names the setting as the config does, and says what holds."""

from __future__ import annotations

from collections.abc import Sequence


def check_share(step: str, setting: str, value: float, most: float = 1, of: str = "") -> None:
    """Refuse what is no share, or too large a one.

    Args:
        step: name of the step.
        setting: its field.
        value: of it.
        most: largest share.
        of: what it is a share of, where the message shall say so.

    Raises:
        ValueError: naming the setting.
    """
    if not 0 <= value <= most:
        share = f"a share of {of}" if of else "a share"
        raise ValueError(f"steps.{step}.{setting} is {value}: it is {share}, from 0 to {most:g}.")


def check_areas(step: str, min_area: float, max_area: float) -> None:
    """Refuse bounds that no mask's area lies between.

    Raises:
        ValueError: naming both.
    """
    if min_area > max_area:
        raise ValueError(
            f"steps.{step}.min_area is {min_area} and max_area {max_area}: no mask is both; make min_area the smaller "
            "one."
        )


def check_at_least(step: str, setting: str, value: int, least: int = 1) -> None:
    """Refuse a number that is too small.

    Raises:
        ValueError: naming the setting.
    """
    if value < least:
        raise ValueError(f"steps.{step}.{setting} is {value}: it has to be at least {least}.")


def check_chosen(step: str, setting: str, chosen: Sequence[str], choices: Sequence[str]) -> None:
    """Refuse a list that holds something other than the choices.

    Raises:
        ValueError: naming the first such thing, and the choices.
    """
    for one in chosen:
        if one not in choices:
            raise ValueError(f"steps.{step}.{setting} has {one!r}: choose of {', '.join(choices)}.")


__all__ = ["check_areas", "check_at_least", "check_chosen", "check_share"]
