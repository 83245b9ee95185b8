"""What is written is whole, leaves others' files alone, and can be read by whoever the umask allows."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from insightedit import files
from insightedit.files import check_paths, lock_folder, replace_folder, staging, write_atomically, write_text

UMASKS = (0o000, 0o002, 0o022, 0o027, 0o077)
MARKER = Path("model_index.json")


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def fill(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


class TestWriteAtomically:
    @pytest.mark.parametrize("value", UMASKS)
    def test_permissions_are_those_of_new_files(self, tmp_path, value):
        with umask(value):
            write_text(tmp_path / "a.txt", "a")
        assert mode(tmp_path / "a.txt") == 0o666 & ~value

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_a_failure_leaves_the_old_file_and_nothing_else(self, tmp_path, error):
        (tmp_path / "a.txt").write_text("old")
        with pytest.raises(error), write_atomically(tmp_path / "a.txt") as aside:
            aside.write_text("half")
            raise error
        assert tree(tmp_path) == {"a.txt": b"old"}

    def test_a_link_is_followed(self, tmp_path):
        fill(tmp_path, there__a="old")
        (tmp_path / "link").symlink_to("there/a")
        write_text(tmp_path / "link", "new")
        assert (tmp_path / "link").is_symlink() and (tmp_path / "there/a").read_text() == "new"

    def test_names_of_the_greatest_length(self, tmp_path):
        for name in ("a" * 251 + ".png", "a." + "b" * 253):
            write_text(tmp_path / name, "x")
            assert (tmp_path / name).read_text() == "x"

    def test_places_that_cannot_be_written_are_refused(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="No folder .*none: make it first"):
            write_text(tmp_path / "none/a.txt", "")
        with pytest.raises(ValueError, match="is there and is no file"):
            write_text(tmp_path, "")
        with pytest.raises(ValueError, match="is there and is no file"):
            write_text(os.devnull, "")
        assert Path(os.devnull).is_char_device()

    def test_write_protected_files_are_kept(self, tmp_path, monkeypatch):
        path = fill(tmp_path, a="old") / "a"
        path.chmod(0o444)
        monkeypatch.setattr(os, "access", lambda path, wanted: bool(mode(Path(path)) & 0o222))  # root may all
        with pytest.raises(PermissionError, match="is write-protected"):
            write_text(path, "new")
        assert path.read_text() == "old"

    def test_what_a_kill_leaves_is_swept_by_the_next_process(self, tmp_path):
        code = (
            "import os, sys\nfrom insightedit.files import write_atomically\n"
            "with write_atomically(sys.argv[1]): os.kill(os.getpid(), 9)"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False)
        assert done.returncode == -9 and len(list(tmp_path.iterdir())) == 1
        with write_atomically(tmp_path / "a"), write_atomically(tmp_path / "b"):
            assert len(list(tmp_path.iterdir())) == 2
        assert set(tree(tmp_path)) == {"a", "b"}

    def test_it_is_told_what_was_finished(self, tmp_path):
        before = len(files.finished_files())
        write_text(tmp_path / "a", "")
        assert files.finished_files()[before:] == [tmp_path / "a"]


class TestCheckPaths:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        fill(tmp_path, **{"photo.png": "photo", "mask.png": "mask"})
        Path("link.png").symlink_to("photo.png")
        Path("folder").symlink_to(tmp_path)
        os.link("photo.png", "hard.png")
        Path("loop").symlink_to("loop")

    @pytest.mark.parametrize(
        "output", ["photo.png", "./photo.png", "folder/photo.png", "link.png", "hard.png", "../{0}/photo.png"]
    )
    def test_every_name_of_an_input_is_refused(self, tmp_path, output):
        output = output.format(tmp_path.name)
        with pytest.raises(ValueError, match="--report .* is the same file as IMAGE photo.png"):
            check_paths({"--report": output}, {"IMAGE": "photo.png"})
        with pytest.raises(ValueError, match="is the same file as"):
            check_paths({"-o": Path(output).absolute()}, {"--reference": ["mask.png", "photo.png"]})

    @pytest.mark.parametrize("other", ["./new.png", "folder/new.png", "NEW.png", "folder/../{0}/new.png"])
    def test_two_outputs_that_are_not_there_yet(self, tmp_path, other):
        with pytest.raises(ValueError, match="--report .* is the same file as -o new.png"):
            check_paths({"-o": "new.png", "--report": other.format(tmp_path.name)})

    def test_letters_that_some_systems_write_in_two_ways(self):
        with pytest.raises(ValueError, match="is the same file as"):
            check_paths({"-o": "\u00e9.png", "--report": "e\u0301.png"})

    def test_what_differs_passes(self):
        check_paths(
            {"-o": "new.png", "--report": "no/new.png", "--sheet": None, "x": "loop"},
            {"IMAGE": "photo.png", "--mask": "mask.png", "--reference": ["none.png", "photo.png"]},
        )

    def test_a_name_that_is_too_long(self):
        with pytest.raises(ValueError, match="is longer than 255 bytes"):
            check_paths({"-o": "é" * 126 + ".png"})


def put(folder: Path, owned, **texts: str) -> None:
    with staging(folder, owned) as place:
        replace_folder(fill(place / "new", **texts), folder, owned)


def ours(path: Path) -> bool:
    return path.suffix in (".json", ".safetensors") and path.parts[0] in ("model_index.json", "unet", "vae")


OLD = {"model_index.json": "1", "unet__a.safetensors": "1", "vae__a.safetensors": "1"}
NEW = {"model_index.json": "2", "unet__b.safetensors": "2"}
THEIRS = {".git__HEAD": "main", "notes.md": "mine", "unet__notes.md": "mine", "data__unet__a.json": "mine"}


class TestReplaceFolder:
    def test_a_new_folder(self, tmp_path):
        put(tmp_path / "a/model", ours, **NEW)
        assert tree(tmp_path) == {"a/model/model_index.json": b"2", "a/model/unet/b.safetensors": b"2"}

    def test_only_what_is_ours_goes(self, tmp_path):
        model = fill(tmp_path / "model", **OLD, **THEIRS)
        (model / "empty").mkdir()
        (model / "link").symlink_to("/")
        inode = model.stat().st_ino
        put(model, ours, **NEW)
        theirs = {name.replace("__", "/"): text.encode() for name, text in THEIRS.items()}
        assert tree(model) == {"model_index.json": b"2", "unet/b.safetensors": b"2", **theirs}
        assert model.stat().st_ino == inode and (model / "empty").is_dir() and (model / "link").is_symlink()
        assert not (model / "vae").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    def test_a_folder_of_ours_changes_as_a_whole(self, tmp_path, monkeypatch):
        for exchange in (files._exchange, lambda first, second: False):
            monkeypatch.setattr(files, "_exchange", exchange)
            model = fill(tmp_path / "model", **OLD)
            model.chmod(0o750)
            put(model, ours, **NEW)
            assert tree(model) == {"model_index.json": b"2", "unet/b.safetensors": b"2"}
            assert mode(model) == 0o750
            assert [path.name for path in tmp_path.iterdir()] == ["model"]

    @pytest.mark.parametrize("filled", [True, False])
    def test_the_folder_one_stands_in(self, tmp_path, monkeypatch, filled):
        model = fill(tmp_path / "model", **(OLD if filled else {"model_index.json": "1"}))
        monkeypatch.chdir(model)
        put(Path("."), ours, **NEW)
        assert sorted(os.listdir(".")) == ["model_index.json", "unet"]
        assert tree(model) == {"model_index.json": b"2", "unet/b.safetensors": b"2"}
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    def test_a_link_to_a_folder_stays_a_link(self, tmp_path):
        fill(tmp_path / "disk", **OLD)
        (tmp_path / "model").symlink_to("disk")
        put(tmp_path / "model", ours, **NEW)
        assert (tmp_path / "model").is_symlink() and (tmp_path / "disk/unet/b.safetensors").is_file()

    @pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
    @pytest.mark.parametrize("theirs", [{}, THEIRS])
    def test_a_failure_at_any_moment_leaves_all_as_it_was(self, tmp_path, monkeypatch, theirs, error):
        model = fill(tmp_path / "model", **OLD, **theirs)
        before, replace = tree(model), os.replace
        for fatal in range(5):  # three files go, two come
            calls = iter(range(100))

            def failing(source, target, calls=calls, fatal=fatal):
                if next(calls) == fatal:
                    raise error("no")
                replace(source, target)

            monkeypatch.setattr(os, "replace", failing)
            monkeypatch.setattr(files, "_exchange", lambda first, second: False)
            with pytest.raises(error):
                put(model, ours, **NEW)
            monkeypatch.setattr(os, "replace", replace)
            assert tree(model) == before
            assert [path.name for path in tmp_path.iterdir()] == ["model"]
            if not theirs and fatal == 1:
                return  # there are two renames only

    @pytest.mark.parametrize("value", UMASKS)
    def test_what_a_library_wrote_for_its_owner_alone_is_opened(self, tmp_path, value):
        with umask(value), staging(tmp_path / "model") as place:
            new = fill(place / "new", unet__a="1")
            for path in (new, new / "unet", new / "unet/a"):
                path.chmod(0o700)
            replace_folder(new, tmp_path / "model", ours)
        assert mode(tmp_path / "model") == mode(tmp_path / "model/unet") == 0o777 & ~value
        assert mode(tmp_path / "model/unet/a") == 0o666 & ~value


KILLED = """
import os, sys
from pathlib import Path
from insightedit import files
folder, fatal = Path(sys.argv[1]), int(sys.argv[2])
calls, replace = iter(range(100)), os.replace
def dying(source, target):
    if next(calls) == fatal:
        os.kill(os.getpid(), 9)
    replace(source, target)
os.replace = dying
owned = lambda path: path.suffix in (".json", ".safetensors")
with files.staging(folder, owned) as place:
    (place / "new").mkdir()
    (place / "new/model_index.json").write_text("2")
    (place / "new/b.safetensors").write_text("2")
    files.replace_folder(place / "new", folder, owned)
"""


@pytest.mark.parametrize("fatal", range(4))
def test_what_a_kill_in_the_middle_leaves_goes_back_and_is_swept(tmp_path, fatal):
    model = fill(tmp_path / "model", **{"model_index.json": "1", "a.safetensors": "1", "notes.md": "mine"})
    done = subprocess.run([sys.executable, "-c", KILLED, str(model), str(fatal)], check=False)
    assert done.returncode == -9
    assert (model / "notes.md").read_text() == "mine"
    index = model / "model_index.json"
    left = {path.name for path in model.iterdir() if not path.name.startswith(".")}
    assert not index.exists() or (index.read_text() == "1" and "b.safetensors" not in left)
    with staging(model):
        assert tree(model) == {"model_index.json": b"1", "a.safetensors": b"1", "notes.md": b"mine"}
    assert not [path for path in (*tmp_path.iterdir(), *model.iterdir()) if files.MARK in path.name]
    put(model, lambda path: path.suffix in (".json", ".safetensors"), **{"model_index.json": "3"})
    assert (model / "notes.md").is_file() and index.read_text() == "3"


def test_a_place_at_work_is_not_swept(tmp_path):
    with staging(tmp_path / "model") as first, staging(tmp_path / "model") as second:
        assert first.is_dir() and second.is_dir() and first != second
    assert not list(tmp_path.iterdir())


def test_a_lock_names_its_holder(tmp_path):
    with lock_folder(tmp_path):
        with (
            pytest.raises(ValueError, match=rf"is in use by process {os.getpid()} on .* since 20"),
            lock_folder(tmp_path),
        ):
            pass
        (tmp_path / ".lock.json").write_text("{")
        with pytest.raises(ValueError, match="is in use by another process: wait"), lock_folder(tmp_path):
            pass
    with lock_folder(tmp_path):
        pass


def test_a_lock_goes_with_its_holder(tmp_path):
    code = (
        "import os, sys\nfrom insightedit.files import lock_folder\n"
        "with lock_folder(sys.argv[1]): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    with lock_folder(tmp_path):
        pass
