"""Language models on this machine: image-text-to-text models of transformers, and those that read text only."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from insightedit.chat.clients import now
from insightedit.chat.replies import Reply
from insightedit.modeling.pretrained import load_pretrained


class LocalClient:
    """A language model of transformers on this machine; greedy, so the same question has one reply.

    `model` is a hub id or folder, whose processor or tokenizer needs a chat template (else ValueError); `name` what
    replies are kept under, by default the hub id or the folder's name; `dtype` "auto" takes weights as they are stored;
    `quantization` is "none", or "4bit" or "8bit" by bitsandbytes.
    """

    def __init__(
        self,
        model: str,
        *,
        name: str | None = None,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "auto",
        quantization: str = "none",
        max_new_tokens: int = 1024,
    ) -> None:
        import transformers

        self.name = name or (Path(model).name if Path(model).is_dir() else model)
        config = load_pretrained(transformers.AutoConfig, model, revision=revision)
        self.sees = type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        self.processor: Any = load_pretrained(
            transformers.AutoProcessor if self.sees else transformers.AutoTokenizer, model, revision=revision
        )
        if not getattr(self.processor, "chat_template", None):
            raise ValueError(
                f"{self.name} has no chat template: take a model that follows instructions, which knows how to put a "
                "question."
            )
        self.tokenizer: Any = getattr(self.processor, "tokenizer", self.processor)
        self.tokenizer.padding_side = "left"  # what is written goes on from the question's last word
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        model_class: Any = transformers.AutoModelForImageTextToText if self.sees else transformers.AutoModelForCausalLM
        extra = quantized(quantization, device, dtype)
        loaded = load_pretrained(model_class, model, revision=revision, dtype=dtype, **extra)
        self.model = (loaded if extra else loaded.to(device)).requires_grad_(False).eval()
        self.max_new_tokens, self._lock = max_new_tokens, threading.Lock()

    @property
    def settings(self) -> dict[str, Any]:
        """How it replies, and which revision of the weights it is, where the hub says so."""
        return {
            "deterministic": True,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "max_new_tokens": self.max_new_tokens,
            "revision": getattr(self.model.config, "_commit_hash", None),
        }

    def ask(self, prompt: str, pictures: Sequence[Image.Image], *, repeat: int = 0, attempt: int = 0) -> Reply:
        """The model's greedy reply; arguments as in `insightedit.chat.clients.ChatClient`."""
        return self.ask_together([prompt], [pictures])[0]

    @torch.no_grad()
    def ask_together(self, prompts: Sequence[str], pictures: Sequence[Sequence[Image.Image]]) -> list[Reply]:
        """Greedy replies to B questions, each with as many RGB pictures as the others, padded on the left.

        In half precision the last bits, and so now and then a word, depend on what else is in the batch.
        """
        talks = [
            [{"role": "user", "content": self._content(prompt, shown)}]
            for prompt, shown in zip(prompts, pictures, strict=True)
        ]
        padding: dict[str, Any] = {"processor_kwargs": {"padding": True}} if self.sees else {"padding": True}
        kind = {"dtype": self.model.dtype} if self.sees else {}
        # greedy whatever the model's own configuration says of sampling
        greedy = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
        with self._lock:
            inputs = self.processor.apply_chat_template(
                talks, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", **padding
            ).to(self.model.device, **kind)
            ids = self.model.generate(
                **inputs, max_new_tokens=self.max_new_tokens, pad_token_id=self.tokenizer.pad_token_id, **greedy
            )
        written = ids[:, inputs["input_ids"].shape[1] :].cpu()  # [b, t]
        ends = self.model.generation_config.eos_token_id
        is_end = torch.isin(written, torch.tensor(ends if isinstance(ends, list) else [-1 if ends is None else ends]))
        is_after_end = is_end.cumsum(dim=1) > 1  # its padding may be the same token
        lengths = (~is_after_end).sum(dim=1).tolist()
        asked = inputs["attention_mask"].sum(dim=1).tolist()
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [
            Reply(text.strip(), "stop" if bool(is_end[i].any()) else "length", asked[i], lengths[i], now())
            for i, text in enumerate(texts)
        ]

    def _content(self, prompt: str, pictures: Sequence[Image.Image]) -> Any:
        if self.sees:
            return [*({"type": "image", "image": one} for one in pictures), {"type": "text", "text": prompt}]
        if pictures:
            raise ValueError(
                f"{self.name} reads text only, and a question ({prompt[:40]!r}) shows it a picture: take an "
                "image-text-to-text model, e.g. Qwen/Qwen2.5-VL-7B-Instruct."
            )
        return prompt


def quantized(quantization: str, device: Any, dtype: Any) -> dict[str, Any]:
    """Arguments of `from_pretrained` for bitsandbytes; none for "none". Vocabulary and vision stay as they are."""
    from transformers import BitsAndBytesConfig

    if quantization == "none":
        return {}
    how: dict[str, Any] = {"load_in_8bit": True}
    if quantization == "4bit":
        how = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    how["llm_int8_skip_modules"] = [".*vision_tower", ".*visual", ".*multi_modal_projector", "lm_head"]
    return {"quantization_config": BitsAndBytesConfig(**how), "device_map": {"": device}}
