from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from insightedit.scenes import CATEGORIES, Assets, SceneSampler
from insightedit.scenes.assets import load_photo, load_sprite, read_metadata
from insightedit.scenes.credits import (
    ATTRIBUTION_ONLY,
    Credit,
    card_licence,
    credit_table,
    licence_page,
    photo_licences,
    read_credits,
)
from tests.data_recipes.conftest import pack_entries, write_pack


def test_the_page_of_licences_lists_every_file():
    assets = Assets.embedded()
    credits = read_credits(assets)
    page = (assets.folder / "LICENSES.md").read_text(encoding="utf-8")
    assert page == licence_page(credits), "python -m insightedit.scenes.credits writes it anew"
    files = {p.relative_to(assets.folder).as_posix() for p in assets.folder.glob("*/*")}
    assert files == {c.file for c in credits}
    assert all(f"| `{name}` |" in page for name in files)
    for credit in credits:
        assert ATTRIBUTION_ONLY.fullmatch(credit.licence), credit
        assert "not stated" not in (credit.author, credit.source)


def test_credits_of_a_split_leave_the_other_photographs_out():
    assets = Assets.embedded()
    credits = read_credits(assets, "test")
    assert {c.file for c in credits if c.kind == "photo"} == {
        f"photos/{p.path.name}" for p in assets.photos_of("test")
    }
    assert "| sprite | Microsoft | Fluent Emoji (3D), package @lobehub/fluent-emoji-3d | MIT | 293 |" in credit_table(
        credits
    )


def test_more_things_are_seen_than_drawn():
    assets = Assets.embedded()
    assert len(assets.classes) == 62 and assets.classes[0] == "dog" and assets.classes[-1] == "tree"
    assert len(assets.seen_classes) >= 200 and set(assets.classes) < set(assets.seen_classes)
    total = sum(path.stat().st_size for path in assets.folder.rglob("*.*"))
    assert total < 2_000_000, f"{total} bytes travel with every installation"
    for sprite in assets.sprites.values():
        assert re.fullmatch(r"[a-z-]+( [a-z]+)?", sprite.name), f"{sprite.name!r} is not one or two plain words"
        assert sprite.group and sprite.draw == (sprite.name in assets.classes)
        picture = load_sprite(sprite.path)
        assert 90 <= max(picture.size) <= 128 and picture.getchannel("A").getextrema()[1] == 255


def test_what_is_only_seen_is_a_class_apart(tmp_path):
    entries = [{**entry, "draw": entry["name"] != "a"} for entry in pack_entries()]
    assets = Assets.from_folder(write_pack(tmp_path / "seen", entries))
    assert assets.classes == tuple("bcdefghij") and assets.seen_classes == tuple("abcdefghij")


def test_photographs_of_ones_own_stand_beside_the_embedded_ones(tmp_path):
    entries = [{**entry, "source": "holiday", "licence": "GPL-2+"} for entry in pack_entries()[10:]]
    entries += [{**entries[0], "file": "a.png"}, {**entries[0], "file": "b.png", "name": "Coffee"}]
    embedded, folder = Assets.embedded(), write_pack(tmp_path / "photos", entries)  # two called v, one that is known
    assets = embedded.with_photos(folder)
    assert assets.sprites == embedded.sprites and assets.photos[: len(embedded.photos)] == embedded.photos
    new = {photo.name: photo.split for photo in assets.photos[len(embedded.photos) :]}
    assert new == {"v": "train", "w": "train", "x": "train", "y": "val", "z": "test", "v (a.png)": "train"}
    shown = {SceneSampler("train", 16, assets=assets)[i].scene.background.photo for i in range(200)}
    assert {"v", "w", "x", "v (a.png)"} <= shown and not {"y", "z"} & shown
    assert photo_licences(embedded)[0] == ("lomiri-wallpapers (Debian)", "CC-BY-4.0", 6)
    assert photo_licences(assets) == (*photo_licences(embedded), ("holiday", "GPL-2+", 4))
    assert photo_licences(assets, "test")[-1] == ("holiday", "GPL-2+", 1)
    assert card_licence(read_credits(assets, "train")) == "other"
    with pytest.raises(ValueError, match="has no photographs that are not known: list some with the kind photo"):
        assets.with_photos(folder)
    with pytest.raises(ValueError, match=re.escape("Photographs alone go beside the embedded ones: ")):
        Assets.from_folder(folder)


def test_large_photographs_are_shrunk_once(tmp_path):
    Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (4, 2000, 3))).save(tmp_path / "large.png")
    assert load_photo(tmp_path / "large.png").size == (2000, 1024)
    assert load_photo(tmp_path / "large.png", 256).size == (500, 256)
    assert load_photo(tmp_path / "large.png", 2048).size == (2000, 1024)


@pytest.mark.parametrize(
    ("licences", "card"),
    [
        (["MIT", "CC-BY-2.0", "CC0-1.0"], "cc-by-4.0"),
        (["MIT", "CC0-1.0"], "mit"),
        (["CC0-1.0"], "cc0-1.0"),
        (["MIT", "CC-BY-NC-4.0"], "other"),
        (["CC-BY-SA-4.0"], "other"),
        (["not stated"], "other"),
    ],
)
def test_a_card_has_the_strictest_licence(licences, card):
    assert card_licence(Credit("f", "sprite", "", "a", "s", licence) for licence in licences) == card


def test_a_pack_of_ones_own_makes_scenes(pack):
    assets = Assets.from_folder(pack)
    assert assets.classes == tuple("abcdefghij")
    assert [p.split for p in assets.photos] == ["train", "train", "train", "val", "test"]
    sampler = SceneSampler("train", 32, assets=assets)
    drawn = [sampler[i] for i in range(60)]
    assert all(s.mask.any() for s in drawn)
    assert {s.category for s in drawn} == set(CATEGORIES) - {"reasoning"}, "the pack tells no facts"
    assert np.array_equal(SceneSampler("train", 32, assets=assets)[3].source, drawn[3].source)
    assert {c.licence for c in read_credits(assets)} == {"not stated"}


def test_a_packs_own_facts_are_told(tmp_path):
    entries = pack_entries()
    entries[0] = {**entries[0], "name": "Dog", "fact": "pet of the house", "split": "val"}
    assets = Assets.from_folder(write_pack(tmp_path / "facts", entries))
    sampler = SceneSampler("train", 32, assets=assets, plain=True)
    told = [s.instruction for s in (sampler[i] for i in range(150)) if s.category == "reasoning"]
    assert told and all("the pet of the house" in text for text in told), "not what the embedded dog is known for"


def test_metadata_may_be_a_list(pack):
    (pack / "metadata.json").write_text(json.dumps(pack_entries()), encoding="utf-8")
    (pack / "metadata.jsonl").unlink()
    assert len(read_metadata(pack)) == 15


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "cloud"}, ValueError, "entry 0 .* has the kind 'cloud': choose one of sprite, photo"),
        ({"name": ""}, ValueError, "entry 0 .* it needs file, kind and name"),
        ({"split": "dev"}, ValueError, "has the split 'dev': choose one of train, val, test"),
        ({"file": "none.png"}, FileNotFoundError, "lists none.png, which is not there"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, change, error, message):
    entries = pack_entries()
    entries[0] = {**entries[0], **change}
    with pytest.raises(error, match=message):
        Assets.from_folder(write_pack(tmp_path / "bad", entries))


def test_a_bad_pack_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no metadata.json or metadata.jsonl: list each file there"):
        Assets.from_folder(tmp_path)
    few = write_pack(tmp_path / "few", pack_entries()[5:])
    with pytest.raises(ValueError, match="has 5 sprites and 5 photos: scenes need at least 8 sprites and"):
        Assets.from_folder(few)
    dark = write_pack(tmp_path / "dark", pack_entries()[:-1])
    with pytest.raises(ValueError, match="one photo in each of train, val and test"):
        Assets.from_folder(dark)
    broken = write_pack(tmp_path / "broken", pack_entries())
    (broken / "metadata.jsonl").write_text("{nonsense", encoding="utf-8")
    with pytest.raises(ValueError, match="is not JSON .*write a list in metadata.json, or one object a line"):
        Assets.from_folder(broken)


def test_a_pack_whose_edits_change_nothing_is_refused(tmp_path):
    folder = write_pack(tmp_path / "clear", pack_entries())
    for name in "abcdefghij":
        Image.new("RGBA", (24, 24)).save(folder / f"{name}.png")
    sampler = SceneSampler("train", 16, assets=Assets.from_folder(folder))
    with pytest.raises(RuntimeError, match="scene in 200 tries: the pack at .* has too few sprites or facts for it"):
        for index in range(20):
            sampler[index]
