"""A judge on this machine: an image-text-to-text model of transformers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from insightedit.chat.clients import now
from insightedit.chat.replies import Reply
from insightedit.modeling.pretrained import load_pretrained


class LocalJudge:
    """An image-text-to-text model of transformers on this machine; greedy, so the same question has one reply.

    Args:
        model: hub id, folder, or miniature:SIZE/llava; its processor needs a chat template.
        name: what replies are kept under; by default the hub id, or the folder's name.
        device: where it runs.
        dtype: of its weights, e.g. "bfloat16"; "auto" as they are stored.
        max_new_tokens: longest reply.

    Raises:
        ValueError: if the processor has no chat template.
    """

    def __init__(
        self,
        model: str,
        *,
        name: str | None = None,
        device: str = "cpu",
        dtype: str = "auto",
        max_new_tokens: int = 1024,
    ) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from insightedit.miniatures import resolve_model_id

        where = resolve_model_id(model)
        self.name = name or (Path(model).name if Path(model).is_dir() else model)
        self.processor: Any = load_pretrained(AutoProcessor, where)
        if not getattr(self.processor, "chat_template", None):
            raise ValueError(
                f"{self.name} has no chat template: take a model that follows instructions, its processor knows how "
                "to put a question."
            )
        loaded: Any = load_pretrained(AutoModelForImageTextToText, where, dtype=dtype)
        self.model = loaded.requires_grad_(False).eval().to(device)
        self.max_new_tokens, self._lock = max_new_tokens, threading.Lock()

    @property
    def settings(self) -> dict[str, Any]:
        """How it replies, and which revision of the weights it is, where the hub says so."""
        revision = getattr(self.model.config, "_commit_hash", None)
        return {
            "deterministic": True,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "max_new_tokens": self.max_new_tokens,
            "revision": revision,
        }

    def ask(self, prompt: str, pictures: Sequence[Image.Image], *, repeat: int = 0, attempt: int = 0) -> Reply:
        """The model's greedy reply; arguments as in `Judge`."""
        import torch

        content: list[dict[str, Any]] = [{"type": "image", "image": picture} for picture in pictures]
        content.append({"type": "text", "text": prompt})
        with self._lock, torch.no_grad():
            inputs = self.processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            ).to(self.model.device, dtype=self.model.dtype)
            ids = self.model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1)
        asked = int(inputs["input_ids"].shape[1])
        written = ids[0, asked:]
        text = self.processor.batch_decode(written[None], skip_special_tokens=True)[0]
        ends = self.model.generation_config.eos_token_id
        is_whole = bool(len(written)) and int(written[-1]) in (ends if isinstance(ends, list) else [ends])
        return Reply(text.strip(), "stop" if is_whole else "length", asked, len(written), now())
