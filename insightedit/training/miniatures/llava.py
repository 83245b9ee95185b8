"""Train LLaVA: describe, answer, expand an instruction, and say which object an instruction means.

Everything is trained, the vision tower too (ours; LLaVA-1.5 freezes it): a CLIP trained in minutes knows *what* is in
a picture but its patches hardly know *where*, and edits need where.

Several turns share one picture: they are independent branches after the common prefix `USER: <image>`, each of which
sees the picture and itself only and counts its positions from there. One row is thus worth as many single-turn
conversations as it has branches, at the price of one picture.

What the projector says of a patch is drawn towards the embeddings of the words for what covers it: its name, its
colour, its place (ours). A word then finds its thing by likeness, for all classes in the same way, and where it is
stands beside it; labels of classes alone let the tower forget places, and answers alone let it forget both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel, LlavaForConditionalGeneration, LlavaProcessor

from insightedit.comprehension.prompts import question_turn
from insightedit.miniatures.builders import copy_vision_tower
from insightedit.miniatures.folders import replace_folder
from insightedit.modeling.pretrained import load_pretrained
from insightedit.scenes import SLOTS
from insightedit.training.miniatures.clip import CLASS_LABELS, COLOUR_LABELS, patch_labels
from insightedit.training.miniatures.loop import VAL_COUNT, Part, TrainOptions, stack, to_clip_pixels

REQUESTS_PER_PICTURE = 3  # further instructions for a scene, beside its own: what reads sees few pictures otherwise
WHOLE_PER_PICTURE = 12  # of requests whose answer no picture tells: many words for few meanings, and cheap
QUESTIONS_PER_PICTURE = 3  # of the scene's question-and-answer pairs
KINDS = ("caption", "expressive", "grounding", "vqa")
CAPTION_QUESTIONS = ("describe the picture", "what does the picture show?", "what is in the picture?")
GROUNDING_PREFIX = "which object should change?"  # of the scenes' questions about an instruction
IGNORE = -100
PLACE_LABELS = {slot: number for number, slot in enumerate(SLOTS, start=1)}
COVERS = ("classes", "colours", "places")  # of what covers a patch, as numbers
NAMING = 0.3  # weight of the likeness of patches and words
SHARPNESS = 20.0  # of that likeness, a cosine, as a logit
TINT = 0.25  # of what a tinted thing is called is its colour
PLACE = 0.4  # of all that is said of it is where it is
GREEDY_COUNT = 200
GREEDY_TOKENS = 32


@dataclass(frozen=True)
class Exchange:
    """One question about a picture and its answer; `kind` is one of KINDS."""

    kind: str
    question: str
    answer: str


class LlavaPart(Part):
    """LlavaForConditionalGeneration of `<root>/llava`, its vision tower started from `<root>/clip`."""

    name = "llava"
    options = TrainOptions(steps=5000, minutes=8.0, weight_decay=0.02)
    trainable: ClassVar = ["*", "!model.vision_tower.post_layernorm.*"]  # which LLaVA's patches do not pass
    declines = 0.2

    def load(self) -> None:
        """See `Part`."""
        self.folder = self.root / "llava"
        self.model = load_pretrained(LlavaForConditionalGeneration, self.folder)
        self.processor = load_pretrained(LlavaProcessor, self.folder)
        copy_vision_tower(load_pretrained(CLIPModel, self.root / "clip"), self.model)
        self._mark_places()
        tokenizer = self.processor.tokenizer
        patches = "<image>" * self.model.config.image_seq_length
        self.prefix = tokenizer(question_turn("").head.split("<image>")[0] + patches).input_ids
        self.names, self.tints, self.places = (self._words(x) for x in (CLASS_LABELS, COLOUR_LABELS, PLACE_LABELS))
        self.features: Tensor | None = None  # (B, P, width) of the last pictures
        self.model.model.multi_modal_projector.register_forward_hook(self._keep_features)

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy and accuracy of the answers' tokens; the likeness of patches and words is minimised besides."""
        logits, labels, _ = self._answer_logits(batch)
        right = (logits.argmax(dim=-1) == labels).float().mean()
        naming = self._naming(*(batch[key].flatten() for key in COVERS))
        loss = F.cross_entropy(logits, labels)
        return {"loss": loss + NAMING * naming.pop("loss"), "answers": loss.detach(), "accuracy": right, **naming}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Answer token accuracy per kind, and exact match of greedily decoded ones, on held-out scenes."""
        right: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for first in range(0, VAL_COUNT, self.batch_size):
            logits, labels, kinds = self._answer_logits(self.held_out(self.batch_size, first))
            hits = (logits.argmax(dim=-1) == labels).float()
            for number, kind in enumerate(KINDS):
                right[kind] += hits[kinds == number].tolist()
        scores = {f"accuracy_{kind}": round(float(np.mean(v)), 4) for kind, v in right.items() if v}
        return scores | {f"exact_{kind}": self._greedy(kind) for kind in ("expressive", "grounding", "vqa")}

    def export(self) -> None:
        """Save model and processor."""
        with replace_folder(self.folder) as folder:
            (folder / "tokenizer.model").write_bytes((self.folder / "tokenizer.model").read_bytes())
            self.model.save_pretrained(folder)
            self.processor.save_pretrained(folder)

    def rows(self, samples: list[Any], first: int) -> dict[str, Tensor]:
        """Packed rows, see `pack`, and their `pictures`."""
        exchanges = [conversation(s, np.random.default_rng([3, first + i])) for i, s in enumerate(samples)]
        for row, sample in zip(exchanges, samples, strict=True):
            told = self.train.requests(sample, REQUESTS_PER_PICTURE, WHOLE_PER_PICTURE)
            row += [Exchange("expressive", *pair) for pair in told]
        flat, tokenizer = [exchange for row in exchanges for exchange in row], self.processor.tokenizer
        # each text starts behind an `<image>` that is cut off again: only so it is split as in the whole prompt
        prompts = ["<image>" + question_turn(e.question).prompt.split("<image>")[1] for e in flat]
        answers = [f"<image> {e.answer}{tokenizer.eos_token}" for e in flat]
        prompt_ids = tokenizer(prompts, add_special_tokens=False).input_ids
        answer_ids = tokenizer(answers, add_special_tokens=False).input_ids
        kinds = [KINDS.index(e.kind) for e in flat]
        branches = iter([(q[1:], a[1:], kind) for q, a, kind in zip(prompt_ids, answer_ids, kinds, strict=True)])
        packed = pack(self.prefix, [[next(branches) for _ in row] for row in exchanges], tokenizer.pad_token_id)
        labels = zip(*(patch_labels(s.scene, self.grid) for s in samples), strict=True)
        covers = {key: torch.from_numpy(np.stack(numbers)) for key, numbers in zip(COVERS, labels, strict=True)}
        return {"pictures": stack([s.source for s in samples]), **covers, **packed}

    @torch.no_grad()
    def _mark_places(self) -> None:
        """Add sines and cosines of row and column to the tower's position embeddings.

        Labels of classes leave it blind for places: a linear probe of its patches finds the right one of nine by
        chance, .12, and in .80 of the cases right after this.
        """
        config = self.model.config.vision_config
        self.grid = int(config.image_size) // int(config.patch_size)
        waves = get_2d_sincos_pos_embed(config.hidden_size, self.grid, output_type="pt")
        table = self.model.model.vision_tower.embeddings.position_embedding.weight
        table[1:] += waves.to(table)  # 0 is the class token's

    def _keep_features(self, module: Any, arguments: Any, features: Tensor) -> None:
        self.features = features

    def _words(self, labels: dict[str, int]) -> Tensor:
        """(1 + number of labels, V) float32: of each label the share that every token has in its name; row 0 is 0."""
        tokenizer, lead = self.processor.tokenizer, "the"  # within a sentence words are split otherwise than alone
        skipped = len(tokenizer(lead, add_special_tokens=False).input_ids)
        table = torch.zeros(1 + len(labels), self.model.config.text_config.vocab_size)
        for name, number in labels.items():
            ids = tokenizer(f"{lead} {name}", add_special_tokens=False).input_ids[skipped:]
            for token in ids:
                table[number, token] += 1 / len(ids)
        return table

    def _naming(self, classes: Tensor, colours: Tensor, places: Tensor) -> dict[str, Tensor]:
        """`loss`, cross-entropy of the words that patches are like; how many are `named` and `placed` right.

        Arguments (B * P,) int64 say what covers each patch; patches of the background are left out.
        """
        covered = classes > 0
        classes, colours, places = classes[covered], colours[covered], places[covered]
        features, self.features = self.features.flatten(0, 1)[covered].float(), None  # type: ignore[union-attr]
        words = self.model.get_input_embeddings().weight.float()
        with torch.autocast(features.device.type, enabled=False):  # logits of 20 need float32
            words = F.normalize(words, dim=-1, eps=1e-3)  # the row of `<pad>` is 0, and so its gradient 1 / eps
            logits = SHARPNESS * F.normalize(features, dim=-1) @ words.T
        names, tints, sides = (table.to(features.device) for table in (self.names, self.tints, self.places))
        share = TINT * (colours > 0).float()[:, None]
        wanted = (1 - PLACE) * ((1 - share) * names[classes] + share * tints[colours]) + PLACE * sides[places]
        many = max(1, len(classes))  # a batch of bare photographs has none
        loss = -(wanted * logits.log_softmax(dim=1)).sum() / many
        nearest = logits.detach().masked_fill(sides.sum(dim=0) > 0, -torch.inf).argmax(dim=1, keepdim=True)
        named = (names[classes] + tints[colours]).gather(1, nearest) > 0
        # a place of one word, as `top`, must not win by the share of that word in `top left`
        placed = (logits.detach() @ F.normalize(sides[1:], dim=1).T).argmax(dim=1) == places - 1
        return {"loss": loss, "named": named.float().sum() / many, "placed": placed.float().sum() / many}

    def _answer_logits(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """(N, V) float32 logits that predict the batch's N answer tokens, their (N,) labels and kinds."""
        states = self.model.model(
            input_ids=batch["input_ids"],
            pixel_values=to_clip_pixels(batch["pictures"]),
            attention_mask=attention_mask(batch["branch"]),
            position_ids=batch["position_ids"],
            use_cache=False,
        ).last_hidden_state
        answered = batch["labels"][:, 1:] != IGNORE
        logits = self.model.lm_head(states[:, :-1][answered]).float()
        return logits, batch["labels"][:, 1:][answered], batch["kinds"][:, 1:][answered]

    def _greedy(self, kind: str) -> float:
        """Share of the first `GREEDY_COUNT` held-out exchanges of a kind that are answered word for word."""
        pictures, exchanges = [], []
        for index in range(GREEDY_COUNT):
            sample = self.val[index]
            wanted = [e for e in conversation(sample, np.random.default_rng([4, index])) if e.kind == kind][:1]
            pictures += [sample.source] * len(wanted)
            exchanges += wanted
        hits = 0
        for first in range(0, len(exchanges), 50):
            part = exchanges[first : first + 50]
            prompts = [question_turn(e.question).prompt for e in part]
            inputs = self.processor(
                images=pictures[first : first + 50], text=prompts, padding=True, return_tensors="pt"
            ).to(self.device)
            ids = self.model.generate(**inputs, max_new_tokens=GREEDY_TOKENS, do_sample=False)
            replies = self.processor.batch_decode(ids[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
            hits += sum(reply.strip() == e.answer for reply, e in zip(replies, part, strict=True))
        return round(hits / max(1, len(exchanges)), 4)


def conversation(sample: Any, random: np.random.Generator) -> list[Exchange]:
    """What is asked about one scene's source picture, in wordings chosen by `random`.

    A caption, the expressive instruction, which object the instruction means (where it means one), and some of the
    scene's other questions.
    """
    pairs = sample.qa()
    asked = CAPTION_QUESTIONS[random.integers(len(CAPTION_QUESTIONS))]
    grounding = [Exchange("grounding", *pair) for pair in pairs if pair[0].startswith(GROUNDING_PREFIX)]
    others = [Exchange("vqa", *pair) for pair in pairs if not pair[0].startswith(GROUNDING_PREFIX)]
    chosen = random.permutation(len(others))[:QUESTIONS_PER_PICTURE]
    return [
        Exchange("caption", asked, sample.caption_source),
        Exchange("expressive", sample.instruction, sample.expressive_instruction),
        *grounding,
        *(others[i] for i in chosen),
    ]


def pack(prefix: list[int], rows: list[list[tuple[list[int], list[int], int]]], pad: int) -> dict[str, Tensor]:
    """Lay the branches (question ids, answer ids, kind number) of every row behind the common prefix.

    `input_ids`, `labels` (-100 except on answers), `position_ids`, `kinds` and `branch` (0 prefix, 1.. branches, -1
    padding), all (B, T) int64; T is a multiple of 16.
    """
    length = max(len(prefix) + sum(len(q) + len(a) for q, a, _ in row) for row in rows)
    length = -(-length // 16) * 16
    names = {"input_ids": pad, "labels": IGNORE, "position_ids": 0, "kinds": -1, "branch": -1}
    table = {name: np.full((len(rows), length), filler, dtype=np.int64) for name, filler in names.items()}
    for number, row in enumerate(rows):
        at = len(prefix)
        table["input_ids"][number, :at] = prefix
        table["position_ids"][number, :at] = np.arange(at)
        table["branch"][number, :at] = 0
        for branch, (question, answer, kind) in enumerate(row, start=1):
            end = at + len(question) + len(answer)
            table["input_ids"][number, at:end] = question + answer
            table["labels"][number, at + len(question) : end] = answer
            table["position_ids"][number, at:end] = len(prefix) + np.arange(end - at)
            table["kinds"][number, at:end] = kind
            table["branch"][number, at:end] = branch
            at = end
    return {name: torch.from_numpy(values) for name, values in table.items()}


def attention_mask(branch: Tensor) -> Tensor:
    """(B, T) branch numbers -> (B, 1, T, T) bool, True where a row may look: back, at the prefix and its own branch."""
    t = branch.shape[1]
    causal = torch.ones(t, t, dtype=torch.bool, device=branch.device).tril()
    visible = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    return (causal & visible)[:, None]
