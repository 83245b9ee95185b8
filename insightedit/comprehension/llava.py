"""LlavaComprehension: picture and instruction -> hidden states at the edit tokens, vision patches, language loss.

Stock `transformers` classes behind one small adapter. The R edit tokens are appended to the prompt, never sampled,
so one prefill gives all the states and none can be missing or left over (GILL's answer to a counting failure).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from insightedit.comprehension.base import Comprehension
from insightedit.comprehension.edit_tokens import EDIT_TOKEN, add_edit_tokens, edit_token_names, find_edit_tokens
from insightedit.comprehension.lora import attach, merge
from insightedit.comprehension.prompts import FEW, TEMPLATE_SETS, TemplateSet
from insightedit.comprehension.tokenization import IGNORE, EditTokenizer, Picture, load_processor
from insightedit.modeling.offloading import eval_mode, execution_device, in_forward
from insightedit.modeling.pretrained import load_pretrained, open_base_model, recompute_activations
from insightedit.types import Answer, ComprehensionStates, TokenBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from insightedit.config.schema import Config, LoraConfig

LLAVA = "a LLaVA model in transformers' format"
Quantization = Literal["none", "4bit", "8bit"]


class LlavaComprehension(Comprehension):
    """The multimodal language model that reads picture and instruction.

    Args:
        mllm: LLaVA-shaped model (vision tower, projector, language model) that knows the edit tokens; stock, or
            behind peft as `lora.attach` returns it.
        processor: its processor.
        num_edit_tokens: R.
        edit_token: name pattern of the edit tokens.
        templates: paraphrases of what it is asked in training.
        states_before_tokens: take the states one position before each edit token, which predict the tokens (MGIE),
            instead of those at the tokens (SmartEdit).
        max_length: tokens that training cuts a sequence to; None: what the model can read.

    Raises:
        ValueError: if the tokenizer lacks the edit tokens, or the vision feature layer is not a single one.
    """

    def __init__(
        self,
        mllm: PreTrainedModel | PeftModel,
        processor: ProcessorMixin,
        *,
        num_edit_tokens: int,
        edit_token: str = EDIT_TOKEN,
        templates: TemplateSet = FEW,
        states_before_tokens: bool = False,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        self.states_before_tokens = states_before_tokens
        self.mllm = mllm
        self.processor: Any = processor
        ids = find_edit_tokens(self.processor.tokenizer, edit_token, num_edit_tokens)
        if ids is None:
            raise ValueError(
                f"the tokenizer has no token {edit_token.format(index=0)!r}: load the model with "
                "`LlavaComprehension.from_pretrained`, which adds the edit tokens."
            )
        config = self.stock.config
        if not isinstance(config.vision_feature_layer, int):
            raise ValueError(
                f"vision_feature_layer is {config.vision_feature_layer}; bridging reads one layer of the vision tower: "
                "set comprehension.vision_feature_layer to one number."
            )
        self._edit_token_ids: list[int] = ids
        max_positions = config.get_text_config().max_position_embeddings
        self.tokenizer = EditTokenizer(
            processor, edit_token_names(edit_token, num_edit_tokens), max_positions, templates, max_length
        )

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        num_edit_tokens: int,
        edit_token: str = EDIT_TOKEN,
        vision_feature_layer: int | None = None,
        quantization: Quantization = "none",
        lora: LoraConfig | None = None,
        train_embeddings: bool = False,
        dtype: torch.dtype | None = torch.float32,
        **reading: Any,
    ) -> LlavaComprehension:
        """Load a model, teach it the edit tokens, freeze it, attach what trains.

        Args:
            model: folder or hub id in the stock format.
            num_edit_tokens: R; tokens the model already has are found, missing ones are added.
            edit_token: name pattern with `{index}`.
            vision_feature_layer: which hidden state of the vision tower is read; None keeps the model's own.
            quantization: `4bit` (NF4) or `8bit` linear layers of the language model, through bitsandbytes.
            lora: low-rank adapters; None trains the vocabulary's rows alone.
            train_embeddings: train `embed_tokens` and `lm_head` whole, not the edit tokens' rows only.
            dtype: of weights that are not quantised; None keeps the type they are stored in, in which a frozen model of
                7B takes 14 GB of memory instead of 28. What trains is float32 in any case.
            **reading: templates, states_before_tokens, max_length of the class.

        Returns:
            The adapter, in eval mode. Trainable parameters match `*lora_*` and `*trainable_tokens_delta*`, or, with
            `train_embeddings`, `*embed_tokens.weight` and `*lm_head.weight`.
        """
        mllm = load_pretrained(
            AutoModelForImageTextToText,
            model,
            dtype=dtype or "auto",
            quantization_config=_quantization_config(quantization, dtype or torch.float32),
        )
        _compute_odd_widths_plainly(mllm)
        processor = load_processor(model, mllm.config)
        if vision_feature_layer is not None:
            mllm.config.vision_feature_layer = vision_feature_layer
        edit_token_ids = add_edit_tokens(mllm, processor.tokenizer, edit_token, num_edit_tokens)
        mllm = attach(mllm, edit_token_ids, lora, train_embeddings=train_embeddings)
        return cls(mllm, processor, num_edit_tokens=num_edit_tokens, edit_token=edit_token, **reading).eval()

    @classmethod
    def build(cls, config: Config, dtype: torch.dtype | None = None) -> LlavaComprehension:
        """The MLLM behind its adapter, edit tokens added, LoRA attached; see `Comprehension`."""
        part: Any = config.comprehension
        if part.quantization != "none":
            dtype = dtype or torch.float32  # of what is not quantised
        with open_base_model("comprehension.model", part.model, LLAVA) as folder:
            return cls.from_pretrained(
                folder,
                num_edit_tokens=part.num_edit_tokens,
                edit_token=part.edit_token,
                vision_feature_layer=part.vision_feature_layer,
                quantization=part.quantization,
                lora=part.lora,
                train_embeddings=part.train_embeddings,
                dtype=dtype,
                templates=TEMPLATE_SETS[part.templates],
                states_before_tokens=part.states_before_tokens,
                max_length=part.max_length,
            )

    @classmethod
    def build_tokenizer(cls, config: Config) -> EditTokenizer:
        """See `Comprehension`."""
        part: Any = config.comprehension
        with open_base_model("comprehension.model", part.model, LLAVA) as folder:
            return EditTokenizer.from_pretrained(
                folder,
                num_edit_tokens=part.num_edit_tokens,
                edit_token=part.edit_token,
                templates=TEMPLATE_SETS[part.templates],
                max_length=part.max_length,
            )

    @classmethod
    def from_parts(cls, parts: dict[str, Any], settings: Mapping[str, Any]) -> LlavaComprehension:
        """See `Comprehension`."""
        names = ("num_edit_tokens", "edit_token", "states_before_tokens")
        return cls(parts["mllm"], parts["processor"], **{name: settings[name] for name in names})

    @property
    def stock(self) -> Any:
        """The stock model itself; its layers are wrapped in place where peft is at work."""
        return self.mllm.get_base_model() if isinstance(self.mllm, PeftModel) else self.mllm

    @property
    def edit_token_ids(self) -> list[int]:
        """Ids of the R edit tokens, in order."""
        return self._edit_token_ids

    @property
    def num_edit_tokens(self) -> int:
        """R."""
        return len(self.edit_token_ids)

    @property
    def hidden_size(self) -> int:
        """D_llm, width of the edit tokens' states."""
        return self.stock.config.get_text_config().hidden_size

    @property
    def edit_embeddings(self) -> Tensor:
        """(R, D_llm) input embeddings of the edit tokens, as they stand."""
        with in_forward(self.mllm):
            return self.stock.get_input_embeddings()(torch.tensor(self.edit_token_ids, device=self.device))

    @property
    def vision_hidden_size(self) -> int:
        """D_vis, width of the vision patches."""
        return self.stock.config.vision_config.hidden_size

    def tokenize(self, instructions: Sequence[str], images: Sequence[Picture] | None, **options: Any) -> TokenBatch:
        """Prompt + reply + R edit tokens on the CPU; arguments as `EditTokenizer.tokenize`."""
        return self.tokenizer.tokenize(instructions, images, **options)

    def forward(self, tokens: TokenBatch, image_tokens: Tensor | None = None) -> ComprehensionStates:
        """One prefill.

        Args:
            tokens: see `TokenBatch`; every row holds the R edit tokens once.
            image_tokens: none; its pictures stand before the instruction.

        Returns:
            Last-layer states after the final norm (what `lm_head` reads) at the positions whose input is an edit
            token (or one before, see the class), the vision tower's patches before the projector, the mean
            cross-entropy over labelled tokens, and the edit tokens' input embeddings.

        Raises:
            ValueError: if a row does not hold R edit tokens, or placeholders and picture patches differ in number.
        """
        is_edit = self._is_edit(tokens.input_ids)
        with in_forward(self.mllm), self._one_precision():
            inputs_embeds, image_features = self._embed(tokens)
            outputs = self.stock.model.language_model(
                inputs_embeds=inputs_embeds, attention_mask=tokens.attention_mask, use_cache=False
            )
            hidden_states = outputs.last_hidden_state  # (B, T, D_llm)
            lm_loss = None if tokens.labels is None else self._lm_loss(hidden_states, tokens.labels)
        read_at = is_edit.roll(-1, dims=1) if self.states_before_tokens else is_edit
        read_at = read_at.to(hidden_states.device)  # a language model on several devices ends on the last
        return ComprehensionStates(
            edit_hidden_states=hidden_states[read_at].unflatten(0, (-1, self.num_edit_tokens)),
            image_features=image_features,
            lm_loss=lm_loss,
            edit_embeddings=inputs_embeds[0, is_edit[0]],
        )

    @torch.no_grad()
    def answer(
        self,
        questions: Sequence[str],
        images: Sequence[Picture] | None,
        max_new_tokens: int = 64,
        no_repeat_ngram_size: int = 0,
    ) -> list[Answer]:
        """See `Comprehension`; edit tokens and placeholders are never among the words."""
        tokenizer = self.processor.tokenizer
        tokens = self.tokenizer.tokenize_questions(questions, images)
        device = self.device
        picture = {} if tokens.pixel_values is None else {"pixel_values": self._vision_input(tokens.pixel_values)}
        ends = [tokenizer.eos_token_id, self.edit_token_ids[0]]  # after that one it would go on to draw
        with eval_mode(self), in_forward(self.mllm), self._one_precision():
            generated = self.stock.generate(
                input_ids=tokens.input_ids.to(device),
                attention_mask=tokens.attention_mask.to(device),
                **picture,
                max_new_tokens=max_new_tokens,
                no_repeat_ngram_size=no_repeat_ngram_size,
                min_new_tokens=1,
                do_sample=False,
                num_beams=1,
                suppress_tokens=[*self.edit_token_ids[1:], self.stock.config.image_token_id],
                eos_token_id=ends,
                pad_token_id=tokenizer.pad_token_id,
                return_dict_in_generate=True,
                output_scores=True,
            )
        answers = generated.sequences[:, tokens.input_ids.shape[1] :]
        chances = self.stock.compute_transition_scores(generated.sequences, generated.scores, normalize_logits=True)
        is_end = torch.isin(answers, torch.tensor(ends, device=answers.device))
        lengths = ((is_end.cumsum(dim=1) - is_end.int()) == 0).sum(dim=1)  # up to the first end; padding follows
        answers = answers.masked_fill(answers == self.edit_token_ids[0], tokenizer.pad_token_id)
        texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
        rows = zip(texts, chances.cpu(), lengths.tolist(), strict=True)
        return [Answer(text.strip(), tuple(row[:length].tolist())) for text, row, length in rows]

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the language model's layers in the backward pass; memory for time, in train mode only."""
        recompute_activations(self.stock.model.language_model)

    def parts(self) -> dict[str, Any]:
        """`mllm` as it stands, and its processor."""
        return {"mllm": self.mllm, "processor": self.processor}

    def merge(self) -> dict[str, Any]:
        """Stock model with LoRA and token rows folded in, and processor, both copies."""
        return {"mllm": merge(self.mllm), "processor": copy.deepcopy(self.processor)}

    @property
    def device(self) -> torch.device:
        """Where the language model reads its tokens."""
        return execution_device(self.mllm)

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) pictures -> (B, P + 1, D_vis) states of the layer that is read, class token first."""
        outputs = self.stock.model.vision_tower(self._vision_input(pixel_values), output_hidden_states=True)
        return outputs.hidden_states[self.stock.config.vision_feature_layer]

    def _embed(self, tokens: TokenBatch) -> tuple[Tensor, Tensor | None]:
        """(B, T, D_llm) input embeddings with the picture spliced in, and (B, P, D_vis) patches."""
        inputs_embeds = self.stock.get_input_embeddings()(tokens.input_ids)
        states = tokens.image_states
        if states is None:
            if tokens.pixel_values is None:
                return inputs_embeds, None
            states = self.encode_images(tokens.pixel_values)
        config = self.stock.config
        # BIM reads the patches alone; the projector also the class token, if the model was made so
        patches = states[:, -((config.vision_config.image_size // config.vision_config.patch_size) ** 2) :]
        states = patches if config.vision_feature_select_strategy == "default" else states
        projected = self.stock.model.multi_modal_projector(states).to(inputs_embeds)
        is_image = tokens.input_ids == self.stock.config.image_token_id
        if int(is_image.sum()) != projected.shape[0] * projected.shape[1]:
            raise ValueError(
                f"{int(is_image.sum())} image placeholders in the batch for {projected.shape[0]} pictures of "
                f"{projected.shape[1]} patches: make the batch with this model's own `tokenize`."
            )
        return inputs_embeds.masked_scatter(is_image[..., None], projected), patches

    def _vision_input(self, pixel_values: Tensor) -> Tensor:
        tower = self.stock.model.vision_tower
        return pixel_values.to(device=execution_device(tower), dtype=tower.dtype)

    def _is_edit(self, input_ids: Tensor) -> Tensor:
        """(B, T) bool: where the edit tokens are, R in each row."""
        is_edit = torch.isin(input_ids, torch.tensor(self.edit_token_ids, device=input_ids.device))
        counts = is_edit.sum(dim=1)
        if bool((counts != self.num_edit_tokens).any()):
            raise ValueError(
                f"rows hold {counts.tolist()} edit tokens, each needs {self.num_edit_tokens}: "
                "make the batch with this model's own `tokenize`."
            )
        if self.states_before_tokens and bool(is_edit[:, 0].any()):
            raise ValueError(
                "a row begins with an edit token, and there is no state before it: make the batch with this model's "
                "own `tokenize`, which puts the prompt first."
            )
        return is_edit

    def _one_precision(self) -> AbstractContextManager:
        """Autocast where trained tables are wider than the frozen layers they feed (`shrink_language_model`)."""
        # not by `.weight`: that merges the trained rows into the whole table, and under ZeRO-3 binds the rows to this
        # module, which cannot gather them again for the backward pass
        table = next(self.stock.get_input_embeddings().parameters()).dtype
        layers = next(self.stock.model.language_model.norm.parameters()).dtype
        return torch.autocast(self.device.type, layers) if table != layers else nullcontext()

    def _lm_loss(self, hidden_states: Tensor, labels: Tensor) -> Tensor:
        wanted = labels[:, 1:].to(hidden_states.device)
        labelled = wanted != IGNORE  # logits are computed here only: the vocabulary is the widest layer
        logits = self.stock.lm_head(hidden_states[:, :-1][labelled])
        return F.cross_entropy(logits.float(), wanted[labelled])


def _quantization_config(quantization: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """bitsandbytes' description; vision tower, projector and vocabulary stay in floating point."""
    if quantization == "none":
        return None
    skipped = [".*vision_tower", ".*multi_modal_projector", "lm_head"]  # regular expressions from the name's start
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    if quantization == "4bit":
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=skipped
        )
    raise ValueError(f"quantization is {quantization!r}; it is one of none, 4bit, 8bit.")


def _compute_odd_widths_plainly(mllm: nn.Module) -> None:
    """Keep 4-bit layers that are not made of whole blocks from bitsandbytes' fast path on CPUs, which fails on them."""
    for layer in cast("Any", mllm.modules()):
        fast = getattr(layer, "support_avx512bf16_for_cpu", False)
        if fast and (layer.out_features % 32 or layer.in_features % 64):
            layer.support_avx512bf16_for_cpu = False
