"""What all loaders share: faults in sentences, safe paths, pictures that are really there."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from insightedit.datasets import notes as reading
from insightedit.datasets import unpacking as masks
from insightedit.datasets.notes import Entry, EntryError, Notes, PictureFault, picture_size
from insightedit.evaluation.benchmarks.base import Benchmark, BenchmarkError, BenchmarkSample, Card, finish
from insightedit.evaluation.benchmarks.registry import load_benchmark
from tests.evaluation.benchmarks import layouts_one as layouts
from tests.evaluation.benchmarks.layouts_one import mask, picture, picture_with_hole

CARD = Card("toy", "Toy", "nobody", "Draw it yourself.", "none stated", "pictures", counts={"all": 2, "a": 1, "b": 1})


def notes_of(folder: Path) -> Notes:
    return Notes(folder, CARD.title, CARD.obtain)


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return notes_of(tmp_path)


def finished(notes: Notes, made: list[BenchmarkSample], split: str = "") -> Benchmark:
    return finish(CARD, notes, made, published=CARD.counts, split=split)


def noise(path: Path, **options: Any) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def samples(folder: Path, **changes: Any) -> list[BenchmarkSample]:
    return [
        BenchmarkSample(f"s{i}", f"do {i}", group, picture(folder / f"{i}.png", i), **changes)
        for i, group in enumerate("ab")
    ]


def test_folder_has_to_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(
        BenchmarkError, match="nowhere is not a good copy of Toy: There is no such folder; check the path. Draw"
    ):
        notes_of(tmp_path / "nowhere")
    with pytest.raises(BenchmarkError, match="It is a file: name the folder that holds the benchmark."):
        notes_of(picture(tmp_path / "a.png"))


def test_all_faults_are_named_and_no_fault_twice(notes: Notes) -> None:
    for number in range(7):
        notes.fault(f"Fault {number}.")
        notes.fault(f"Fault {number}.")
    with pytest.raises(BenchmarkError, match="Fault 4. And 2 more. Draw it yourself.") as caught:
        notes.stop()
    assert len(caught.value.faults) == 7


def test_names_in_messages_and_orders() -> None:
    assert reading.some("abc") == "a, b, c" and reading.some("abcde") == "a, b, c and 2 more"
    assert sorted(["t10", "t2", "t1b", "t1"], key=reading.natural) == ["t1", "t1b", "t2", "t10"]
    assert reading.as_id("1-Left-Right", "a b/c", 3, "") == "1-Left-Right-a_b_c-3" and reading.as_id("../x") == "x"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"[1, 2", "a.json is not valid JSON (Expecting ',' delimiter: line 1 column 6 (char 5)): it"),
        (b"[]", "a.json holds an empty list: it should hold pairs."),
        (b"3", "a.json holds an int: it should hold pairs."),
        (b'{"a": {"b": 1, "b": 2}}', "a.json names a key twice in one object (b): one of the two would be lost."),
        (b"\xff\xfe[\x00", "a.json is not text in UTF-8 (byte 0): save it in UTF-8."),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a.json is a Git LFS pointer, not the file: run `git lfs"),
        (b"[" * 200_000, "a.json is nested too deep to be read: it should hold pairs."),
    ],
)  # fmt: skip
def test_json_that_cannot_be_taken(notes: Notes, raw: bytes, fault: str) -> None:
    (notes.folder / "a.json").write_bytes(raw)
    assert notes.read_json(notes.folder / "a.json", (dict, list), "pairs") is None
    assert len(notes.faults) == 1 and notes.faults[0].startswith(fault)


def test_json_that_can(notes: Notes) -> None:
    path = notes.folder / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": NaN}')
    assert list(notes.read_json(path, dict, "pairs")) == ["a"] and not notes.faults
    assert notes.read_json(notes.folder / "b.json", dict, "pairs") is None
    assert notes.faults == ["b.json is missing."]


def test_lines_of_json(notes: Notes) -> None:
    path = notes.folder / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert notes.read_jsonl(path, "{a}") == [{"a": 1}, {"a": 2}]
    path.write_text("\n")
    assert notes.read_jsonl(path, "{a}") is None
    path.write_text('{"a": 1}\n3\n{')
    assert notes.read_jsonl(path, "{a}") is None
    assert notes.faults == [
        "a.jsonl is empty: it should hold a line {a} for each sample.",
        "a.jsonl has lines that are no JSON objects (2, 3): each should hold {a}.",
    ]


def test_texts_of_records(notes: Notes) -> None:
    entry = Entry(notes, "Row 1", {"a": " x ", "b": "", "c": 3, "d": None})
    assert entry.text("a") == "x" and entry.text("b", needed=False) == entry.text("d", needed=False) == ""
    rows = [("Row 1", entry.fields)]
    assert all(notes.each(rows, "{a}", lambda one, key=key: one.text(key)) == [] for key in "bcde")
    assert notes.faults == [
        "Row 1 has an empty `b`.",
        "Row 1 has 3 as `c`: it has to be a text.",
        "Row 1 has None as `d`: it has to be a text.",
        "Row 1 has no `e`.",
    ]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.png", "a/../../b.png", r"..\a.png", r"C:\a.png", "", " ", "a" * 300]
)
def test_paths_stay_in_the_folder(notes: Notes, name: str) -> None:
    with pytest.raises(EntryError) as caught:
        Entry(notes, "Row 1", {}).inside(notes.folder, name)
    assert str(caught.value).startswith(f"names the path {name!r:.80}: it has to be relative, without `..`")


def test_paths_with_either_separator(notes: Notes) -> None:
    assert Entry(notes, "Row 1", {}).inside(notes.folder, r"a\b.png") == notes.folder / "a/b.png"


def test_records_that_cannot_be_read_are_faults_and_the_others_are_taken(notes: Notes) -> None:
    rows = [("Row 1", {"a": 1}), ("Row 2", "x"), ("Row 3", {}), ("Row 4", {"a": "y"})]
    assert notes.each(rows, "{a}", lambda entry: entry.fields["a"] + 1) == [2]
    assert notes.faults[:2] == ["Row 2 is 'x': it has to be {a}.", "Row 3: record is incomplete: KeyError 'a'."]
    assert notes.faults[2].startswith("Row 4: record is incomplete: TypeError ")


def test_pictures_of_a_folder(notes: Notes) -> None:
    for name in ("10.png", "2.png", "2.JPG", "._2.png", "note.txt", "in/3.png"):
        picture(notes.folder / name) if name[0] != "." and name[-1] != "t" else (notes.folder / name).write_text("x")
    assert list(notes.pictures_by_stem(notes.folder)) == ["2", "10"]
    assert notes.faults == [". holds 2.JPG and 2.png: remove the one that is not meant."]
    assert reading.is_junk(Path("__MACOSX/a.png")) and reading.is_junk(Path("Thumbs.db"))


def test_pictures_are_found_by_name(notes: Notes) -> None:
    a, b = picture(notes.folder / "x/a.png"), picture(notes.folder / "x/b.png")
    other = picture(notes.folder / "y/b.png")
    picture(notes.folder / "unpacked/c.png")
    find = Entry(notes, "Row 1", {}).find
    assert find("/their/machine/a.png") == find(r"D:\theirs\a.png") == a
    assert find("x/b.png") == b and find("y/b.png") == other
    assert find("c.png") == notes.folder / "c.png" and not notes.faults
    for name in ("b.png", " ", "..", "a" * 300):
        assert notes.each([("Row 1", {})], "{}", lambda entry, name=name: entry.find(name)) == []
    assert notes.faults == [
        "Row 1 names 'b.png', and several pictures have that name (x/b.png, y/b.png): give its path in the folder.",
        "Row 1 names the path ' ': write the picture's file name there.",
        "Row 1 names the path '..': write the picture's file name there.",
        f"Row 1 names the path '{'a' * 79}: write the picture's file name there.",
    ]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp", "a.tif"])
def test_sizes_of_good_pictures(tmp_path: Path, name: str) -> None:
    assert picture_size(noise(tmp_path / name)) == (80, 64)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_notes_after_the_end_do_no_harm_and_cut_off_pictures_are_seen(tmp_path: Path, name: str) -> None:
    path = noise(tmp_path / name)
    raw = path.read_bytes()
    path.write_bytes(raw + b"\0" * (2 * reading.TAIL))
    assert picture_size(path) == (80, 64)
    path.write_bytes(raw[: len(raw) * 2 // 3])
    with pytest.raises(PictureFault, match="Cut-off|Unreadable"):
        picture_size(path)


@pytest.mark.parametrize(
    ("raw", "trouble"),
    [
        (b"", "Empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointers in place of"),
        (b"\n<!DOCTYPE html><title>Sign in</title>", "Web pages in place of"),
        (b"hello", "Unreadable"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "Unreadable"),
    ],
)
def test_files_that_are_no_pictures(tmp_path: Path, raw: bytes, trouble: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(raw)
    with pytest.raises(PictureFault, match=f"^{trouble}$"):
        picture_size(path)
    assert trouble in reading.REMEDIES


def test_missing_pictures_and_folders_in_their_place(tmp_path: Path) -> None:
    with pytest.raises(PictureFault, match="^Missing$"):
        picture_size(tmp_path / "a.png")
    with pytest.raises(PictureFault, match="^Folders in place of$"):
        picture_size(tmp_path)


def test_finish_gives_samples_and_a_version_that_tells_changes(notes: Notes) -> None:
    made = samples(notes.folder)
    benchmark = finished(notes, made, split="x")
    assert benchmark.samples == tuple(made) and benchmark.warnings == () and benchmark.split == "x"
    again = finished(notes_of(notes.folder), made)
    assert benchmark.version == again.version and len(again.version) == 16 and list(again) == made
    noise(notes.folder / "1.png")
    assert finished(notes_of(notes.folder), made).version != benchmark.version
    other = [made[0], BenchmarkSample("s1", "do 1", "b", made[1].source, earlier=("first",))]
    assert finished(notes, other).version != finished(notes, made).version


def test_finish_tells_of_every_bad_picture_and_sample(notes: Notes) -> None:
    made = samples(notes.folder)
    gone = notes.folder / "gone.png"
    made += [BenchmarkSample("s0", " ", source=gone, target=gone, references=(gone,)), BenchmarkSample("a/b", "do")]
    (notes.folder / "0.png").write_bytes(b"hello")
    with pytest.raises(BenchmarkError) as caught:
        finished(notes, made)
    assert caught.value.faults == (
        "Ids occur more than once (s0): each names one result file.",
        "Ids cannot be names of files (a/b): use letters, digits, `_`, `-` and dots.",
        "Samples have no instruction (s0).",
        "Unreadable source pictures (1): 0.png; Pillow has to be able to open them.",
        "Missing reference pictures (1): gone.png; get the whole folder again.",
    )
    with pytest.raises(BenchmarkError, match="It holds no samples."):
        finished(notes_of(notes.folder), [])


def test_finish_warns_of_what_is_odd(notes: Notes) -> None:
    wide = picture(notes.folder / "wide.png", size=(40, 12))
    lossy = mask(notes.folder / "m.jpg", (16, 12))
    made = samples(notes.folder, target=wide, mask=lossy)[:1]
    warnings = finished(notes, made).warnings
    assert any("1 targets have another size than their sources (s0)" in text for text in warnings)
    assert any("1 masks are JPEG or WebP" in text for text in warnings)
    assert "1 of the 2 published samples are here: numbers do not compare with published ones." in warnings
    more = [*samples(notes.folder), BenchmarkSample("s2", "do 2", "a", notes.folder / "0.png")]
    warnings = finished(notes_of(notes.folder), more).warnings
    assert "3 samples are here, 2 are published: this is another edition." in warnings
    assert "Groups differ from the published counts: a 2 of 1." in warnings


def test_masks_with_a_hole(notes: Notes) -> None:
    plain = mask(notes.folder / "plain.png")
    assert masks.white_mask(notes, plain, "x") == plain
    opaque = picture(notes.folder / "opaque.png", mode="RGBA")
    made = masks.white_mask(notes, opaque, "opaque")
    with Image.open(opaque) as one, Image.open(made) as other:
        assert np.array_equal(np.asarray(one.convert("L")), np.asarray(other)) and other.mode == "L"
    broken = notes.folder / "broken.png"
    broken.write_bytes(b"no picture")
    assert masks.white_mask(notes, broken, "y") == broken and not notes.warnings


def test_masks_that_cannot_be_written_are_left_out_with_a_warning(notes: Notes) -> None:
    (notes.folder / "unpacked").write_text("a file in the way")
    holed = picture_with_hole(notes.folder / "holed.png")
    assert masks.white_mask(notes, holed, "x") is None
    assert notes.warnings[0].startswith("Masks are left out: unpacked/masks cannot be written (")


def test_a_locked_folder_is_told_once(notes: Notes) -> None:
    (notes.folder / "unpacked").write_text("a file in the way")
    for name in ("a", "b"):
        assert masks.write_mask(notes, np.ones((4, 4), dtype=bool), name) is None
    assert len(notes.warnings) == 1


def test_masks_in_true_and_false(notes: Notes) -> None:
    region = np.zeros((4, 5), dtype=bool)
    region[1, 2] = True
    path = masks.write_mask(notes, region, "r")
    with Image.open(io.BytesIO(path.read_bytes())) as written:
        assert np.array_equal(np.asarray(written), region * np.uint8(255))


JUNK = (None, [], {}, 3, -1.5, True, "", " ", "x", "../../etc/passwd", "a" * 400, "\0", [None], {"a": "b"})


def spoilt(value: Any, rng: random.Random) -> Any:
    """The same JSON with one value, anywhere, replaced by junk or left out."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.2:
        return rng.choice(JUNK)
    copy = type(value)(value)
    key = rng.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
    if rng.random() < 0.15:
        del copy[key]
    else:
        copy[key] = spoilt(copy[key], rng)
    return copy


def faults_or_none(name: str, root: Path) -> tuple[str, ...]:
    try:
        load_benchmark(name, root)
    except BenchmarkError as error:
        return error.faults
    return ()


@pytest.mark.parametrize("name", ["advancededit", "magicbrush", "emu-edit", "evr", "gier"])
def test_spoilt_files_are_refused_in_words_or_taken_never_a_traceback(name: str, tmp_path: Path) -> None:
    write = {
        "advancededit": layouts.write_advancededit,
        "magicbrush": layouts.write_magicbrush,
        "emu-edit": lambda folder: layouts.write_emu_json(folder, 3),
        "evr": layouts.write_evr,
        "gier": layouts.write_gier,
    }[name]
    root = write(tmp_path)
    files = sorted(root.rglob("*.json"))
    rng, refused = random.Random(0), 0
    for number in range(60):
        path = files[number % len(files)]
        good = path.read_text()
        path.write_text(json.dumps(spoilt(json.loads(good), rng)))
        faults = faults_or_none(name, root)
        assert all(fault.endswith(".") for fault in faults)
        refused += bool(faults)
        path.write_text(good)
    assert refused > 15 and load_benchmark(name, root)
