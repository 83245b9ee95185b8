"""A further metric, whole in one file: how bright the edited picture is."""

from __future__ import annotations

from typing import Any


class Brightness:
    name, better, needs = "brightness", "higher", ()

    def __call__(self, prediction: Any) -> float:
        return float(prediction.edited.mean()) / 255
