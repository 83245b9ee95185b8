"""Ids, cached folders, and folders that change all at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from insightedit.miniatures import folders
from insightedit.miniatures.folders import replace_folder, tiny_root
from insightedit.modeling.pretrained import resolve_model_id


@pytest.mark.parametrize("model_id", ["llava-hf/llava-1.5-7b-hf", "/some/folder", "runs/miniatures/mini/sd"])
def test_other_ids_stay_as_they_are(model_id: str) -> None:
    assert resolve_model_id(model_id) == model_id


@pytest.mark.parametrize("part", ["clip", "llava", "sd", "ip2p"])
def test_tiny_parts_are_folders_of_the_cache(part: str, tiny_root: Path) -> None:
    assert resolve_model_id(f"miniature:tiny/{part}") == str(tiny_root / part)
    assert (tiny_root / part).is_dir()


def test_tiny_is_built_once_into_the_chosen_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSIGHTEDIT_CACHE", str(tmp_path))
    root = tiny_root()
    written = (root / "clip" / "model.safetensors").stat().st_mtime_ns
    assert tiny_root() == root
    assert (root / "clip" / "model.safetensors").stat().st_mtime_ns == written
    assert [p.name for p in tmp_path.iterdir()] == [root.name], "temporary folders are left behind"


def test_a_damaged_cache_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSIGHTEDIT_CACHE", str(tmp_path))
    (tiny_root() / "llava" / "model.safetensors").unlink()
    assert (tiny_root() / "llava" / "model.safetensors").is_file()


def test_other_ranks_wait_for_rank_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSIGHTEDIT_CACHE", str(tmp_path))
    monkeypatch.setattr(folders, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    with pytest.raises(RuntimeError, match="rank 0 did not build the tiny models"):
        tiny_root()


@pytest.mark.parametrize("model_id", ["miniature:huge/llava", "miniature:tiny/vae", "miniature:tiny"])
def test_unknown_size_or_part_names_the_known_ones(model_id: str) -> None:
    with pytest.raises(ValueError, match=r"SIZE one of mini, mini128, tiny and PART one of clip, llava, sd, ip2p"):
        resolve_model_id(model_id)


def test_untrained_mini_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSIGHTEDIT_MINIATURES", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"python -m insightedit\.miniatures all --size mini"):
        resolve_model_id("miniature:mini/llava")


def test_mini_is_found_below_the_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSIGHTEDIT_MINIATURES", str(tmp_path))
    (tmp_path / "sd" / "unet").mkdir(parents=True)
    (tmp_path / "sd" / "unet" / "config.json").write_text("{}")
    assert resolve_model_id("miniature:mini/sd") == str(tmp_path / "sd")


def test_the_spellings_of_version_0_1_still_mean_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_model_id("foundation:tiny/clip") == resolve_model_id("miniature:tiny/clip")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INSIGHTEDIT_MINIATURES", raising=False)
    monkeypatch.delenv("INSIGHTEDIT_FOUNDATION", raising=False)
    assert folders.mini_root() == Path("runs/miniatures/mini")
    (tmp_path / "runs/foundation/mini").mkdir(parents=True)
    assert folders.mini_root() == Path("runs/foundation/mini")
    (tmp_path / "runs/miniatures/mini").mkdir(parents=True)
    assert folders.mini_root() == Path("runs/miniatures/mini")
    monkeypatch.setenv("INSIGHTEDIT_FOUNDATION", "elsewhere")
    assert folders.mini_root() == Path("elsewhere")


def test_replaced_folder_holds_the_new_files_only(tmp_path: Path) -> None:
    place = tmp_path / "model"
    for name in ("old", "new"):
        with replace_folder(place) as folder:
            (folder / name).write_text(name)
    assert [p.name for p in place.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("value", [0o022, 0o027])
def test_others_may_read_what_the_umask_allows(tmp_path: Path, value: int) -> None:
    before = os.umask(value)
    try:
        with replace_folder(tmp_path / "model") as folder:
            save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o777 & ~value
    assert (tmp_path / "model/model.safetensors").stat().st_mode & 0o777 == 0o666 & ~value


def test_a_failed_write_leaves_the_old_folder(tmp_path: Path) -> None:
    place = tmp_path / "model"
    with replace_folder(place) as folder:
        (folder / "old").write_text("old")
    with pytest.raises(OSError, match="disk full"), replace_folder(place) as folder:
        (folder / "new").write_text("new")
        raise OSError("disk full")
    assert [p.name for p in place.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_keep_existing_drops_the_new_folder(tmp_path: Path) -> None:
    place = tmp_path / "model"
    for name in ("first", "second"):
        with replace_folder(place, keep_existing=True) as folder:
            (folder / name).write_text(name)
    assert [p.name for p in place.iterdir()] == ["first"]
