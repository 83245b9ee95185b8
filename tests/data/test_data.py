"""Sources, mixture, collation and the loader's exact position."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from insightedit.config.load import ConfigError, load_config
from insightedit.config.schema import SourceConfig
from insightedit.datasets.loader import StepLoader, changed_mask, resize_square, to_pixels
from insightedit.datasets.mixture import Mixture
from insightedit.datasets.sources import build_source
from insightedit.types import EditRecord


class Numbers:
    """A source whose record `i` says `i`; every third one is broken if asked for."""

    def __init__(self, name: str, broken: bool = False) -> None:
        self.name, self.broken = name, broken

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> EditRecord:
        if self.broken and index % 3 == 0:
            raise OSError("cannot read")
        return EditRecord(key=f"{self.name}/{index}", instruction=str(index))


def keys(records: list[EditRecord], indices: list[int]) -> list[str]:
    return [r.key for r in records]


def test_mixture_follows_the_weights() -> None:
    mixture = Mixture({"a": Numbers("a"), "b": Numbers("b")}, {"a": 3, "b": 1}, seed=0)
    counts = Counter(mixture.place(i)[0] for i in range(2000))
    assert counts["a"] / 2000 == pytest.approx(0.75, abs=0.04)


def test_mixture_is_a_pure_function() -> None:
    first = Mixture({"a": Numbers("a"), "b": Numbers("b")}, {"a": 1, "b": 1}, seed=5)
    again = Mixture({"a": Numbers("a"), "b": Numbers("b")}, {"a": 1, "b": 1}, seed=5)
    other = Mixture({"a": Numbers("a"), "b": Numbers("b")}, {"a": 1, "b": 1}, seed=6)
    assert [first[i].key for i in range(20)] == [again[i].key for i in (range(20))]
    assert [first[i].key for i in range(20)] != [other[i].key for i in range(20)]


def test_broken_records_are_skipped_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    mixture = Mixture({"a": Numbers("a", broken=True)}, {"a": 1}, seed=0)
    places = [int(mixture[i].instruction) for i in range(60)]
    assert all(p % 3 for p in places)
    assert mixture.broken["a"] == len(caplog.records) > 5
    assert "skipped broken record" in caplog.text


def test_mixture_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="data.sources is empty"):
        Mixture({}, {}, seed=0)
    with pytest.raises(ValueError, match="must be > 0"):
        Mixture({"a": Numbers("a")}, {"a": 0}, seed=0)


def test_all_broken_ends_with_a_reason() -> None:
    class Dead(Numbers):
        def __getitem__(self, index: int) -> EditRecord:
            raise OSError("gone")

    with pytest.raises(ValueError, match="broken records in a row"):
        Mixture({"dead": Dead("dead")}, {"dead": 1}, seed=0)[0]


def take(loader: StepLoader, count: int) -> list[list[str]]:
    batches = iter(loader)
    return [next(batches) for _ in range(count)]  # type: ignore[misc]


def build(rank: int = 0, world_size: int = 1, workers: int = 0) -> StepLoader:
    mixture = Mixture({"a": Numbers("a")}, {"a": 1}, seed=0)
    return StepLoader(mixture, keys, batch_size=3, rank=rank, world_size=world_size, num_workers=workers)


def test_loader_resumes_at_its_position() -> None:
    straight = take(build(), 6)
    loader = build()
    take(loader, 4)
    resumed = build()
    resumed.load_state_dict(loader.state_dict())
    assert take(resumed, 2) == straight[4:]


def test_another_number_of_processes_goes_on_at_the_next_sample() -> None:
    """Two after one after three: no sample is left out or comes twice."""
    whole = [k for batch in take(build(), 12) for k in batch]
    seen, state = [], None
    for world_size in (3, 1, 2):
        loaders = [build(rank=rank, world_size=world_size) for rank in range(world_size)]
        if state is not None:
            for loader in loaders:
                loader.load_state_dict(state)
        for batches in zip(*[take(loader, 2) for loader in loaders], strict=True):
            seen += [k for batch in batches for k in batch]
        state = loaders[0].state_dict()
    assert seen == whole


def test_ranks_share_the_stream_without_overlap() -> None:
    whole = [k for batch in take(build(), 4) for k in batch]
    halves = [take(build(rank=r, world_size=2), 2) for r in (0, 1)]
    mixed = [k for step in range(2) for r in (0, 1) for k in halves[r][step]]
    assert mixed == whole


def test_workers_change_nothing() -> None:
    assert take(build(workers=1), 3) == take(build(), 3)


def test_resize_and_pixels() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, 10:] = 255
    small = resize_square(image, 8)
    assert small.shape == (8, 8, 3)
    assert resize_square(small, 8) is small
    pixels = to_pixels([small])
    assert pixels.shape == (1, 3, 8, 8)
    assert pixels.min() == -1.0
    assert pixels.max() == 1.0


def test_changed_mask_marks_what_differs() -> None:
    before = np.zeros((4, 4, 3), np.uint8)
    after = before.copy()
    after[1, 2, 0] = 50
    after[3, 3] = 1  # below the threshold: compression noise
    mask = changed_mask([before], [after])
    assert mask.sum() == 1
    assert mask[0, 0, 1, 2] == 1


def test_scene_sources_agree_with_the_scenes() -> None:
    from insightedit.scenes import SceneSampler

    sample = SceneSampler("train", 32, 0)[7]
    record = build_source(SourceConfig(kind="scenes"), size=32, seed=0)[7]
    np.testing.assert_array_equal(record.source_image, sample.source)
    np.testing.assert_array_equal(record.target_image, sample.target)
    assert record.instruction == sample.instruction
    assert record.is_edit
    caption = build_source(SourceConfig(kind="captions"), size=32, seed=0)[4]
    assert caption.caption == caption.instruction
    assert caption.source_image is None
    told = build_source(SourceConfig(kind="descriptions"), size=32, seed=0)[7]
    assert told.reply == sample.expressive_instruction
    resolved = build_source(SourceConfig(kind="resolved"), size=32, seed=0)[7]
    assert resolved.caption == sample.expressive_instruction
    assert resolved.instruction == sample.instruction
    np.testing.assert_array_equal(resolved.source_image, sample.source)


def test_sources_explain_what_is_wrong(tmp_path) -> None:
    with pytest.raises(ConfigError, match="unknown kind `sceens`"):
        build_source(SourceConfig(kind="sceens"), size=32, seed=0)
    with pytest.raises(ConfigError, match="give its `path`"):
        build_source(SourceConfig(kind="parquet"), size=32, seed=0)
    with pytest.raises(ConfigError, match=r"holds no \*.parquet file"):
        build_source(SourceConfig(kind="parquet", path=str(tmp_path)), size=32, seed=0)


def test_jsonl_without_text_is_refused(tmp_path) -> None:
    (tmp_path / "train.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ConfigError, match="has the columns a; none of them is known as picture before the edit"):
        build_source(SourceConfig(kind="jsonl", path=str(tmp_path)), size=32, seed=0)


def test_jsonl_captions(tmp_path) -> None:
    (tmp_path / "train.jsonl").write_text('{"caption": "a photo with a dog"}\n{"caption": "a cat"}\n')
    source = build_source(SourceConfig(kind="jsonl", path=str(tmp_path)), size=32, seed=0)
    assert source.num_records == 2
    assert source[0].caption == "a photo with a dog"


def test_batches_of_a_real_editor(tiny_root) -> None:
    from insightedit.model.build import build_editor
    from insightedit.training.data import build_loader

    config = load_config("insightedit", 3, ["tiny"], [])
    editor = build_editor(config)
    batch = next(iter(build_loader(config, editor)))
    size = config.generation.resolution
    b = config.train.batch_size
    assert batch.source_pixels.shape == batch.target_pixels.shape == (b, 3, size, size)
    assert batch.changed_mask.shape == (b, 1, size, size)
    assert torch.equal(batch.is_edit, torch.ones(b))
    edit_ids = set(editor.comprehension.edit_token_ids)
    per_row = [[t for t in row.tolist() if t in edit_ids] for row in batch.tokens.input_ids]
    assert per_row == [editor.comprehension.edit_token_ids] * b


def test_stage_1_reads_pictures_where_the_records_have_them(tiny_root) -> None:
    from insightedit.model.build import build_editor
    from insightedit.training.data import build_collator

    config = load_config("insightedit", 1, ["tiny"], [])
    collator = build_collator(config, build_editor(config))
    resolved = build_source(SourceConfig(kind="resolved"), size=32, seed=0)
    captions = build_source(SourceConfig(kind="captions"), size=32, seed=0)
    batch = collator([resolved[0], resolved[1]], [0, 1])
    assert batch.tokens.pixel_values.shape[0] == 2
    wanted = collator.text_tokenizer(
        [resolved[i].caption for i in range(2)], padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    assert torch.equal(batch.text_target_ids, wanted)
    assert collator([captions[0]], [0]).tokens.pixel_values is None
    with pytest.raises(ValueError, match="records with and without pictures in one batch"):
        collator([resolved[0], captions[0]], [0, 1])
