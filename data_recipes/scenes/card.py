"""The dataset card that travels with written scenes."""

from __future__ import annotations

from typing import Any

from data_recipes.runner.card import card_header, how_to_load, table
from insightedit.scenes.assets import Assets
from insightedit.scenes.credits import card_licence, credit_table, read_credits

TEMPLATE = """# Scenes: {count} {what} of {size} x {size} pixels, split `{split}`

{about}

{loading}
## What is in it

{columns}

{tasks}

{categories}

## What is held out

- Backgrounds: a photograph appears in one split only.
- Wordings: some wordings of every task appear in `test` only, in about a third of its samples.
- Combinations: one in eleven {combinations} pairs never appears in `train` and `val`.

## Who made the sprites and photographs

{credits}

CC-BY asks you to name these authors wherever you pass the pictures on. Pictures, instructions and captions are
otherwise free to use under the licences above.

## The same data set again

```
python -m data_recipes.scenes --out DIR --count {count} --size {size} --split {split} --format {format} \\
    --seed {seed} --shard-size {shard_size} --start-index {start_index} --task {task}
```

`manifest.json` lists the files with their SHA-256. Fingerprint of the sprites and photographs: `{assets}`.
"""

NOT_IN_NATURE = """(A few photographs show real things that are also sprites, and facts such as "the animal that lives
in water" are unique among the facts written down, not in nature.)"""
ABOUT = {
    "edits": f"""Named sprites on photographs, an instruction, and the exactly rendered result. Every instruction
has one answer: it names its object, place, colour and kind so that one of the sprites fits, and the target follows from
the source and the instruction alone. {NOT_IN_NATURE}""",
    "subjects": """Instructions in which pictures stand in place of words, and the exactly rendered new picture. Each
`<imagehere>` stands for one picture of `references`, in order: a subject on light paper, of which half are tinted, or
the backdrop that it is to stand on. Other backdrops are told in words. The subject looks in the target as its reference
shows it, half as large; the paper does not matter.""",
    "subject_edits": f"""Named sprites on photographs, an instruction in which a picture stands in place of words for
the new object, and the exactly rendered result. `<imagehere>` stands for the picture in `references`: a subject on
light paper, of which half are tinted. It is added, or replaces an object, and looks in the target as the reference
shows it; the paper does not matter. {NOT_IN_NATURE}""",
}
WHAT = {"edits": "edits", "subjects": "new pictures of subjects", "subject_edits": "edits that put in a subject"}
COMBINATIONS = {
    "edits": "(class, task)",
    "subjects": "(class, tint)",
    "subject_edits": "(class, task) and one in eleven (class, tint)",
}
COLUMN_ROWS = (
    ("source", "RGB picture before the edit"),
    ("target", "RGB picture that is wanted"),
    ("mask", "white where the edit changes the picture, or where the subjects are"),
    ("references", "RGB pictures that stand in the instruction"),
    ("instruction", "what a user would say"),
    ("expressive_instruction", "the same with every reference resolved, and words for the pictures"),
    ("caption_source", "what the source shows"),
    ("caption_target", "what the target shows"),
    ("qa", "questions about the source and what the instruction means, with answers"),
)


def dataset_card(manifest: dict[str, Any], assets: Assets, columns: tuple[str, ...]) -> str:
    """The text of README.md, with its YAML header, of a finished data set, its `columns` by name."""
    settings = manifest["settings"]
    credits = read_credits(assets, settings["split"])
    task, in_tar = settings["task"], settings["format"] == "webdataset"
    tags = ["synthetic", *(["subject-driven-generation"] if task != "edits" else [])]
    title = f"Scenes ({settings['split']}, {settings['size']} px)"
    rows = []
    for name, what in COLUMN_ROWS:
        ending = ".png" if in_tar and name in ("source", "target", "mask", "references") else ""
        aside = ", side by side, squares as high as the picture" if in_tar and name == "references" else ""
        if name in columns:
            rows.append((f"`{name}{ending}`", what + aside))
    first, second = ("picture", "backdrop") if task == "subjects" else ("edit", "reference")
    kinds = f"the kind of {first}, of {second}, of wording, and which wording"
    rows.append(("`task`, `category`, `style`, `template_id`", kinds))
    rows.append(("`index`, `split`, `seed`, `size`", "the four numbers the sample is a pure function of"))
    header = card_header(
        title, settings["format"], settings["split"], settings["count"], card_licence(credits), more_tags=tags
    )
    return header + TEMPLATE.format(
        **settings,
        what=WHAT[task],
        about=ABOUT[task],
        loading=how_to_load(settings["format"], settings["split"]),
        columns=table((f"column{' (texts and numbers are in `json`)' if in_tar else ''}", "what"), rows),
        combinations=COMBINATIONS[task],
        tasks=table(("task", "pairs"), manifest["tasks"].items()),
        categories=table(("category", "pairs"), manifest["categories"].items()),
        credits=credit_table(credits),
    )
