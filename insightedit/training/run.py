"""A stage from its command line to its contract; `insightedit.stage1` to `stage3` are this with a number."""

from __future__ import annotations

import argparse
import json
import logging
import math
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from insightedit.config.load import ConfigError, load_config
from insightedit.console import one_sentence_errors
from insightedit.files import lock_folder
from insightedit.training import checkpoint, run_folder
from insightedit.training.loop import RunSummary, fit
from insightedit.training.model_start import init_from_pretrained, is_model, load_earlier
from insightedit.training.processes import Processes, start_processes, stop_processes
from insightedit.training.trainable import select_trainable

if TYPE_CHECKING:
    from torch import Tensor

    from insightedit.config.schema import Config
    from insightedit.model.editor import Editor

logger = logging.getLogger(__name__)


def run_stage(number: int, argv: Sequence[str] | None = None, *, description: str | None = None) -> RunSummary:
    """Run stage 1, 2 or 3: config, previous stage, editor, loop, contract.

    `argv` is the command line without the program, `description` the text of `--help`.
    """
    arguments = parse_arguments(number, list(sys.argv[1:] if argv is None else argv), description)
    config = read_config(number, arguments)
    processes = start_processes(config.train)
    run_dir = Path(config.output_dir)
    with ExitStack() as held:
        if processes.is_main:
            if arguments.restart:
                checked_previous_run(config, arguments)  # first: nothing is renamed for a run that cannot start
                if run_dir.is_dir():
                    with lock_folder(run_dir):  # nor under the hands of one that is at work
                        pass
                run_folder.set_aside(run_dir)
            held.enter_context(_nothing_half_made(run_dir))
            held.enter_context(lock_folder(run_dir))
            run_folder.claim_run_folder(run_dir, config, processes.world_size)
        processes.barrier()  # the others read the folder only once it is this run's
        return _train(config, run_dir, processes, arguments)


@contextmanager
def _nothing_half_made(run_dir: Path) -> Iterator[None]:
    """Make the run folder; a mistake that is found before the first step leaves none."""
    missing = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"output_dir={run_dir} cannot be made ({error.strerror or error}): name a folder in a place that is yours."
        ) from error
    try:
        yield
    except Exception:
        if missing and not (run_dir / "log.jsonl").exists() and not (run_dir / "checkpoints").exists():
            shutil.rmtree(missing[-1], ignore_errors=True)
        raise


def run_from_command_line(main: Callable[[], Any]) -> None:
    """Call a stage's `main`; a user's mistake ends as one sentence and exit code 2.

    A stage that was asked to stop saves and exits with 130 (Ctrl-C), 143 (SIGTERM) or 75 (`train.max_minutes`,
    SIGUSR1), so that what comes after it does not start.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("insightedit").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    try:
        with one_sentence_errors("the same command goes on from the last checkpoint."):
            done = main()
        if isinstance(done, RunSummary) and done.exit_code:
            raise SystemExit(done.exit_code)
    finally:
        stop_processes()


class OneSentenceParser(argparse.ArgumentParser):
    """Tells wrong usage in one sentence, as every other mistake."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line; argparse's own method, which prints several lines."""
        raise ConfigError(f"{message}; `{self.prog} --help` tells what it takes.")


def parse_arguments(number: int, argv: Sequence[str], description: str | None = None) -> argparse.Namespace:
    """The command line of a stage."""
    parser = OneSentenceParser(
        prog=f"python -m insightedit.stage{number}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", default="insightedit", help="configs/recipes/NAME.yaml (default: insightedit)")
    parser.add_argument(
        "--overlay", action="append", default=[], metavar="NAME", help="configs/overlays/NAME.yaml; may be repeated"
    )
    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="your own YAML, after the overlays"
    )
    parser.add_argument(
        "--init-from",
        metavar="DIR",
        help="run folder of the stage before (default: beside this one), or a finished model: its folder, its hub id, "
        "or `default` for the one that comes with the package",
    )
    parser.add_argument("--restart", action="store_true", help="start anew; the old run folder is kept as *.old-N")
    parser.add_argument(
        "--accept-changed-data",
        action="store_true",
        help="go on although the data set's files changed since the run began",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)  # from launchers
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. train.batch_size=8 optim.lr=1e-4")
    return parser.parse_intermixed_args(argv)


def read_config(number: int, arguments: argparse.Namespace) -> Config:
    """Config of this command line: recipe, stage, overlays, own files, `key=value`."""
    overlays = [*arguments.overlay, *map(Path, arguments.config)]
    config = load_config(arguments.recipe, number, overlays, arguments.overrides)
    return init_from_pretrained(config, arguments.init_from)


def _train(config: Config, run_dir: Path, processes: Processes, arguments: argparse.Namespace) -> RunSummary:
    from insightedit.model.build import build_editor
    from insightedit.pipelines.compose import sample_edits
    from insightedit.training.cache import Cache
    from insightedit.training.data import build_held_out_loader, build_loader
    from insightedit.training.objectives import OBJECTIVES, TrainingStep
    from insightedit.training.samples import SampleLogger, fixed_samples

    quiet_libraries()
    newest = checkpoint.CheckpointFolder(run_dir / "checkpoints").latest()
    if newest is not None and (run_dir / run_folder.CONTRACT).exists():
        trainer = json.loads((newest / "trainer.json").read_text())
        minutes = math.inf if config.train.total_minutes is None else config.train.total_minutes
        if trainer["step"] >= config.train.max_steps or trainer["seconds"] >= 60 * minutes:
            logger.info("%s is finished (%d steps); --restart trains it anew", run_dir, trainer["step"])
            return RunSummary(run_dir, trainer["step"], trainer["losses"], trainer["seconds"], trainer["step"])
    before = checked_previous_run(config, arguments) if newest is None else None
    cache = Cache(config) if config.data.cache else None
    try:
        # under autocast the frozen language model computes in bfloat16 in whatever type it is held
        dtype = torch.float32 if config.train.precision == "fp32" else None
        editor = cache.build_editor(dtype) if cache else build_editor(config, dtype)
    except ConfigError:
        raise
    except ValueError as error:  # parts that do not fit each other are the user's mistake
        raise ConfigError(str(error)) from error
    if config.train.gradient_checkpointing:
        save_memory(editor)
    # after all is built: what stays new is drawn from train.seed
    earlier = inherit(editor, config, run_dir, before, processes)
    share = {"rank": processes.rank, "world_size": processes.world_size}
    draws = config.stage.objective != "align" and config.train.num_samples and not editor.absent
    if cache:
        if processes.is_main:
            cache.check(editor, earlier, processes.world_size)
        cache.free(editor, draws=bool(draws))
    loader = cache.loader(**share) if cache else build_loader(config, editor, **share)
    if processes.is_main:
        accepts = arguments.accept_changed_data
        run_folder.check_data(run_dir, loader.batches.mixture.fingerprint(), fresh=newest is None, accepts=accepts)
    processes.barrier()  # nobody trains on data that the main process refuses
    callback = None
    if draws and (samples := fixed_samples(config)):
        folder, every = run_dir / "samples", config.train.sample_every
        callback = SampleLogger(folder, every, lambda seen: sample_edits(editor, config, seen), samples)
    summary = fit(
        TrainingStep(editor, OBJECTIVES[config.stage.objective], config),
        loader,
        run_dir,
        processes=processes,
        held_out=cache.held_out_loader(**share) if cache else build_held_out_loader(config, editor, **share),
        callback=callback,
    )
    if summary.finished and processes.is_main:
        run_folder.write_contract(run_dir, config, editor, summary.steps)
        logger.info("stage %d is done: %d steps, %s", config.stage.number, summary.steps, run_dir)
    processes.barrier()  # whichever process ends first, the contract is there
    return summary


def checked_previous_run(config: Config, arguments: argparse.Namespace) -> Path | None:
    """Run folder of the stage before, whose contract fits, or a model's folder; None for the first stage."""
    before = run_folder.previous_run(config)
    if before is not None and not is_model(before):
        command, earlier = None, [stage for stage in config.stages if stage < config.stage.number]
        if earlier:  # the same command line, without what belongs to this stage alone
            words = ["--recipe", arguments.recipe]
            for flag, names in (("--overlay", arguments.overlay), ("--config", arguments.config)):
                words += [word for name in names for word in (flag, name)]
            command = f"python -m insightedit.stage{earlier[-1]} {shlex.join(words)}"
        run_folder.check_contract(run_folder.read_contract(before, command=command), config, before)
    return before


def inherit(
    editor: Editor, config: Config, run_dir: Path, before: Path | None, processes: Processes
) -> dict[str, Tensor]:
    """Load what earlier stages made; returns it by parameter, of a run that goes on without what it trains itself.

    What this stage does not train itself is kept in the run folder, which then holds all that was learnt, and what
    was drawn at random for it.
    """
    path = run_dir / checkpoint.INHERITED
    if before is None and path.exists():  # this run goes on
        weights = checkpoint.load_tensors(path)
        checkpoint.load_weights(editor, weights, path)
        return weights
    weights = load_earlier(editor, before)
    anew = checkpoint.drawn_buffers(editor, weights.keys()).keys() - weights.keys()
    if anew and processes.is_main:
        logger.warning(
            "%s does not hold %s, which its weights were trained with: drawn anew, places have to be learned again. "
            "If its config.yaml has another train.seed, set that one.",
            before,
            ", ".join(sorted(anew)),
        )
    trained = set(select_trainable(editor, config.stage.trainable).names)
    kept = {name: value for name, value in weights.items() if name not in trained}
    kept |= checkpoint.drawn_buffers(
        editor, trained | weights.keys()
    )  # another seed or order of building draws others
    if processes.is_main:
        path.unlink(missing_ok=True)  # of a start that was killed before its first checkpoint
        if kept:
            checkpoint.save_tensors(path, kept)
        if before:
            logger.info("took %d weights over from %s", len(weights), before)
    processes.barrier()
    return weights


def save_memory(editor: Editor) -> None:
    """Recompute activations in the backward pass instead of keeping them (`train.gradient_checkpointing`)."""
    editor.comprehension.enable_gradient_checkpointing()
    if editor.denoiser is not None:
        editor.denoiser.enable_gradient_checkpointing()


def quiet_libraries() -> None:
    """No loading bars and weight reports: the run's own log is what is to be read."""
    import diffusers
    import transformers

    for package in (diffusers, transformers):
        package.utils.logging.set_verbosity_error()
        package.utils.logging.disable_progress_bar()
