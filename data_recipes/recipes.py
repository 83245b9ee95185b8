"""The recipes by name. Each is a module with `steps(settings)`, the list of its steps, and `ABOUT`, one sentence."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

from data_recipes.runner.steps import Step
from insightedit.console import did_you_mean

RECIPES: dict[str, str] = {
    "advancededit": "data_recipes.advancededit",
    "smartedit_synthetic": "data_recipes.smartedit_synthetic",
    "mige_addition": "data_recipes.mige_addition",
    "mige_replacement": "data_recipes.mige_replacement",
    "subject_driven": "data_recipes.subject_driven",
    "mgie_expressive": "data_recipes.mgie_expressive",
    "scenes": "data_recipes.scenes",
}

Settings = Mapping[str, Mapping[str, Any]]
"""The config's section `steps`: name of a step -> its settings; what is left out has its default."""


def build_steps(named: str, settings: Settings) -> list[Step]:
    """The steps of a recipe: one of `RECIPES`, or the dotted name of a module of your own; ValueError for others."""
    steps = recipe_module(named).steps(settings)
    names = [step.name for step in steps]
    for name, value in settings.items():
        if name not in names and value is not None:
            raise ValueError(f"steps.{name}: the recipe {named} has no such step; {did_you_mean(name, names)}")
    return steps


def recipe_module(named: str) -> Any:
    """The module of a recipe, with `steps` and `ABOUT`; ValueError if there is none."""
    place = RECIPES.get(named, named)
    if "." not in place:
        raise ValueError(f"recipe is {named!r}: {did_you_mean(named, RECIPES)}")
    try:
        found = import_module(place)
        found.steps, found.ABOUT  # noqa: B018
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"the recipe {named} cannot be loaded: {error}.") from error
    return found


def configured_steps(settings: Settings, *steps: type[Any], optional: Collection[type[Any]] = ()) -> list[Step]:
    """Steps, which are dataclasses with the class attribute `name`, with the config's settings for them, in order.

    Those that are `optional` are left out unless the config names them; `NAME: {}` is enough.
    """
    made = []
    for step in steps:
        given = settings.get(step.name)
        if step in optional and not isinstance(given, Mapping):
            continue
        known = [one.name for one in fields(step) if one.init]
        for key in given or {}:
            if key not in known:
                raise ValueError(
                    f"steps.{step.name}.{key}: the step {step.name} has no such setting; {did_you_mean(key, known)}"
                )
        made.append(step(**given or {}))
    return made
