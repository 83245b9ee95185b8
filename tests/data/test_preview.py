"""What a stage would see: the same batches that it trains on, told in words and pictures."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from insightedit.cli.data import app, build_sheet, read_config
from insightedit.config.load import dump_config, load_config
from insightedit.datasets.loader import StepLoader
from insightedit.images.sheets import (
    PairCard,
    Paragraph,
    Run,
    Section,
    Sheet,
    SheetTable,
    Tile,
    draw,
    render,
    write_pair_sheet,
)
from insightedit.model.build import build_editor
from insightedit.training.data import build_collator, build_loader, build_mixture, build_weightless_collator
from insightedit.training.preview import preview, to_picture, token_runs
from tests.data.published_files import as_json, instructpix2pix, llava, picture, reasonedit

TINY = ["tiny"]


def config(recipe: str = "insightedit", stage: int = 3, *words: str):
    return load_config(recipe, stage, TINY, words)


@pytest.mark.parametrize(
    ("recipe", "stage"), [("insightedit", 1), ("insightedit", 2), ("insightedit", 3), ("mgie", 3), ("mige", 3)]
)
def test_the_batches_are_those_that_train(recipe, stage):
    whole = config(recipe, stage)
    editor = build_editor(whole)
    ours = StepLoader(build_mixture(whole), build_weightless_collator(whole), batch_size=2)
    for mine, theirs in zip(islice(ours, 2), islice(build_loader(whole, editor), 2), strict=True):
        for name, tensor in vars(theirs).items():
            if isinstance(tensor, torch.Tensor):
                assert torch.equal(getattr(mine, name), tensor), name
        for name, tensor in vars(theirs.tokens).items():
            assert (tensor is None) == (getattr(mine.tokens, name) is None), name
            if tensor is not None:
                assert torch.equal(getattr(mine.tokens, name), tensor), name
    assert type(build_collator(whole, editor)) is type(ours.batches.collate)


def test_samples_say_what_is_read_and_what_is_learned():
    whole = config("insightedit", 3, "train.batch_size=3")
    seen = preview(whole, samples=4, draws=100)
    editor = build_editor(whole)
    batch = next(iter(build_loader(whole, editor)))
    tokenizer = editor.comprehension.processor.tokenizer
    assert [sample.index for sample in seen.samples] == [0, 1, 2, 3]
    for row, sample in enumerate(seen.samples[:3]):
        text = "".join(run.text for run in sample.runs)
        assert sample.record.instruction in text
        learned = "".join(run.text for run in sample.runs if run.style == "learned")
        wanted = batch.tokens.labels[row][batch.tokens.labels[row] != -100]
        assert sample.num_learned == len(wanted)
        assert learned.endswith("<img_0><img_1><img_2><img_3>")
        assert learned.split("<img_0>")[0].strip() == tokenizer.decode(wanted[:-4]).strip()
        assert sample.num_tokens == int(batch.tokens.attention_mask[row].sum())
        slots = int((batch.tokens.input_ids[row] == editor.comprehension.stock.config.image_token_id).sum())
        assert Run(f"<picture: {slots} tokens>", "picture") in sample.runs
        assert np.array_equal(sample.pictures["source"], to_picture(batch.source_pixels[row]))
        assert list(sample.pictures) == ["source", "target", "changed"]


def test_shares_are_counted_over_the_stream(tmp_path):
    instructpix2pix(tmp_path / "ip2p")
    words = [
        f"data.sources=[{{kind: scenes, weight: 3}}, {{kind: instructpix2pix, path: {tmp_path / 'ip2p'}, weight: 1}}]",
        "train.max_steps=90",
    ]
    whole = config("insightedit", 3, *words)
    seen = preview(whole, samples=2, draws=4000)
    scenes, pairs = seen.shares
    assert (scenes.name, scenes.records, scenes.configured, scenes.visits) == ("0-scenes", None, 0.75, None)
    assert (pairs.name, pairs.records) == ("1-instructpix2pix", 18)
    assert pairs.visits == pytest.approx(90 * 2 * 0.25 / 18)
    assert scenes.drawn + pairs.drawn == 4000
    assert abs(pairs.drawn - 1000) < 110  # four standard deviations
    (row, other) = build_sheet(seen, whole).tables[0].rows
    assert row[:3] == ("0-scenes", "endless", "75.0 %")
    assert other[5] == "2.50"


def test_broken_records_are_counted_by_source(tmp_path):
    reasonedit(tmp_path)  # its second record has no target
    whole = config("insightedit", 3, f"data.sources=[{{kind: reasonedit, path: {tmp_path}}}]")
    seen = preview(whole, samples=6, draws=10)
    assert seen.broken["0-reasonedit"] >= 1
    assert {sample.record.key for sample in seen.samples} == {"reasonedit/0000"}
    assert build_sheet(seen, whole).tables[0].rows[0][-1] == str(seen.broken["0-reasonedit"])


def test_subjects_show_their_references_and_no_learned_token():
    seen = preview(config("mige"), samples=8, draws=50)
    drawn = [sample for sample in seen.samples if sample.record.source_image is None]
    assert drawn
    for sample in drawn:
        assert sample.num_learned is None
        assert not any(run.style == "learned" for run in sample.runs)
        slots = [run for run in sample.runs if run.style == "picture"]
        assert len(slots) == len(sample.record.reference_images)
        assert [name for name in sample.pictures if name.startswith("reference")] == [
            f"reference {number}" for number in range(1, len(slots) + 1)
        ]
        assert sample.pictures["blank in place of a source"].min() == 127


def test_stage_one_shows_the_text_that_it_aligns_with():
    seen = preview(config("insightedit", 1), samples=3, draws=50)
    for sample in seen.samples:
        assert sample.aligned
        assert sample.record.caption.startswith(sample.aligned)  # the tiny text encoder reads few tokens
        assert sample.pictures == {}


def test_chats_are_learned_word_by_word(tmp_path):
    llava(tmp_path)
    words = f"data.sources=[{{kind: llava_instruct, path: {tmp_path}, images: {tmp_path / 'train2017'}}}]"
    (sample,) = preview(config("insightedit", 3, words), samples=1, draws=5).samples
    learned = "".join(run.text for run in sample.runs if run.style == "learned")
    assert learned.strip().removesuffix("</s>").strip() == sample.record.reply
    assert "".join(run.text for run in sample.runs).count("<img_") == 4


def test_tokens_become_text_with_bytes_blanks_and_line_ends():
    tokens = ["\u2581a", "<0xC3>", "<0xA9>", "<image>", "<image>", "<0x0A>", "\u0120b", "<pad>"]
    flags = torch.tensor
    slots = flags([False, False, False, True, True, False, False, False])
    learned = flags([False] * 6 + [True, False])
    runs = token_runs(tokens, flags([True] * 7 + [False]), slots, learned)
    assert runs == (
        Run(" aé"), Run("<picture: 2 tokens>", "picture"), Run("\u21b5"), Run(" b", "learned"),
        Run("<filler: 1 tokens>", "pad"),
    )  # fmt: skip


def invoke(*words: object):
    return CliRunner().invoke(app, ["preview", *(str(word) for word in words)])


def test_the_command_tells_and_draws(tmp_path):
    done = invoke("mgie", "--overlay", "tiny", "--samples", 3, "--draws", 200, "--sheet", tmp_path / "x.html")
    assert done.exit_code == 0, done.output
    assert "mgie, stage 3 (edit): 4 steps of 2 samples, 32 x 32 pixels, seed 0" in done.output
    assert "Sources, over 200 draws" in done.output
    assert done.output.count("instruction: ") == 3
    assert "ASSISTANT:«" in done.output
    assert done.output.endswith(f"{tmp_path / 'x.html'}  3 samples\n")
    page = (tmp_path / "x.html").read_text()
    assert page.count("<figure>") == 9
    assert '<span class="learned">' in page


def test_what_a_stage_would_see_that_starts_from_the_packages_model(tmp_path, monkeypatch):
    """Its tokenizers and processors are all that is needed; the miniature base models are not."""
    monkeypatch.setenv("INSIGHTEDIT_MINIATURES", str(tmp_path / "none"))
    words = ["insightedit", "--overlay", "mini", "--samples", 1, "--draws", 10, "--sheet", tmp_path / "x.html"]
    assert "no model in" in invoke(*words).output
    done = invoke(*words, "--init-from", "default")
    assert done.exit_code == 0, done.output
    assert "<img_0><img_1><img_2><img_3><img_4><img_5><img_6><img_7>»" in done.output


def test_the_config_of_a_run_says_its_own_stage(tmp_path):
    path = tmp_path / "config.yaml"
    dump_config(config("insightedit", 1), path)
    assert read_config(str(path), None, [], []).stage.number == 1
    assert read_config("insightedit", None, TINY, ["batch_size=5"]).stage.number == 3
    own = tmp_path / "own.yaml"
    own.write_text("train: {seed: 7}\n")
    assert read_config(str(own), None, TINY, []).train.seed == 7
    assert read_config(str(own), 2, TINY, []).stage.number == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["insightedlt"], "the recipe `insightedlt` is not known (did you mean insightedit?)"),
        (["insightedit", "--stage", "7"], "less than or equal to 3"),
        (["insightedit", "--overlay", "tiny", "train.batchsize=3"], "no such setting (did you mean"),
        (["insightedit", "--overlay", "tiny", "--sheet", "x.jpg"], "has to be a file that ends in .html or .png."),
        (
            ["insightedit", "--overlay", "tiny", "data.sources=[{kind: jsonl, path: gone}]"],
            "gone does not exist: name the folder of the *.jsonl files",
        ),
        (
            ["mige", "--overlay", "tiny", "--init-from", "default"],
            "reads with a language model, which recipe mige does not have",
        ),
    ],
)
def test_wrong_words_are_refused_in_one_sentence(words, told):
    done = invoke(*words)
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())


def sheet(text: str = "a <b> & more") -> Sheet:
    tiles = (Tile("small", np.zeros((20, 30, 3), np.uint8)), Tile("large", np.full((400, 300, 3), 99, np.uint8)))
    lines = (
        Paragraph.of("word " * 200),
        Paragraph((Run(text), Run(" learned", "learned"), Run(" pad", "pad")), is_code=True),
    )
    sections = (Section("Part", (PairCard("one", tiles, lines), PairCard("two", tiles * 4)), "a note"),)
    return Sheet("Title", ("remark",), (SheetTable("Numbers", ("a", "b"), (("1", "2"),)),), sections)


def test_sheets_are_whole_html_with_escaped_text(tmp_path):
    page = render(sheet())
    assert "a &lt;b&gt; &amp; more" in page
    assert "<script" not in page
    assert 'width="180" height="120"' in page
    assert 'width="144" height="192"' in page
    assert page.count("data:image/png;base64,") == 10
    write_pair_sheet(sheet(), tmp_path / "x.html")
    assert (tmp_path / "x.html").read_text() == page


def test_sheets_are_pictures_as_tall_as_they_need(tmp_path):
    image = draw(sheet())
    assert image.width == 1200
    pixels = np.asarray(image)
    assert (pixels == (205, 238, 224)).all(axis=2).any()  # the learned run's ground
    assert (pixels == 99).all(axis=2).sum() == 5 * 144 * 192
    assert (pixels[-3:] == 255).all()
    assert draw(Sheet("only a title")).height < 100
    write_pair_sheet(sheet(), tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as written:
        assert np.array_equal(np.asarray(written), pixels)


def test_sheets_with_other_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has to be a file that ends in .html or .png."):
        write_pair_sheet(sheet(), tmp_path / "x.gif")
    with pytest.raises(FileNotFoundError, match="no folder .*gone for the sheet: make it first, or write elsewhere."):
        write_pair_sheet(sheet(), tmp_path / "gone" / "x.png")


def test_a_preview_becomes_a_sheet(tmp_path):
    whole = config("insightedit", 3)
    made = build_sheet(preview(whole, samples=2, draws=10), whole)
    assert made.title == "insightedit, stage 3: what it sees"
    assert [len(card.tiles) for card in made.sections[0].cards] == [3, 3]
    assert made.sections[0].cards[0].lines[-1].is_code


def test_pictures_without_words_are_told(tmp_path):
    picture(tmp_path / "a.png")
    row = {"origin_img_path": "a.png", "target_img_path": "a.png", "instruction": [" "]}
    as_json(tmp_path / "train.json", {"0": row})
    done = invoke("insightedit", "--overlay", "tiny", f"data.sources=[{{kind: reasonedit, path: {tmp_path}}}]",
                  "--sheet", tmp_path / "x.html")  # fmt: skip
    assert done.exit_code == 2
    assert "100 broken records in a row" in done.output
    assert not Path(tmp_path / "x.html").exists()


@pytest.mark.parametrize(
    ("content", "words", "told"),
    [
        (b"a: [1", [], "is no YAML that can be read"),
        (b"\xff\xfe\x00", [], "is no YAML that can be read"),
        (
            b"train: {seed: 7}",
            ["--overlay", "tiny", "--init-from", "nope"],
            "--init-from nope: there is no such folder",
        ),
    ],
)
def test_a_file_or_model_that_is_none_is_told(tmp_path, content, words, told):
    (tmp_path / "own.yaml").write_bytes(content)
    done = invoke(tmp_path / "own.yaml", *words, "--sheet", tmp_path / "x.html")
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())
