"""A tiny LLaVA loaded through the real path, and pictures to show it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from transformers import LlavaConfig, LlavaForConditionalGeneration

from insightedit.comprehension.llava import LlavaComprehension
from insightedit.config.schema import LoraConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NUM_EDIT_TOKENS = 4


@pytest.fixture(scope="session")
def llava_folder(tiny_root: Path) -> str:
    """Folder of the tiny LLaVA, without edit tokens."""
    return str(tiny_root / "llava")


@pytest.fixture(scope="session")
def tied_folder(llava_folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny LLaVA with one table for `embed_tokens` and `lm_head`."""
    folder = tmp_path_factory.mktemp("tied") / "llava"
    shutil.copytree(llava_folder, folder)
    model = LlavaForConditionalGeneration(LlavaConfig.from_pretrained(llava_folder, tie_word_embeddings=True))
    assert model.lm_head.weight is model.get_input_embeddings().weight
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def load(llava_folder: str) -> Callable[..., LlavaComprehension]:
    """Load the tiny LLaVA with four edit tokens; keywords override."""

    def _load(model: str = llava_folder, **options: object) -> LlavaComprehension:
        return LlavaComprehension.from_pretrained(
            str(model), **{"num_edit_tokens": NUM_EDIT_TOKENS, "lora": LoraConfig(), **options}
        )

    return _load


@pytest.fixture(scope="session")
def comprehension(load: Callable[..., LlavaComprehension]) -> LlavaComprehension:
    """With LoRA, as loaded; tests must not change it."""
    return load()


@pytest.fixture
def images() -> list[np.ndarray]:
    """Three pictures of different shapes, uint8 RGB."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((32, 32), (32, 48), (64, 40))]


@pytest.fixture
def instructions() -> list[str]:
    """Three instructions of different lengths."""
    return ["Remove the left dog.", "Add the red ball to the top left of the cat.", "Turn blue."]
