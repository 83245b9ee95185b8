"""Language models that may see pictures: behind an endpoint, or on this machine.

chat: {kind: endpoint, model: gpt-4o-2024-08-06, replies: out/answers.jsonl, price_input: 2.5, price_output: 10}
chat: {kind: transformers, model: Qwen/Qwen2.5-VL-7B-Instruct, quantization: 4bit}
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from data_recipes.backends.base import Question, Usage
from data_recipes.backends.loading import DTYPES, UsageCounter, check_above, check_choice, model_name, place
from insightedit.modeling.pretrained import load_pretrained

if TYPE_CHECKING:
    import numpy as np

    from insightedit.chat.clients import EndpointJudge, Judge
    from insightedit.chat.replies import Reply

OPENAI = "https://api.openai.com/v1"
UNANSWERABLE = (400, 413, 422)  # what an endpoint says of one question: too long, too large, not understood
QUANTIZATIONS = ("none", "4bit", "8bit")
logger = logging.getLogger(__name__)


def plain_answer(text: str) -> str:
    """An answer without the thoughts before it; "" if it is nothing but unfinished thoughts."""
    answer = text.rpartition("</think>")[2]
    return "" if "<think>" in answer else answer.strip()


class EndpointChat:
    """A model behind any endpoint that speaks OpenAI's protocol.

    Every answer is on the disk as soon as it comes, and no question is asked twice: a run that goes on pays for what
    is missing only, and one whose answers are all there needs neither key nor network. Nothing is loaded or sent
    before the first question.

    Args:
        model: as the endpoint calls it; pin a dated version.
        url: of the endpoint, up to `/v1`; https, or http on this machine (or anywhere, without a key).
        key_variable: environment variable that holds the key; None for servers without one.
        replies: the `.jsonl` file that the answers' files are named after (`AnswerFiles`); None keeps none.
        temperature: of the sampling.
        max_new_tokens: longest answer.
        options: further entries of the request's body; None takes one of ours out, e.g.
            {"max_tokens": None, "max_completion_tokens": 2048}.
        timeout: seconds of silence after which an attempt failed.
        max_attempts: requests for a question before the run stops, with waits that double in between.
        requests_per_minute: of this process, no more than these; None for no limit.
        concurrency: questions that wait for their answers at the same time.
        price_input: per million tokens read; None if unknown.
        price_output: per million tokens written; None if unknown.

    Raises:
        ValueError: if a number is out of range.

    With the first question that is not stored, a bad address and a missing key are refused too (`EndpointJudge`).
    """

    def __init__(
        self,
        model: str,
        *,
        url: str = OPENAI,
        key_variable: str | None = "OPENAI_API_KEY",
        replies: str | None = None,
        temperature: float = 0.0,
        max_new_tokens: int = 1024,
        options: Mapping[str, Any] | None = None,
        timeout: float = 120.0,
        max_attempts: int = 6,
        requests_per_minute: float | None = None,
        concurrency: int = 4,
        price_input: float | None = None,
        price_output: float | None = None,
    ) -> None:
        for name, number in (
            ("max_new_tokens", max_new_tokens),
            ("timeout", timeout),
            ("max_attempts", max_attempts),
            ("requests_per_minute", requests_per_minute),
            ("concurrency", concurrency),
        ):
            check_above(name, number)
        self.name, self._replies, self._concurrency = model, replies, concurrency
        self._counter = UsageCounter(price_input, price_output)
        body = {"temperature": temperature, "max_tokens": max_new_tokens, **(options or {})}
        self._endpoint = _Endpoint(
            model,
            {
                "base_url": url,
                "key_variable": key_variable,
                "temperature": temperature,
                "max_tokens": max_new_tokens,
                "timeout": timeout,
                "max_attempts": max_attempts,
                "requests_per_minute": requests_per_minute,
                "options": options,
            },
            {"endpoint": f"{url.rstrip('/')}/chat/completions", **{k: v for k, v in body.items() if v is not None}},
            self._counter,
        )
        self._judge: Judge | None = None
        self._lock = threading.Lock()
        self._has_answered = False
        weakref.finalize(self, self._endpoint.close)

    @property
    def settings(self) -> dict[str, Any]:
        """Address and the request's options."""
        return dict(self._endpoint.settings)

    @property
    def usage(self) -> Usage:
        """What was used so far; tokens and cost of answers that came in this process."""
        return self._counter.usage

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """B questions -> B answers, "" where the endpoint refuses or filters a question.

        Raises:
            JudgeError: if the endpoint gives no answer in all attempts, or refuses every question; answers so far
                are kept.
            ValueError: if the stored answers were given with other settings, or key or address are unusable.
        """
        from insightedit.chat.replies import ReplyKey

        if not questions:
            return []
        judge = self._ready()
        seen = [[Image.fromarray(picture) for picture in question.pictures] for question in questions]
        keys = [
            ReplyKey.of(self.name, question.prompt, pictures, attempt=question.attempt).hash
            for question, pictures in zip(questions, seen, strict=True)
        ]
        stop = threading.Event()
        asked: dict[str, Future[str | Exception]] = {}
        with self._counter.timed(len(questions)):
            with ThreadPoolExecutor(self._concurrency) as pool:
                for key, question, pictures in zip(keys, questions, seen, strict=True):
                    if key not in asked:
                        asked[key] = pool.submit(self._ask, judge, question, pictures, stop)
            answers = {key: future.result() for key, future in asked.items()}
        refused = [answer for answer in answers.values() if isinstance(answer, Exception)]
        if refused and len(refused) == len(answers) and not self._has_answered:
            raise refused[0]  # not this question's fault
        self._has_answered = True
        for error in refused:
            logger.warning("a question is left unanswered: %s", error)
        return [found if isinstance(found := answers[key], str) else "" for key in keys]

    def _ready(self) -> Judge:
        """The endpoint behind the store of its answers."""
        with self._lock:
            if self._judge is None:
                judge: Judge = self._endpoint
                if self._replies is not None:
                    from data_recipes.backends.answers import AnswerFiles
                    from insightedit.chat.clients import RecordingJudge

                    store: Any = AnswerFiles(Path(self._replies))
                    judge, self._has_answered = RecordingJudge(judge, store), len(store) > 0
                self._judge = judge
            return self._judge

    def close(self) -> None:
        """Close the connections; happens by itself when nobody holds this any more."""
        self._endpoint.close()

    def _ask(
        self, judge: Judge, question: Question, pictures: list[Image.Image], stop: threading.Event
    ) -> str | Exception:
        """An answer, or the refusal of this question alone; nothing more is asked after `stop`."""
        from insightedit.chat.clients import JudgeError
        from insightedit.chat.replies import FILTERED

        if stop.is_set():
            return ""
        try:
            reply = judge.ask(question.prompt, pictures, attempt=question.attempt)
        except Exception as error:
            if isinstance(error, JudgeError) and error.status in UNANSWERABLE:
                return error
            stop.set()
            raise
        return "" if reply.finish_reason in FILTERED else plain_answer(reply.text)


class _Endpoint:
    """An `EndpointJudge` that is made with its first question, and counted."""

    sleep: Callable[[float], object] = staticmethod(time.sleep)

    def __init__(self, name: str, arguments: dict[str, Any], settings: dict[str, Any], counter: UsageCounter) -> None:
        self.name, self.settings = name, settings
        self._arguments, self._counter, self._lock = arguments, counter, threading.Lock()
        self._judge: EndpointJudge | None = None

    def close(self) -> None:
        """Close the connections; the next question opens them again."""
        with self._lock:
            judge, self._judge = self._judge, None
        if judge is not None:
            judge.close()

    def ask(self, prompt: str, pictures: Sequence[Image.Image], *, repeat: int = 0, attempt: int = 0) -> Reply:
        """See `Judge`."""
        from insightedit.chat.clients import EndpointJudge

        with self._lock:
            if self._judge is None:
                self._judge = EndpointJudge(self.name, sleep=self.sleep, **self._arguments)
            judge = self._judge
        reply = judge.ask(prompt, pictures, repeat=repeat, attempt=attempt)
        self._counter.add(asked=1, input_tokens=reply.input_tokens, output_tokens=reply.output_tokens)
        return reply


class LocalChat:
    """An image-text-to-text model of transformers on this machine, or one that reads text only. Greedy.

    Questions of a batch are padded on the left; those with as many pictures go together. In half precision the last
    bits, and so now and then a word, depend on what else is in the batch.

    Args:
        model: hub id, folder, or miniature:SIZE/llava; it needs a chat template.
        revision: of the hub's repository.
        device: "cpu", "cuda", "cuda:1"; None for a GPU if there is one.
        dtype: of the weights; "auto" is bfloat16 on a GPU and float32 elsewhere.
        quantization: "none", or "4bit" or "8bit" by bitsandbytes.
        max_new_tokens: longest answer.
        batch_size: questions at a time.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        quantization: str = "none",
        max_new_tokens: int = 1024,
        batch_size: int = 8,
    ) -> None:
        check_choice("dtype", dtype, DTYPES)
        check_choice("quantization", quantization, QUANTIZATIONS)
        check_above("max_new_tokens", max_new_tokens)
        check_above("batch_size", batch_size)
        self.name = model_name(model, revision)
        self.settings = {"dtype": dtype, "quantization": quantization, "max_new_tokens": max_new_tokens}
        self._model_id, self._revision, self._device = model, revision, device
        self._batch_size, self._counter, self._lock = batch_size, UsageCounter(), threading.Lock()
        self._reader: Any = None
        self._model: Any = None
        self._sees = False

    @property
    def usage(self) -> Usage:
        """What was used so far."""
        return self._counter.usage

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """B questions -> B answers.

        Raises:
            ValueError: if the model has no chat template, or reads text only and is shown a picture.
        """
        with self._counter.timed(len(questions)), self._lock:
            if self._model is None and questions:
                self._load()
            groups: dict[int, list[int]] = {}
            for number, question in enumerate(questions):
                groups.setdefault(len(question.pictures), []).append(number)
            answers: dict[int, str] = {}
            for numbers in groups.values():
                for start in range(0, len(numbers), self._batch_size):
                    chosen = numbers[start : start + self._batch_size]
                    texts = self._generate([questions[number] for number in chosen])
                    answers.update(zip(chosen, texts, strict=True))
        return [answers[number] for number in range(len(questions))]

    def _load(self) -> None:
        from transformers import (
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForImageTextToText,
            AutoProcessor,
            AutoTokenizer,
        )

        from insightedit.miniatures import resolve_model_id

        where, device_dtype = resolve_model_id(self._model_id), place(self._device, self.settings["dtype"])
        config = load_pretrained(AutoConfig, where, revision=self._revision)
        self._sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        reader: Any = load_pretrained(AutoProcessor if self._sees else AutoTokenizer, where, revision=self._revision)
        if not getattr(reader, "chat_template", None):
            raise ValueError(
                f"{self.name} has no chat template: take a model that follows instructions, which knows how to put a "
                "question."
            )
        tokenizer = self._tokenizer(reader)
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model_class: Any = AutoModelForImageTextToText if self._sees else AutoModelForCausalLM
        extra = quantized(self.settings["quantization"], *device_dtype)
        model = load_pretrained(model_class, where, revision=self._revision, dtype=device_dtype[1], **extra)
        self._model = (model if extra else model.to(device_dtype[0])).requires_grad_(False).eval()
        self._reader = reader

    @staticmethod
    def _tokenizer(reader: Any) -> Any:
        return getattr(reader, "tokenizer", reader)

    def _generate(self, questions: list[Question]) -> list[str]:
        """Answers to questions with as many pictures each."""
        import torch

        inputs = self._read(questions)
        tokenizer = self._tokenizer(self._reader)
        with torch.no_grad():
            written = self._model.generate(
                **inputs,
                max_new_tokens=self.settings["max_new_tokens"],
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=tokenizer.pad_token_id,
            )[:, inputs["input_ids"].shape[1] :]
        ends = self._model.generation_config.eos_token_id
        ends = torch.tensor(ends if isinstance(ends, list) else [ends or -1], device=written.device)
        is_after_end = torch.isin(written, ends).cumsum(dim=1) > 1  # its padding may be the same token
        tokens = written.numel() - int(is_after_end.sum())
        self._counter.add(asked=len(questions), input_tokens=int(inputs["attention_mask"].sum()), output_tokens=tokens)
        return [plain_answer(text) for text in tokenizer.batch_decode(written, skip_special_tokens=True)]

    def _read(self, questions: list[Question]) -> Any:
        """Tokens, padded on the left, and pictures as the model reads them."""
        talks = [[{"role": "user", "content": self._content(question)}] for question in questions]
        padding = {"processor_kwargs": {"padding": True}} if self._sees else {"padding": True}
        inputs = self._reader.apply_chat_template(
            talks, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", **padding
        )
        kind = {"dtype": self._model.dtype} if self._sees else {}
        return inputs.to(self._model.device, **kind)

    def _content(self, question: Question) -> Any:
        if self._sees:
            shown = [{"type": "image", "image": _rgb(picture)} for picture in question.pictures]
            return [*shown, {"type": "text", "text": question.prompt}]
        if question.pictures:
            raise ValueError(
                f"{self.name} reads text only, and a question ({question.task or 'without a task'}) shows it a "
                "picture: take an image-text-to-text model, e.g. Qwen/Qwen2.5-VL-7B-Instruct."
            )
        return question.prompt


def quantized(quantization: str, device: Any, dtype: Any) -> dict[str, Any]:
    """Arguments of `from_pretrained` for bitsandbytes; none for "none". Vocabulary and vision stay as they are."""
    from transformers import BitsAndBytesConfig

    if quantization == "none":
        return {}
    skipped = [".*vision_tower", ".*visual", ".*multi_modal_projector", "lm_head"]
    if quantization == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=skipped
        )
    return {"quantization_config": config, "device_map": {"": device}}


def _rgb(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture)
