"""`insightedit cache`: a stage that reads what its frozen parts gave has the bits of one that runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from insightedit import stage1, stage2, stage3
from insightedit.cli.main import app
from insightedit.comprehension.llava import LlavaComprehension
from insightedit.config import load_config
from insightedit.config.load import ConfigError
from insightedit.training import cache as caching
from insightedit.training.cache import Cache, make_cache
from insightedit.training.cache_facts import files_digest
from insightedit.training.cache_folder import HEAD, CacheFolder, read_head
from insightedit.training.checkpoint import StageError, stage_weights

STAGES = {1: stage1.main, 2: stage2.main, 3: stage3.main}
FROZEN = "stage.trainable=[bridge.*,unet.*]"
LATENTS = {"source_latents", "target_moments"}


def words(recipe: str, *more: str) -> list[str]:
    """A tiny stage of three steps of two samples; stage 3 begins on the base models."""
    run = ["train.max_steps=3", "train.log_every=1", "train.save_every=100", "train.num_samples=0", "stages=[3]"]
    return ["--recipe", recipe, "--overlay", "tiny", *run, *more]


def kept(out: Path, arguments: list[str], *options: str) -> Path:
    """Make a cache by the command line."""
    result = CliRunner().invoke(app, ["cache", *arguments, "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    return out


def told(run_dir: Path) -> list[dict[str, float]]:
    """What the log says of losses and gradients."""
    lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    clock = {"time", "samples_per_second", "eta_seconds"}
    return [{name: value for name, value in line.items() if name not in clock} for line in lines]


def assert_equal_runs(one: Path, other: Path) -> None:
    assert told(one) == told(other)
    ours, theirs = stage_weights(one), stage_weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


CASES = {
    "insightedit as it is": (
        3,
        words("insightedit", "train.num_samples=1"),
        LATENTS | {"target_embeds", "image_states"},
    ),
    "insightedit, language model frozen": (
        3,
        words("insightedit", FROZEN, "train.precision=bf16"),
        LATENTS | {"target_embeds", "states"},
    ),
    "insightedit, bridge frozen": (
        3,
        words("insightedit", 'stage.trainable=[unet.*,"!comprehension.*"]'),
        LATENTS | {"target_embeds", "states", "condition"},
    ),
    "smartedit as it is": (3, words("smartedit", "train.precision=bf16"), LATENTS | {"image_states"}),
    "smartedit, language model frozen": (3, words("smartedit", FROZEN), LATENTS | {"states"}),
    "mgie as it is": (3, words("mgie"), LATENTS | {"image_states"}),
    "mgie, language model frozen": (3, words("mgie", FROZEN), LATENTS | {"states"}),
    "mgie, edit head frozen": (3, words("mgie", "stage.trainable=[unet.*]"), LATENTS | {"states", "condition"}),
    "mige as it is": (3, words("mige"), LATENTS),
    "mige, text encoder and BLIP-2 frozen": (
        3,
        words("mige", "stage.trainable=[bridge.*,transformer.*]", "train.precision=bf16"),
        LATENTS | {"image_states"},
    ),
    "stage 1": (1, words("insightedit", "stages=[1,2,3]"), {"text_states"}),
    "stage 1 with pictures, language model frozen": (
        1,
        words(
            "insightedit",
            "stages=[1,2,3]",
            "stage.trainable=[bridge.qformer.*]",
            "data.sources=[{kind: resolved}]",
            "qformer.token_head=true",
        ),
        {"text_states", "states"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_losses_and_weights_are_bit_equal_with_and_without(case, tmp_path, monkeypatch):
    stage, arguments, holds = CASES[case]
    folder = kept(tmp_path / "kept", arguments, "--stage", str(stage), "--count", "6")
    assert set(read_head(folder, "").holds) == holds
    plain = STAGES[stage]([*arguments, f"output_dir={tmp_path}/plain"])
    if "states" in holds:  # then the language model is not even loaded
        monkeypatch.setattr(LlavaComprehension, "build", classmethod(lambda *_: pytest.fail("it was loaded")))
    cached = STAGES[stage]([*arguments, f"output_dir={tmp_path}/cached", f"data.cache={folder}"])
    assert (plain.steps, cached.steps) == (3, 3)
    assert_equal_runs(plain.run_dir, cached.run_dir)


def test_a_later_stage_goes_on_with_what_an_absent_language_model_learnt(tmp_path):
    """The LoRA of stage 2 is kept for the export; a run may go on with a cache that it began without, or anew."""
    chain = ["--recipe", "smartedit", "--overlay", "tiny", "train.max_steps=2", "train.log_every=1", "stages=[2,3]"]
    stage2.main([*chain, f"output_dir={tmp_path}/stage2"])
    arguments = [*chain, FROZEN, "--init-from", f"{tmp_path}/stage2"]
    folder = kept(tmp_path / "kept", arguments, "--count", "4")
    plain = stage3.main([*arguments, f"output_dir={tmp_path}/plain"])
    begun = [*arguments, f"output_dir={tmp_path}/both"]
    assert stage3.main([*begun, "train.max_minutes=0"]).exit_code == 75
    both = stage3.main([*begun, f"data.cache={folder}"])
    assert (both.resumed_from, both.steps) == (1, 2)
    assert_equal_runs(plain.run_dir, both.run_dir)
    assert any("lora_" in name for name in stage_weights(both.run_dir))
    with pytest.raises(StageError, match="what earlier stages taught comprehension differ"):
        stage3.main([*chain, FROZEN, "stages=[3]", f"output_dir={tmp_path}/other", f"data.cache={folder}"])


class TestMaking:
    arguments = words("smartedit", FROZEN)

    def contents(self, folder: Path) -> dict[str, torch.Tensor]:
        return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}

    def assert_same(self, one: Path, other: Path) -> None:
        ours, theirs = self.contents(one), self.contents(other)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())

    def test_a_killed_one_goes_on(self, tmp_path, monkeypatch):
        straight = kept(tmp_path / "straight", self.arguments, "--count", "7")
        assert sorted(path.name for path in straight.glob("*.safe*")) == ["batches-00000000-00000004.safetensors"]
        monkeypatch.setattr(caching, "SAMPLES_A_FILE", 4)

        def kill(done: int, total: int) -> None:
            raise KeyboardInterrupt

        config = load_config("smartedit", 3, ["tiny"], self.arguments[4:])
        with pytest.raises(KeyboardInterrupt):
            make_cache(config, None, tmp_path / "cut", count=7, device=torch.device("cpu"), progress=kill)
        assert CacheFolder(tmp_path / "cut").ranges == [(0, 2)]
        refused = CliRunner().invoke(app, ["cache", *self.arguments, "--out", str(tmp_path / "cut"), "--count", "7"])
        assert refused.exit_code == 2
        assert "holds samples of this range: go on with --resume, or name another folder" in refused.output
        kept(tmp_path / "cut", self.arguments, "--count", "7", "--resume")
        self.assert_same(straight, tmp_path / "cut")

    def test_two_processes_fill_one_folder(self, tmp_path):
        both = tmp_path / "both"
        commands = [
            [sys.executable, "-m", "insightedit", "cache", *self.arguments, "--out", str(both), *part]
            for part in (["--count", "4"], ["--start", "4", "--count", "2"])
        ]
        # as many threads as here: sums over other parts have other last bits
        own = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        for process in [subprocess.Popen(command, stdout=subprocess.DEVNULL, env=own) for command in commands]:
            assert process.wait() == 0
        assert CacheFolder(both).ranges == [(0, 2), (2, 3)]
        self.assert_same(kept(tmp_path / "one", self.arguments, "--count", "6"), both)
        (both / "batches-00000000-00000002.safetensors").unlink()
        with pytest.raises(
            StageError, match=r"lacks batches 0 to 1 of 3: let the processes that make it end, or make"
        ):
            CacheFolder(both).num_batches()

    def test_what_it_refuses(self, tmp_path):
        config = load_config("smartedit", 3, ["tiny"], self.arguments[4:])

        def make(out: Path, config=config, **options) -> None:
            make_cache(config, None, out, count=2, device=torch.device("cpu"), **options)

        with pytest.raises(StageError, match=r"--start 3 is no multiple of train.batch_size 2"):
            make(tmp_path / "odd", start=3)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes.txt").write_text("mine")
        with pytest.raises(StageError, match="is there and holds no cache: name another folder"):
            make(tmp_path / "mine")
        kept(tmp_path / "kept", self.arguments, "--count", "2")
        other = replace(config, train=replace(config.train, seed=1))
        with pytest.raises(StageError, match=r"holds a cache of something else: .*train.seed was 0 and is 1"):
            make(tmp_path / "kept", other, start=2)
        deeper = replace(config, stage=replace(config.stage, trainable=["unet.*"]))
        with pytest.raises(StageError, match=r"something else: other parts train \(stage.trainable\)"):
            make(tmp_path / "kept", deeper, start=2)


def pairs(folder: Path, shade: int = 0) -> Path:
    """Forty pairs of one file, its picture of a fixed size in bytes."""
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    for name in ("source", "target"):
        pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        pixels[0, 0] = shade
        Image.fromarray(pixels).save(folder / f"{name}.bmp")
    row = {"source": "source.bmp", "target": "target.bmp", "instruction": "remove the dog"}
    (folder / "pairs.jsonl").write_text("".join(json.dumps({**row, "id": n}) + "\n" for n in range(40)))
    return folder / "pairs.jsonl"


def test_the_validation_loss_reads_batches_of_its_own(tmp_path):
    source = f"data.sources=[{{kind: jsonl, path: {pairs(tmp_path / 'data')}, val_fraction: 0.3}}]"
    arguments = words("insightedit", FROZEN, source, "train.validate_every=2", "train.num_validation=3")
    folder = kept(tmp_path / "kept", arguments, "--count", "6")
    plain = stage3.main([*arguments, f"output_dir={tmp_path}/plain"])
    cached = stage3.main([*arguments, f"output_dir={tmp_path}/cached", f"data.cache={folder}"])
    assert [line["step"] for line in told(plain.run_dir) if "val/loss" in line] == [2, 3]
    assert_equal_runs(plain.run_dir, cached.run_dir)
    shutil.rmtree(folder / "held_out")
    with pytest.raises(StageError, match="holds no batches for the validation loss: the command that made it"):
        stage3.main([*arguments, f"output_dir={tmp_path}/third", f"data.cache={folder}"])


def own_words(world: Path, *more: str) -> list[str]:
    """A stage on base models and pairs of one's own, that trains the UNet alone."""
    places = {"comprehension.model": "llava", "generation.model": "sd", "generation.image_encoder": "clip"}
    own = [f"{key}={world / name}" for key, name in places.items()]
    source = f"data.sources=[{{kind: jsonl, path: {world / 'data' / 'pairs.jsonl'}}}]"
    return words("insightedit", *own, source, "stage.trainable=[unet.*]", *more)


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_root) -> Path:
    """These models and pairs, and the cache `kept` of them."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("sd", "clip", "llava"):
        shutil.copytree(tiny_root / name, folder / name)
    pairs(folder / "data")
    return kept(folder / "kept", own_words(folder), "--count", "6").parent


class TestReading:
    """A cache of everything but the UNet, and all that may have changed since."""

    def read(self, world: Path, *more: str, folder: str = "kept") -> Cache:
        """Open and check as a stage does."""
        arguments = [*own_words(world), f"data.cache={world / folder}", *more]
        cache = Cache(load_config("insightedit", 3, ["tiny"], arguments[4:]))
        cache.check(cache.build_editor(torch.float32), {}, 1)
        return cache

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ("train.batch_size=1", "train.batch_size was 2 and is 1"),
            ("train.seed=3", "train.seed was 0 and is 3"),
            ("train.precision=bf16", "train.precision was fp32 and is bf16"),
            ("generation.resolution=64", "generation.resolution was 32 and is 64"),
            (
                "comprehension.templates=thirty",
                "comprehension.templates was few and is thirty; prompts and tokens of the first records differ",
            ),
            ("comprehension.vision_feature_layer=-2", "comprehension.vision_feature_layer was -1 and is -2"),
            ("bim.text_scale=0.25", r"bridge.bim.text_scale was 0.5 and is 0.25"),
            ("bridge.bim=null", "bridge.bim built was True and is False"),
            ("stage.use_iaa=false", "stage.use_iaa was True and is False"),
            ("data.sources=[{kind: scenes}]", "data.sources differ; files of 0-jsonl differ"),
            ("stage.trainable=[bridge.iaa.*]", "holds what bridge.iaa.* gave while it did not train"),
            ("stage.trainable=[comprehension.*lora_*]", r"what comprehension.*lora_.* it did not train, .*chooses it"),
            ("train.max_steps=4", "holds 6 samples, and this run takes more: make more of them"),
        ],
    )
    def test_another_setting_is_named(self, world, change, sentence):
        with pytest.raises(StageError, match=f"data.cache .*{sentence}"):
            self.read(world, change)

    @pytest.mark.parametrize("change", ["optim.lr=1", "train.max_steps=2", "loss.noise=2", "describe_prompt=what?"])
    def test_what_does_not_touch_it_may_change(self, world, change):
        assert self.read(world, change).batches.num_batches() == 3

    @pytest.mark.parametrize(
        ("file", "sentence"),
        [
            ("sd/vae/diffusion_pytorch_model.safetensors", "weights of generation.model's vae differ"),
            ("clip/model.safetensors", "weights of generation.image_encoder differ"),
            ("llava/model.safetensors", "weights of comprehension.model differ"),
            ("data/source.bmp", "the first records of 0-jsonl differ; the first records differ"),
            ("data/pairs.jsonl", "files of 0-jsonl differ"),
        ],
    )
    def test_another_file_is_named(self, world, tmp_path, file, sentence):
        path = world / file
        before = path.read_bytes()
        path.write_bytes(before + b"\n" if path.suffix == ".jsonl" else before[:-1] + bytes([before[-1] ^ 1]))
        try:
            with pytest.raises(StageError, match=rf"was made of something else: {sentence}\. Put it back"):
                self.read(world)
        finally:
            path.write_bytes(before)

    def test_a_moved_world_is_the_same(self, world, tmp_path):
        shutil.copytree(world, tmp_path / "moved")
        assert self.read(tmp_path / "moved").batches.num_batches() == 3

    def test_folders_that_are_none(self, world, tmp_path):
        with pytest.raises(StageError, match=r"holds no cache.json: name a folder that `insightedit cache` made"):
            self.read(world, folder="data")
        shutil.copytree(world / "kept", world / "odd", dirs_exist_ok=True)
        head = json.loads((world / "odd" / HEAD).read_text())
        (world / "odd" / HEAD).write_text(json.dumps(head | {"format": 99}))
        with pytest.raises(
            StageError, match=r"has the format 99, this version of insightedit reads 1: make the cache"
        ):
            self.read(world, folder="odd")
        (world / "odd" / HEAD).write_text("{")
        with pytest.raises(StageError, match=r"its cache.json cannot be read \(.*; make the cache anew"):
            self.read(world, folder="odd")

    def test_base_models_are_looked_for_on_this_disk_alone(self):
        with pytest.raises(ConfigError, match=r"comprehension.model: nobody/nothing cannot be loaded as a base model"):
            files_digest("comprehension.model", "nobody/nothing")

    def test_other_versions_are_told(self, world, tmp_path, caplog):
        shutil.copytree(world / "kept", world / "older", dirs_exist_ok=True)
        head = json.loads((world / "older" / HEAD).read_text())
        head["made_with"]["torch"] = "1.0"
        (world / "older" / HEAD).write_text(json.dumps(head))
        self.read(world, folder="older")
        assert "was made with torch 1.0: last bits may differ from a run without it" in caplog.text

    def test_past_its_end_it_stops_or_begins_again(self, world):
        cache = self.read(world)
        with pytest.raises(StageError, match=r"holds 6 samples, .* begin again from the first with data.cache_repeat"):
            list(islice(cache.loader(0, 1), 4))
        again = self.read(world, "data.cache_repeat=true", "train.max_steps=9", "data.num_workers=1")
        batches = list(islice(again.loader(0, 1), 5))
        for number in (0, 1):
            first, later = (batches[place].frozen.condition for place in (number, 3 + number))
            assert torch.equal(first.encoder_hidden_states, later.encoder_hidden_states)
        assert not torch.equal(first.encoder_hidden_states, batches[0].frozen.condition.encoder_hidden_states)

    def test_processes_share_its_batches(self, world):
        cache = self.read(world)
        straight = [batch.changed_mask for batch in islice(cache.loader(0, 1), 2)]
        shares = [next(iter(cache.loader(rank, 2))).changed_mask for rank in (0, 1)]
        assert all(torch.equal(one, other) for one, other in zip(straight, shares, strict=True))
        loader = cache.loader(0, 1)
        loader.load_state_dict({"position": 1, "offset": 0, "stride": 3})
        with pytest.raises(StageError, match="goes on at sample 3, which is no multiple of train.batch_size 2"):
            next(iter(loader))

    def test_a_damaged_file_is_named(self, world, tmp_path):
        shutil.copytree(world / "kept", world / "damaged", dirs_exist_ok=True)
        file = world / "damaged" / "batches-00000000-00000003.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
        cache = self.read(world, folder="damaged")
        with pytest.raises(StageError, match=r"batches-00000000-00000003.* cannot be read .*remove it, and make it"):
            next(iter(cache.loader(0, 1)))
