"""`insightedit cache`: what frozen parts give for the first samples of a stage, made once and read by that stage.

A cache tells what its outputs follow from, as facts with names: settings, digests of the weights' files, of the first
records, prompts and prepared pictures. A stage computes the same facts without loading what the cache stands for, and
refuses a cache whose facts differ.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from insightedit.files import check_folder, installed_versions
from insightedit.model.build import build_editor, comprehension_class
from insightedit.modeling.devices import fast_cpu_attention
from insightedit.training.cache_facts import fact_changes, facts_of
from insightedit.training.cache_folder import (
    FORMAT,
    HEAD,
    HELD_OUT,
    CachedBatches,
    CachedLoader,
    CacheFolder,
    CacheHead,
    past_the_end,
    read_head,
    write_head,
)
from insightedit.training.checkpoint import StageError
from insightedit.training.data import build_held_out, build_held_out_loader, build_loader, build_mixture
from insightedit.training.engine import shrink_language_model
from insightedit.training.frozen import FrozenParts
from insightedit.training.model_start import load_earlier
from insightedit.training.objectives import OBJECTIVES, TrainingStep
from insightedit.training.run_folder import PACKAGES
from insightedit.training.trainable import matching, select_trainable

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.datasets.loader import StepLoader
    from insightedit.datasets.mixture import Mixture
    from insightedit.model.editor import Editor
    from insightedit.types import EditBatch

logger = logging.getLogger(__name__)
SAMPLES_A_FILE = 128  # what a kill loses at most
LOOKED_AT = 16  # first batches, of which one with pictures tells what is kept


class AbsentComprehension(nn.Module):
    """Stands where a language model would, which is not loaded because a cache holds what it gave."""

    reads_references = False

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__()
        self.hidden_size: int = told["hidden_size"]
        self.vision_hidden_size: int = told["vision_hidden_size"]
        self.edit_token_ids: list[int] = told["edit_token_ids"]
        self.tokenizer = None

    def enable_gradient_checkpointing(self) -> None:
        """Nothing runs here."""


class Cache:
    """A cache that a stage reads; the folder is opened, and its format checked.

    Raises:
        StageError: if the folder is no cache.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = Path(str(config.data.cache))
        self.head = read_head(self.folder, "data.cache")
        self.batches = CacheFolder(self.folder)

    def build_editor(self, dtype: torch.dtype | None) -> Editor:
        """The stage's editor without the language model and the image encoder whose outputs are here."""
        reader = self.head.reader
        taught = "target_embeds" in self.head.holds
        if reader is None:
            return build_editor(self.config, dtype, with_image_encoder=not taught)

        def stand_in() -> AbsentComprehension:
            # as if it had been built: new layers of bridge and denoiser are drawn from here on
            torch.set_rng_state(torch.frombuffer(bytearray.fromhex(self.head.random_state), dtype=torch.uint8).clone())
            return AbsentComprehension(reader)

        editor = build_editor(self.config, dtype, read_with=stand_in, with_image_encoder=not taught)
        editor.absent = frozenset(reader["parameters"])
        return editor

    def check(self, editor: Editor, earlier: Mapping[str, Tensor], world_size: int) -> None:
        """Refuse a cache of other things than this stage reads, trains, or asks for; `earlier` as `facts_of` has it."""
        config, told = self.config, f"data.cache {self.folder}"
        rests_on = self.head.rests_on
        everything = [name for name, _ in editor.named_parameters(remove_duplicate=False)]
        chosen = matching([*everything, *editor.absent], config.stage.trainable)
        if both := sorted(chosen & set(rests_on)):
            raise StageError(
                f"{told} holds what {both[0]} gave while it did not train, and stage.trainable chooses it "
                f"({len(both)} such weights): make a cache with this stage's settings, or leave it frozen."
            )
        facts = facts_of(config, editor, self.head.holds, rests_on, earlier)
        if changes := fact_changes(self.head.facts, facts):
            raise StageError(
                f"{told} was made of something else: {'; '.join(changes)}. Put it back, or make another one with "
                "`insightedit cache` and this stage's arguments."
            )
        then, now = self.head.made_with, made_with(editor.device)
        if odd := [f"{name} {then.get(name)}" for name in now if then.get(name) != now[name]]:
            logger.warning("%s was made with %s: last bits may differ from a run without it", told, ", ".join(odd))
        samples = self.batches.num_batches() * config.train.batch_size
        steps = config.train.max_steps * config.train.gradient_accumulation_steps
        ends_earlier = config.data.cache_repeat or config.train.total_minutes is not None
        if steps * config.train.batch_size * world_size > samples and not ends_earlier:
            raise StageError(past_the_end(self.folder, samples))

    def free(self, editor: Editor, *, draws: bool) -> None:
        """Drop frozen parts that nothing asks for any more; a stage that `draws` samples needs its autoencoder."""
        if not draws and editor.denoiser is not None:
            editor.vae = editor.text_encoder = None

    def loader(self, rank: int, world_size: int) -> CachedLoader:
        """The stage's batches."""
        data = self.config.data
        batches = self._batches(self.batches, build_mixture(self.config), rank, world_size)
        batches.repeats = data.cache_repeat
        return CachedLoader(batches, num_workers=data.num_workers, prefetch_factor=data.prefetch_factor)

    def held_out_loader(self, rank: int, world_size: int) -> CachedLoader | None:
        """The batches of the validation loss; None where no source holds something out."""
        held_out = build_held_out(self.config)
        if held_out is None:
            return None
        batches = self._batches(CacheFolder(self.folder / HELD_OUT), held_out, rank, world_size)
        if not batches.count:
            raise StageError(
                f"data.cache {self.folder} holds no batches for the validation loss: the command that made it makes "
                "them with the first samples (--start 0) and --resume."
            )
        batches.repeats = True  # their number is rounded up to the processes'
        return CachedLoader(batches)

    def _batches(self, folder: CacheFolder, mixture: Mixture, rank: int, world_size: int) -> CachedBatches:
        size = self.config.train.batch_size
        return CachedBatches(folder, mixture, batch_size=size, rank=rank, world_size=world_size)


def make_cache(
    config: Config,
    before: Path | None,
    out: Path,
    *,
    start: int = 0,
    count: int,
    resume: bool = False,
    device: torch.device,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> CacheHead:
    """Make the batches that hold samples `start` to `start + count` of a stage, those that are there already excepted.

    Args:
        config: the stage's.
        before: run folder of the stage before, or a model's; None for a first stage.
        out: folder to write; others may write other ranges of it at the same time.
        start: first sample, a multiple of the batch size.
        count: samples, rounded up to whole batches.
        resume: go on where files of this range are there.
        device: to compute on.
        progress: called with the batches done and to do.

    Returns:
        What `cache.json` says.

    Raises:
        StageError: if the folder holds something else, or files of the range while `resume` is false.
    """
    size = config.train.batch_size
    if start % size:
        raise StageError(f"--start {start} is no multiple of train.batch_size {size}: batches begin at its multiples.")
    check_folder(out)
    if out.is_dir() and any(out.iterdir()) and not (out / HEAD).is_file():
        raise StageError(f"--out {out} is there and holds no cache: name another folder.")
    first, end = start // size, start // size + -(-count // size)
    folder = CacheFolder(out)
    gaps = folder.missing(first, end)
    if gaps != [(first, end)] and not resume:
        raise StageError(f"--out {out} holds samples of this range: go on with --resume, or name another folder.")
    random_state: list[Tensor] = []

    def read_with() -> Any:
        dtype = torch.float32 if config.train.precision == "fp32" else None
        reader = comprehension_class(config).build(config, dtype)
        random_state.append(torch.get_rng_state())
        return reader

    editor = build_editor(config, read_with=read_with)
    earlier = load_earlier(editor, before)
    step = _frozen_step(editor, config, device)
    parts = FrozenParts(editor)
    loader = build_loader(config, editor)
    head = _head(step, parts, loader, earlier, random_state[0])
    if (out / HEAD).is_file():
        there = read_head(out, "--out")
        changes = fact_changes(there.facts, head.facts)
        if (there.holds, there.rests_on) != (head.holds, head.rests_on):
            changes = ["other parts train (stage.trainable)"]
        if changes:
            raise StageError(
                f"--out {out} holds a cache of something else: {'; '.join(changes)}. Name another folder."
            )
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_head(out, head)
    total, done = sum(stop - begin for begin, stop in gaps), 0
    for begin, stop in gaps:
        loader.position = begin
        stream = iter(loader)  # one for all files of a gap, so that workers stay
        for lower in range(begin, stop, a_file := max(1, SAMPLES_A_FILE // size)):
            batches = [_kept(step, parts, batch) for batch in islice(stream, min(a_file, stop - lower))]
            folder.write(lower, batches)
            done += len(batches)
            progress(done, total)
    if start == 0:
        _keep_held_out(step, parts, out)
    return head


def _frozen_step(editor: Editor, config: Config, device: torch.device) -> TrainingStep:
    """The step as an engine has it before its first batch: what trains is chosen, modes, types and device are set."""
    step = TrainingStep(editor, OBJECTIVES[config.stage.objective], config)
    select_trainable(editor, config.stage.trainable)
    if config.train.precision == "bf16":
        shrink_language_model(editor, float32=device.type == "cuda")
    return step.to(device).train()


def _kept(step: TrainingStep, parts: FrozenParts, batch: EditBatch) -> EditBatch:
    device = parts.editor.device
    with fast_cpu_attention(device), step.precision():
        return parts.keep(batch.to(device)).to("cpu")


def _head(
    step: TrainingStep, parts: FrozenParts, loader: StepLoader, earlier: Mapping[str, Tensor], random_state: Tensor
) -> CacheHead:
    """What the folder is to say; one batch is computed to see what is kept of it."""
    editor, config = parts.editor, step.config
    first = list(islice(loader, 1))
    with_pictures = (batch for batch in islice(loader, LOOKED_AT) if batch.tokens.pixel_values is not None)
    batch = _kept(step, parts, next(with_pictures, first[0]))
    parts.decide()
    holds = [name for name, value in vars(batch.frozen).items() if value is not None]
    holds += ["image_states"] * (batch.tokens.image_states is not None)
    reader = editor.comprehension
    told = {
        "hidden_size": reader.hidden_size,
        "vision_hidden_size": reader.vision_hidden_size,
        "edit_token_ids": [int(number) for number in reader.edit_token_ids],
        "parameters": [f"comprehension.{name}" for name, _ in reader.named_parameters(remove_duplicate=False)],
    }
    return CacheHead(
        format=FORMAT,
        facts=facts_of(config, editor, holds, parts.names, earlier),
        holds=holds,
        rests_on=sorted(parts.names),
        reader=told if parts.keeps_states else None,
        random_state=random_state.numpy().tobytes().hex(),
        made_with=made_with(editor.device),
    )


def _keep_held_out(step: TrainingStep, parts: FrozenParts, out: Path) -> None:
    """The batches of the validation loss, once."""
    config = step.config
    loader = build_held_out_loader(config, parts.editor, rank=0, world_size=1)
    if loader is None:
        return
    (out / HELD_OUT).mkdir(exist_ok=True)
    folder = CacheFolder(out / HELD_OUT)
    end = -(-config.train.num_validation // config.train.batch_size)
    step.eval()
    for begin, stop in folder.missing(0, end):
        loader.position = begin
        folder.write(begin, [_kept(step, parts, batch) for batch in islice(loader, stop - begin)])
    step.train()


def made_with(device: torch.device) -> dict[str, str]:
    """What may round otherwise: versions of the packages, and the kind of device."""
    return installed_versions(*(name for name in PACKAGES if name != "insightedit")) | {"device": device.type}
