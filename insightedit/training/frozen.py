"""What parts that a stage does not train give for a batch, as deep as they reach: what `insightedit cache` keeps.

Autoencoder, CLIP image encoder and text encoder train in no stage. Where nothing of comprehension trains, its states
are kept; where nothing of the bridge does either, the whole condition. Where comprehension trains (LoRA), its image
encoder usually does not. Everything runs as it would in the step itself, on the same batch: the bits are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from insightedit.generation.autoencoder import encode_moments, encode_source
from insightedit.types import EditBatch, FrozenOutputs, TokenBatch

if TYPE_CHECKING:
    from insightedit.model.editor import Editor


class FrozenParts:
    """Which outputs of an editor stay as they are while its stage trains.

    Where instructions hold pictures (MIGE), the text encoder reads them through the denoiser's patch layer and the
    bridge, which train with it, so its states are never kept.

    Args:
        editor: with its trainable parts chosen (`select_trainable`) and in train mode.
    """

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        reader = editor.comprehension
        self.keeps_states = not _trains(reader) and not reader.reads_references
        self.keeps_condition = self.keeps_states and editor.denoiser is not None and not _trains(editor.bridge)
        self._seeing: set[str] | None = None if self.keeps_states else set()  # parameters of the image encoder

    @property
    def names(self) -> set[str]:
        """Parameters of comprehension and bridge that the outputs rest on; known after the first batch."""
        parts = ("comprehension.",) * self.keeps_states + ("bridge.",) * self.keeps_condition
        whole = {name for name, _ in self.editor.named_parameters(remove_duplicate=False) if name.startswith(parts)}
        return whole | (self._seeing or set())

    def decide(self) -> None:
        """What the batches so far had not, later ones are not asked for: a cache says once what it holds."""
        self._seeing = self._seeing or None

    def keep(self, batch: EditBatch) -> EditBatch:
        """A batch with the outputs in `frozen`, without the pictures and texts that nothing reads then."""
        editor, tokens = self.editor, batch.tokens
        kept: dict[str, Any] = {}
        if batch.source_pixels is not None and batch.target_pixels is not None:
            kept["source_latents"] = encode_source(editor.vae, batch.source_pixels, scaled=False)
            kept["target_moments"] = encode_moments(editor.vae, batch.target_pixels)
        with torch.no_grad():
            if editor.image_encoder is not None and batch.clip_target_pixels is not None:
                kept["target_embeds"] = editor.image_encoder(batch.clip_target_pixels).image_embeds
            if batch.text_target_ids is not None:
                kept["text_states"] = editor.text_encoder(batch.text_target_ids).last_hidden_state
        if tokens.reference_pixels is not None:
            latents = encode_source(editor.vae, tokens.reference_pixels, scaled=False)
            tokens = replace(tokens, reference_pixels=None, reference_latents=latents)
        if self.keeps_states:
            states = editor.read(tokens)
            if getattr(editor.bridge, "bim", None) is None:  # which alone reads the vision patches
                states = replace(states, image_features=None)
            if self.keeps_condition:
                kept["condition"] = editor.bridge(states, kept["source_latents"].shape[-2:])
                # the loss of the words and the edit tokens' embeddings are still asked for
                states = replace(states, edit_hidden_states=states.edit_hidden_states[:, :0], image_features=None)
            kept["states"] = states
            tokens = TokenBatch(tokens.input_ids[:0], tokens.attention_mask[:0])
        elif tokens.pixel_values is not None and (seen := self._see(tokens.pixel_values)) is not None:
            tokens = replace(tokens, pixel_values=None, image_states=seen)
        bare = replace(batch, tokens=tokens, source_pixels=None, target_pixels=None, clip_target_pixels=None)
        return replace(bare, frozen=FrozenOutputs(**kept))

    def _see(self, pixel_values: Tensor) -> Tensor | None:
        """The image encoder's states; None where it trains, draws at random, or cannot run alone."""
        if self._seeing is None:
            return None
        called: list[nn.Module] = []
        try:
            with _noting(called):
                states = self.editor.comprehension.encode_images(pixel_values)
        except NotImplementedError:
            states = None
        # a module without weights (dropout) follows its parent's mode, so one may be at work among frozen layers
        random = any(module.training and not any(module.children()) for module in called)
        if states is None or states.requires_grad or random:
            self._seeing = None
            return None
        reached = {id(weight) for module in called for weight in module.parameters(recurse=False)}
        everything = self.editor.named_parameters(remove_duplicate=False)
        self._seeing = self._seeing or {name for name, weight in everything if id(weight) in reached}
        return states


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


@contextmanager
def _noting(called: list[nn.Module]) -> Iterator[None]:
    """Inside, every module that is called is added to a list."""
    handle = register_module_forward_pre_hook(lambda module, _: called.append(module))
    try:
        yield
    finally:
        handle.remove()
