"""The dataset card of a run, with the header that the Hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from data_recipes.recipes import recipe_module
from data_recipes.runner.config import RecipeConfig
from data_recipes.runner.measure import Counts
from data_recipes.runner.rows import COLUMNS, ENDINGS, PICTURES
from data_recipes.scenes.card import HEADER, LOADING, size_category

SHEET = "pairs.png"
TEMPLATE = f"""{HEADER}# {{heading}}

{{about}}

{{sheet}}{LOADING}
"""
TEMPLATE += """Train on it:

```
python -m insightedit.stage3 'data.sources=[{{kind: {format}, path: DIR, split: {split}}}]'
```

## What is in it

| column{where} | what |
|---|---|
{columns}

| task | pairs |
|---|---|
{tasks}

[statistics.html](statistics.html) shows sizes, categories, scores and samples.

## How it was made

{inputs} inputs ({source}) passed the recipe `{recipe}`:

| step | models | records in | records out |
|---|---|---|---|
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


def dataset_card(manifest: Mapping[str, Any], total: Counts, config: RecipeConfig) -> str:
    """The text of README.md, with its YAML header.

    Args:
        manifest: of the finished run.
        total: its counts.
        config: its settings.
    """
    licence = config.output.licence
    in_tar = config.output.format == "webdataset"
    recipe = manifest["recipe"]
    sheet = f"![before, after, mask]({SHEET})\n\n" if total["pairs"] else ""
    return TEMPLATE.format(
        licence=f"license: {licence}\n" if licence else "",
        title=json.dumps(f"Editing pairs by {recipe}"),
        heading=f"{total['pairs']:,} editing pairs by the recipe `{recipe}`",
        about=recipe_module(recipe).ABOUT,
        sheet=sheet,
        size_category=size_category(total["pairs"]),
        synthetic="",
        tag="",
        format=config.output.format,
        ending=ENDINGS[config.output.format],
        split=config.split,
        where=" (texts are in `json`)" if in_tar else "",
        columns="\n".join(_columns(in_tar)),
        tasks="\n".join(f"| {name} | {number:,} |" for name, number in total["counts"]["tasks"].items()),
        inputs=f"{total['inputs']:,}",
        source=config.source.kind,
        recipe=recipe,
        steps=_steps(manifest, total),
        models=_models(manifest),
        rejects=_rejects(total),
        settings=_settings(manifest["settings"]),
    )


def _columns(in_tar: bool) -> list[str]:
    ending = {name: f"{name}.png" for name in (*PICTURES, "references")} if in_tar else {}
    aside = {"references": ", side by side in squares"} if in_tar else {}
    return [f"| `{ending.get(name, name)}` | {what}{aside.get(name, '')} |" for name, what in COLUMNS.items()]


def _steps(manifest: Mapping[str, Any], total: Counts) -> str:
    rows = []
    for step in manifest["steps"]:
        entered, left = total["steps"][step["name"]]
        rows.append(f"| {step['name']} | {', '.join(step['needs'])} | {entered:,} | {left:,} |")
    return "\n".join(rows)


def _models(manifest: Mapping[str, Any]) -> str:
    if not manifest["backends"]:
        return ""
    rows = [f"| {name} | {told['kind']} | {told['model']} |" for name, told in manifest["backends"].items()]
    return "\n".join(["| model | kind | name |", "|---|---|---|", *rows]) + "\n\n"


def _rejects(total: Counts) -> str:
    rows = [
        f"| {step} | {reason.replace('|', '/')} | {number:,} |"
        for step, reasons in total["rejects_by_reason"].items()
        for reason, number in reasons.items()
    ]
    if not rows:
        return "No record was rejected.\n"
    head = ["Rejected, record by record in `rejected.jsonl`:", "", "| step | reason | records |", "|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def _settings(settings: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True).rstrip()
