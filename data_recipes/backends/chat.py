"""Language models that may see pictures, behind an endpoint or on this machine, and MGIE's summariser.

chat: {kind: endpoint, model: gpt-4o-2024-08-06, replies: out/answers.jsonl, price_input: 2.5, price_output: 10}
chat: {kind: transformers, model: Qwen/Qwen2.5-VL-7B-Instruct, quantization: 4bit}
summariser: {kind: seq2seq, model: google/flan-t5-large}
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from data_recipes.backends.base import CountedBackend, LocalModel, Question, check_above, check_choice
from insightedit.modeling.pretrained import load_pretrained

if TYPE_CHECKING:
    from insightedit.chat.clients import ChatClient
    from insightedit.chat.local import LocalClient
    from insightedit.chat.replies import Reply

OPENAI = "https://api.openai.com/v1"
UNANSWERABLE = (400, 413, 422)  # what an endpoint says of one question: too long, too large, not understood
TOKENS = ("input_tokens", "output_tokens")
QUANTIZATIONS = ("none", "4bit", "8bit")
logger = logging.getLogger(__name__)


def plain_answer(text: str) -> str:
    """An answer without the thoughts before it; "" if it is nothing but unfinished thoughts."""
    answer = text.rpartition("</think>")[2]
    return "" if "<think>" in answer else answer.strip()


@dataclass(eq=False)
class EndpointChat(CountedBackend):
    """A model behind any endpoint that speaks OpenAI's protocol.

    Every answer is on the disk as soon as it comes, and no question is asked twice: a run that goes on pays for what
    is missing only, and one whose answers are all there needs neither key nor network. Nothing is loaded or sent
    before the first question, which also refuses a bad address and a missing key (`EndpointClient`).
    """

    model: str  # as the endpoint calls it; pin a dated version
    _: KW_ONLY
    url: str = OPENAI  # of the endpoint, up to `/v1`; https, or http on this machine (or anywhere, without a key)
    key_variable: str | None = "OPENAI_API_KEY"  # environment variable of the key; None for servers without one
    replies: str | None = None  # `.jsonl` that the files of answers, one a process, are named after; None: none
    temperature: float = 0.0  # of the sampling
    max_new_tokens: int = 1024  # longest answer
    # further entries of the request's body; None takes one of ours out, e.g. {"max_tokens": None,
    # "max_completion_tokens": 2048}.
    options: Mapping[str, Any] | None = None
    timeout: float = 120.0  # seconds of silence after which an attempt failed
    max_attempts: int = 6  # requests for a question before the run stops, with waits that double in between
    requests_per_minute: float | None = None  # of this process, no more than these; None for no limit
    concurrency: int = 4  # questions that wait for their answers at the same time
    price_input: float | None = None  # per million tokens read; None if unknown
    price_output: float | None = None  # per million tokens written; None if unknown

    def __post_init__(self) -> None:
        from insightedit.chat.clients import EndpointClient

        for name in ("max_new_tokens", "timeout", "max_attempts", "requests_per_minute", "concurrency"):
            check_above(name, getattr(self, name))
        self.endpoint = EndpointClient(
            self.model,
            base_url=self.url,
            key_variable=self.key_variable,
            temperature=self.temperature,
            max_tokens=self.max_new_tokens,
            timeout=self.timeout,
            max_attempts=self.max_attempts,
            requests_per_minute=self.requests_per_minute,
            options=self.options,
            is_lazy=True,
        )
        super().__init__(self.model, self.endpoint.settings, price=(self.price_input or 0.0, self.price_output or 0.0))
        self._client: ChatClient | None = None
        self._has_answered = False
        weakref.finalize(self, self.endpoint.close)

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """B questions -> B answers, "" where the endpoint refuses or filters a question.

        `ChatError` if it gives no answer in all attempts, or refuses every question; answers so far are kept.
        `ValueError` if the stored answers were given with other settings, or key or address are unusable.
        """
        from insightedit.chat.clients import ChatError
        from insightedit.chat.replies import FILTERED, ReplyKey

        if not questions:
            return []
        client, stop = self._opened(), threading.Event()

        def ask(question: Question, pictures: list[Image.Image]) -> str | Exception:
            """An answer, or the refusal of this question alone; nothing more is asked after `stop`."""
            if stop.is_set():
                return ""
            try:
                reply = client.ask(question.prompt, pictures, attempt=question.attempt)
            except Exception as error:
                if isinstance(error, ChatError) and error.status in UNANSWERABLE:
                    return error
                stop.set()
                raise
            return "" if reply.finish_reason in FILTERED else plain_answer(reply.text)

        keys, asked = list[str](), dict[str, Future[str | Exception]]()
        with self.timed(len(questions), is_alone=False):
            with ThreadPoolExecutor(self.concurrency) as pool:
                for question in questions:
                    pictures = [Image.fromarray(picture) for picture in question.pictures]
                    keys.append(ReplyKey.of(self.name, question.prompt, pictures, attempt=question.attempt).hash)
                    if keys[-1] not in asked:
                        asked[keys[-1]] = pool.submit(ask, question, pictures)
            answers = {key: future.result() for key, future in asked.items()}
        refused = [answer for answer in answers.values() if isinstance(answer, Exception)]
        if refused and len(refused) == len(answers) and not self._has_answered:
            raise refused[0]  # not this question's fault
        self._has_answered = True
        for error in refused:
            logger.warning("a question is left unanswered: %s", error)
        return [found if isinstance(found := answers[key], str) else "" for key in keys]

    def close(self) -> None:
        """Close the connections; happens by itself when nobody holds this any more."""
        self.endpoint.close()

    def ask(self, prompt: str, pictures: Sequence[Image.Image], *, repeat: int = 0, attempt: int = 0) -> Reply:
        """What the endpoint answers anew, counted; see `ChatClient`."""
        reply = self.endpoint.ask(prompt, pictures)
        self.count(asked=1, input_tokens=reply.input_tokens, output_tokens=reply.output_tokens)
        return reply

    def _opened(self) -> ChatClient:
        """The endpoint, behind the store of its answers where there is one."""
        from insightedit.chat.clients import RecordingClient
        from insightedit.chat.replies import ReplyStore

        with self._lock:  # two stores of one process would write to the same file
            if self._client is None and self.replies is not None:
                store = ReplyStore(Path(self.replies), per_process=True)
                self._client = RecordingClient(self, store)
                self._has_answered = len(store) > 0
            return self._client or self


@dataclass(eq=False)
class LocalChat(LocalModel):
    """An image-text-to-text model of transformers on this machine, or one that reads text only. Greedy.

    Questions of a batch are padded on the left; those with as many pictures go together.

    The model needs a chat template.
    """

    _: KW_ONLY
    quantization: str = "none"  # or "4bit" or "8bit", by bitsandbytes
    max_new_tokens: int = 1024  # longest answer
    batch_size: int = 8  # questions at a time

    deciding = ("dtype", "quantization", "max_new_tokens")
    positive = ("max_new_tokens", "batch_size")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("quantization", self.quantization, QUANTIZATIONS)

    @cached_property
    def client(self) -> LocalClient:
        """The model, loaded when it is first asked for."""
        from insightedit.chat.local import LocalClient
        from insightedit.modeling.pretrained import resolve_model_id

        device, dtype = self.place()
        return LocalClient(
            resolve_model_id(self.model),
            name=self.name,
            revision=self.revision,
            device=device,
            dtype=dtype,
            quantization=self.quantization,
            max_new_tokens=self.max_new_tokens,
        )

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """B questions -> B answers; a model without a chat template refuses, one that only reads refuses pictures."""
        groups: dict[int, list[int]] = {}
        for number, question in enumerate(questions):
            groups.setdefault(len(question.pictures), []).append(number)
        answers: dict[int, str] = {}
        with self.timed(len(questions)):
            for numbers in groups.values():
                for start in range(0, len(numbers), self.batch_size):
                    chosen = numbers[start : start + self.batch_size]
                    pictures = [[Image.fromarray(one) for one in questions[n].pictures] for n in chosen]
                    replies = self.client.ask_together([questions[n].prompt for n in chosen], pictures)
                    tokens = {name: sum(getattr(one, name) for one in replies) for name in TOKENS}
                    self.count(asked=len(chosen), **tokens)
                    answers |= zip(chosen, (plain_answer(reply.text) for reply in replies), strict=True)
        return [answers[number] for number in range(len(questions))]


@dataclass(eq=False)
class Seq2SeqSummariser(LocalModel):
    """Shortens the paragraph that a question is about: five beams, 5 to 64 tokens, no three in a row twice."""

    # T5-shaped, follows instructions; the published one needs about 22 GB, google/flan-t5-large 2 GB
    model: str = "jordiclive/flan-t5-11b-summarizer-filtered"
    _: KW_ONLY
    batch_size: int = 8  # paragraphs at a time

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        """Model and tokenizer, loaded when they are first asked for."""
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        device, dtype = self.place()
        tokenizer = load_pretrained(AutoTokenizer, self.model, revision=self.revision)
        model = load_pretrained(AutoModelForSeq2SeqLM, self.model, revision=self.revision, dtype=dtype)
        return model.requires_grad_(False).eval().to(device), tokenizer

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """B questions about `text` -> B summaries, each in one line."""
        for question in questions:
            if "text" not in question.about:
                raise ValueError(
                    f"a summariser was asked for {question.task or 'something'!r}: it only shortens texts, take it "
                    "for backends.summariser."
                )
        found: list[str] = []
        with self.timed(len(questions)):
            for start in range(0, len(questions), self.batch_size):
                part = questions[start : start + self.batch_size]
                model, tokenizer = self.loaded
                read = tokenizer([one.prompt for one in part], padding=True, truncation=True, return_tensors="pt")
                written = model.generate(
                    input_ids=read.input_ids.to(model.device),
                    attention_mask=read.attention_mask.to(model.device),
                    num_beams=5,
                    do_sample=False,
                    min_length=5,
                    max_length=64,
                    no_repeat_ngram_size=3,
                )
                texts = tokenizer.batch_decode(written, skip_special_tokens=True)
                found += [" ".join(text.split()) for text in texts]
                self.count(asked=len(part))
        return found
