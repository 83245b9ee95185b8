"""The dataset card that travels with written scenes."""

from __future__ import annotations

from typing import Any

from data_recipes.scenes.assets import Assets
from data_recipes.scenes.credits import card_licence, credit_table, read_credits

SIZE_CATEGORIES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
TEMPLATE = """---
license: {licence}
pretty_name: Scenes ({split}, {size} px)
task_categories:
- image-to-image
language:
- en
size_categories:
- {size_category}
tags:
- image-editing
- instruction-based-image-editing
- synthetic
- {format}
configs:
- config_name: default
  data_files:
  - split: {split}
    path: "{split}-*.{ending}"
---
# Scenes: {count} edits of {size} x {size} pixels, split `{split}`

Named sprites on photographs, an instruction, and the exactly rendered result. Every instruction has one answer: it
names its object, place, colour and kind so that one of the sprites fits, and the target follows from the source and the
instruction alone. (A few photographs show real things that are also sprites, and facts such as "the animal that lives
in water" are unique among the facts written down, not in nature.)

```python
from datasets import load_dataset

data = load_dataset("{format}", data_files="{split}-*.{ending}", split="train")
```

## What is in it

| column{where} | what |
|---|---|
| `{source}` | RGB picture before the edit |
| `{target}` | RGB picture after the edit |
| `{mask}` | white where the two differ |
| `instruction` | what a user would say |
| `expressive_instruction` | the same with every reference resolved |
| `caption_source`, `caption_target` | what the pictures show |
| `qa` | questions about the source and what the instruction means, with answers |
| `task`, `category`, `style`, `template_id` | the kind of edit, of reference, of wording, and which wording |
| `index`, `split`, `seed`, `size` | the four numbers the sample is a pure function of |

{tasks}

{categories}

## What is held out

- Backgrounds: a photograph appears in one split only.
- Wordings: some wordings of every task appear in `test` only, in about a third of its samples.
- Combinations: one in eleven (class, task) pairs never appears in `train` and `val`.

## Who made the sprites and photographs

{credits}

CC-BY asks you to name these authors wherever you pass the pictures on. Pictures, instructions and captions are
otherwise free to use under the licences above.

## The same data set again

```
python -m data_recipes.scenes --out DIR --count {count} --size {size} --split {split} --format {format} \\
    --seed {seed} --shard-size {shard_size} --start-index {start_index}
```

`manifest.json` lists the files with their SHA-256. Fingerprint of the sprites and photographs: `{assets}`.
"""


def dataset_card(manifest: dict[str, Any], assets: Assets) -> str:
    """The text of README.md, with its YAML header.

    Args:
        manifest: of a finished data set, with its counts.
        assets: sprites and photographs that it was made of.
    """
    settings = manifest["settings"]
    credits = read_credits(assets, settings["split"])
    in_tar = settings["format"] == "webdataset"
    return TEMPLATE.format(
        **settings,
        licence=card_licence(credits),
        size_category=size_category(settings["count"]),
        ending="tar" if in_tar else "parquet",
        where=" (texts and numbers are in `json`)" if in_tar else "",
        **{name: f"{name}.png" if in_tar else name for name in ("source", "target", "mask")},
        tasks=_counts("task", manifest["tasks"]),
        categories=_counts("category", manifest["categories"]),
        credits=credit_table(credits),
    )


def size_category(count: int) -> str:
    """The bracket that dataset cards name a size with, up to ten million."""
    return next((name for limit, name in SIZE_CATEGORIES if count < limit), "1M<n<10M")


def _counts(name: str, counts: dict[str, int]) -> str:
    rows = [f"| {name} | pairs |", "|---|---|", *(f"| {key} | {count} |" for key, count in counts.items())]
    return "\n".join(rows)
