"""The plan of the house: which room may know which, and how large it may be. Numbers may only fall.

`python -m tests.test_house` tells what is found, to lower a ceiling by.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("types", "files", "console"),
    ("config", "images", "hub", "modeling"),
    ("scenes", "chat", "detection"),
    ("comprehension", "bridging", "generation", "miniatures"),
    ("datasets", "model"),
    ("pipelines",),
    ("training",),
    ("export", "evaluation"),
    ("cli",),
)
"""Rooms of `insightedit`, lowest first: a room imports from floors below, and from its own without circles."""
ENTRANCES = {"__main__", "stage1", "stage2", "stage3"}
"""Modules that are called and that nobody imports, as every package's `__main__` is."""
RECIPES_REACH = "datasets"
"""The highest floor of `insightedit` that `data_recipes` may import from."""

KNOWN_UPWARD: dict[str, int] = {}
"""Imports that go up today, `room -> room` and how many: the list may only become shorter."""
KNOWN_CIRCLES: tuple[tuple[str, ...], ...] = ()
"""Rooms of one floor that import each other today."""
CEILINGS = {
    "root modules of insightedit": 8,
    "lines of insightedit and data_recipes": 54000,
    "functions with more than 8 parameters": 6,
    "class names defined twice": 0,
    "imports of insightedit from data_recipes": 0,
    "imports of data_recipes from above datasets": 0,
}
"""Counter -> the most that it may be. A feature raises the lines by what it needs, in the commit that brings it."""
MAX_PARAMETERS = 8
FREE_OF_PARAMETERS = ("insightedit/config/schema.py", "insightedit/cli/", "data_recipes/expressive.py")
"""The schema's classes and the commands' options are as many as there are settings."""


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of both packages."""
    found = {}
    for path in sorted(path for top in ("insightedit", "data_recipes") for path in (ROOT / top).rglob("*.py")):
        if "weights" in path.parts:  # a model folder's own line for plain diffusers
            continue
        found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def public_homes() -> dict[str, str]:
    """Name that `insightedit` hands out -> module that it comes from."""
    import insightedit

    return dict(insightedit._HOMES)


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import below a node, at any depth, but for those that only tell types."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not for_types_only(child):
            yield from imports(child)


def imported(name: str) -> set[str]:
    """The modules of ours that a module imports, wherever it does."""
    found = set()
    for node in imports(tree(modules()[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        home = "." * node.level + (node.module or "")
        assert not node.level, f"{name} imports relative to itself: {home}"
        for alias in node.names:
            inner = f"{home}.{alias.name}"
            if home == "insightedit" and alias.name in public_homes():
                found.add(public_homes()[alias.name])
            else:
                found.add(inner if inner in modules() else home)
    return {one for one in found if one in modules() and one != name}


def room(name: str) -> str:
    """`insightedit.config.load` -> config; `data_recipes.steps.masks` -> data_recipes.steps; the package -> ''."""
    top, _, rest = name.partition(".")
    inner = rest.partition(".")[0]
    return inner if top == "insightedit" else f"{top}.{inner}"


def floor(room_name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room_name in rooms)


def is_entrance(name: str) -> bool:
    return room(name) in ENTRANCES or name.endswith(".__main__")


@cache
def edges() -> dict[tuple[str, str], list[str]]:
    """(room, room it imports from) -> `module imports module`; between the rooms of insightedit."""
    found = defaultdict(list)
    for name in modules():
        if name.startswith("insightedit.") and not is_entrance(name):
            for other in imported(name):
                if other.startswith("insightedit.") and room(other) != room(name):
                    found[room(name), room(other)].append(f"{name} imports {other}")
    return dict(found)


def upward() -> dict[str, list[str]]:
    """`room -> room` of every import from a floor above -> who imports whom."""
    return {f"{low} -> {high}": who for (low, high), who in edges().items() if floor(low) < floor(high)}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of two and more nodes that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen, left = set(), [start]
        while left:
            for other in graph.get(left.pop(), ()):
                if other not in seen:
                    seen.add(other)
                    left.append(other)
        reached[start] = seen
    groups = {tuple(sorted(o for o in reached[n] if n in reached.get(o, ()))) for n in graph if n in reached[n]}
    return sorted(list(group) for group in groups if len(group) > 1)


def circles_of_rooms() -> list[list[str]]:
    """Rooms of one floor that import each other; those between floors hold an upward import."""
    graph: dict[str, set[str]] = defaultdict(set)
    for low, high in edges():
        if floor(low) == floor(high):
            graph[low].add(high)
    return circles(dict(graph))


def reaching_for_recipes() -> list[str]:
    """Imports of `data_recipes` in the package; the command line calls them by name, which is none."""
    return [
        f"{name} imports {other}"
        for name in modules()
        if name.startswith("insightedit")
        for other in imported(name)
        if other.startswith("data_recipes")
    ]


def recipes_reaching_up() -> list[str]:
    """Imports of `data_recipes` from above the data sets."""
    return [
        f"{name} imports {other}"
        for name in modules()
        if name.startswith("data_recipes")
        for other in imported(name)
        if other.startswith("insightedit.") and floor(room(other)) > floor(RECIPES_REACH)
    ]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def many_parameters() -> list[str]:
    """Functions that take too much at once; `self` does not count."""
    found = []
    for path in modules().values():
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(FREE_OF_PARAMETERS) or path.name == "cli.py":
            continue
        for one in functions(path):
            names = [a.arg for a in (*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs)]
            if len([name for name in names if name not in ("self", "cls")]) > MAX_PARAMETERS:
                found.append(f"{place}:{one.lineno} {one.name}")
    return found


def classes_of_one_name() -> dict[str, list[str]]:
    """Name -> places, of classes that two modules define."""
    found = defaultdict(list)
    for name, path in modules().items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(name)
    return {name: places for name, places in sorted(found.items()) if len(places) > 1}


def root_modules() -> list[str]:
    return sorted(path.name for path in (ROOT / "insightedit").glob("*.py"))


def lines() -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values())


def comments_per_code_line(rooms: tuple[str, ...]) -> float:
    """Lines with a comment by lines with code, without docstrings and blank ones."""
    import io
    import tokenize

    count: Counter[str] = Counter()
    for name, path in modules().items():
        if not name.startswith(rooms):
            continue
        code, texts = set(), set()
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            if token.type == tokenize.COMMENT:
                texts.add(token.start[0])
            elif token.type == tokenize.STRING and token.line.strip().startswith(('"""', 'r"""')):
                continue
            elif token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING):
                code.add(token.start[0])
        count["code"] += len(code)
        count["comments"] += len(texts)
    return count["comments"] / max(1, count["code"])


COUNTERS = {
    "root modules of insightedit": lambda: len(root_modules()),
    "lines of insightedit and data_recipes": lines,
    "functions with more than 8 parameters": lambda: len(many_parameters()),
    "class names defined twice": lambda: len(classes_of_one_name()),
    "imports of insightedit from data_recipes": lambda: len(reaching_for_recipes()),
    "imports of data_recipes from above datasets": lambda: len(recipes_reaching_up()),
}


@pytest.mark.parametrize("counter", COUNTERS)
def test_a_number_does_not_grow(counter):
    found = COUNTERS[counter]()
    assert found <= CEILINGS[counter], f"{counter}: {found}; python -m tests.test_house tells which"


def test_every_room_has_its_floor():
    rooms = {room(name) for name in modules() if name.startswith("insightedit.")} - ENTRANCES
    assert not rooms - {name for names in FLOORS for name in names}, "name the new room's floor in FLOORS"


def test_no_room_imports_from_a_floor_above():
    new = {edge: who for edge, who in upward().items() if len(who) > KNOWN_UPWARD.get(edge, 0)}
    assert not new, f"imports that go up: {new}"


def test_rooms_of_a_floor_import_each_other_in_one_direction():
    assert not [group for group in circles_of_rooms() if tuple(group) not in KNOWN_CIRCLES]


def test_nothing_imports_the_entrances():
    found = {f"{name} imports {other}" for name in modules() for other in imported(name) if is_entrance(other)}
    assert not found


def test_a_circle_is_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_lazy_imports_count_and_those_of_types_do_not():
    code = "def f():\n    from a import b\nif TYPE_CHECKING:\n    import c\nelse:\n    import d\n"
    assert [ast.unparse(node) for node in imports(ast.parse(code))] == ["from a import b"]


def main() -> None:
    """Tell what is found."""
    for name, count in COUNTERS.items():
        sys.stdout.write(f"{name}: {count()}\n")
    for edge, who in sorted(upward().items()):
        sys.stdout.write(f"up: {edge} ({len(who)}): {who[:3]}\n")
    for text in (
        circles_of_rooms(),
        reaching_for_recipes(),
        recipes_reaching_up(),
        root_modules(),
        many_parameters(),
        classes_of_one_name(),
    ):
        sys.stdout.write(f"{text}\n")
    rooms = Counter(room(name) for name in modules())
    sizes: Counter[str] = Counter()
    for name, path in modules().items():
        sizes[room(name)] += len(path.read_text(encoding="utf-8").splitlines())
    for name, size in sorted(sizes.items()):
        sys.stdout.write(f"{name:28} {rooms[name]:4} modules {size:6} lines\n")
    for names in ("insightedit.generation", "insightedit.training", "insightedit.evaluation.metrics"):
        sys.stdout.write(f"comments per code line in {names}: {comments_per_code_line((names,)):.3f}\n")


if __name__ == "__main__":
    main()
