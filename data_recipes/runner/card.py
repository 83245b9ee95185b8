"""The dataset card of a run, and what every dataset card here begins with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_recipes.recipes import recipe_module
from data_recipes.runner.config import RecipeConfig
from data_recipes.runner.rows import COLUMNS, ENDINGS, PICTURES

SHEET = "pairs.png"
SIZE_CATEGORIES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
TAGS = ("image-editing", "instruction-based-image-editing")
TEMPLATE = """# {pairs} editing pairs by the recipe `{recipe}`

{about}

{sheet}{loading}
Train on it:

```
python -m insightedit.stage3 'data.sources=[{{kind: {format}, path: DIR, split: {split}}}]'
```

## What is in it

{columns}

{tasks}

[statistics.html](statistics.html) shows sizes, categories, scores and samples.

## How it was made

{inputs} inputs ({source}) passed the recipe `{recipe}`:

{steps}

{models}{rejects}

The same data set again:

```
python -m data_recipes {recipe} --config CONFIG --out DIR
```

where CONFIG holds

```yaml
{settings}
```

`manifest.json` lists the files with their SHA-256, the versions of the libraries and the digests of all prompts.
"""


def card_header(
    title: str, format: str, split: str, count: int, licence: str | None, *, more_tags: Sequence[str] = ()
) -> str:
    """The YAML that the Hub reads, up to the line behind it; `format` is parquet or webdataset."""
    from huggingface_hub import DatasetCardData

    files = [{"split": split, "path": f"{split}-*.{ENDINGS[format]}"}]
    data = DatasetCardData(
        license=licence,
        pretty_name=title,
        task_categories=["image-to-image"],
        language=["en"],
        size_categories=[size_category(count)],
        tags=[*TAGS, *more_tags],
        configs=[{"config_name": "default", "data_files": files}],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def size_category(count: int) -> str:
    """The bracket that dataset cards name a size with, up to ten million."""
    return next((name for limit, name in SIZE_CATEGORIES if count < limit), "1M<n<10M")


def how_to_load(format: str, split: str) -> str:
    """Code that loads the files of a card's data set."""
    return f"""```python
from datasets import load_dataset

data = load_dataset("{format}", data_files="{split}-*.{ENDINGS[format]}", split="train")
```
"""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; numbers get commas, and bars in texts become slashes."""
    lines = [head, ["---"] * len(head), *rows]
    cells = (
        [f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "/") for cell in line] for line in lines
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def dataset_card(manifest: Mapping[str, Any], config: RecipeConfig) -> str:
    """The text of README.md, with its YAML header, of a finished run."""
    import yaml

    recipe, output, in_tar = manifest["recipe"], config.output, config.output.format == "webdataset"
    columns = []
    for name, what in COLUMNS.items():
        ending = ".png" if in_tar and name in (*PICTURES, "references") else ""
        aside = ", side by side in squares" if in_tar and name == "references" else ""
        columns.append((f"`{name}{ending}`", what + aside))
    steps = [(step["name"], ", ".join(step["needs"]), *manifest["passed"][step["name"]]) for step in manifest["steps"]]
    models = [(name, told["kind"], told["model"]) for name, told in manifest["backends"].items()]
    rejects = [(step, *one) for step, reasons in manifest["rejects"].items() for one in reasons.items()]
    told = "Rejected, record by record in `rejected.jsonl`:\n\n" + table(("step", "reason", "records"), rejects)
    title = f"Editing pairs by {recipe}"
    return card_header(title, output.format, config.split, manifest["pairs"], output.licence) + TEMPLATE.format(
        pairs=f"{manifest['pairs']:,}",
        recipe=recipe,
        about=recipe_module(recipe).ABOUT,
        sheet=f"![before, after, mask]({SHEET})\n\n" if manifest["pairs"] else "",
        loading=how_to_load(output.format, config.split),
        format=output.format,
        split=config.split,
        columns=table((f"column{' (texts are in `json`)' if in_tar else ''}", "what"), columns),
        tasks=table(("task", "pairs"), manifest["tasks"].items()),
        inputs=f"{manifest['inputs']:,}",
        source=config.source.kind,
        steps=table(("step", "models", "records in", "records out"), steps),
        models=table(("model", "kind", "name"), models) + "\n\n" if models else "",
        rejects=told if rejects else "No record was rejected.",
        settings=yaml.safe_dump(dict(manifest["settings"]), sort_keys=False, allow_unicode=True).rstrip(),
    )
