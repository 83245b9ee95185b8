"""The report is one file, well formed, with the numbers that the pictures have."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from insightedit.pipelines.report import build_report, heat_overlay, render_report, side_by_side, write_report

VOID = {"meta", "img", "input", "br", "link"}


class Checker(HTMLParser):
    """Collects attributes and complains about tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def edit(tiny_pipeline, picture_of):
    source = picture_of("RGB", (60, 40))
    own = np.zeros((40, 60), bool)
    own[:20] = True
    return source, tiny_pipeline(source, "a <b> & 'c' </script>", seed=3, mask=own)


def test_report_is_one_well_formed_file(tmp_path, edit):
    source, output = edit
    report = build_report(source, output, instruction="a <b> & 'c' </script>", settings={"k": 1}, seconds=1.5)
    write_report(tmp_path / "report.html", report, source, output)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert len(checker.sources) == 5
    assert all(source.startswith("data:image/png;base64,") for source in checker.sources)
    assert not re.search(r"(https?:)?//(?!www)", re.sub(r'"data:[^"]*"', "", html))
    assert "a <b> & 'c' </script>" in "".join(checker.text)


def test_numbers(edit):
    source, output = edit
    report = build_report(source, output, instruction="x")
    assert (report.width, report.height, report.seed) == (60, 40, 3)
    assert report.changed_ratio == 0.5
    assert report.exact_outside is True
    assert report.psnr_outside is None
    assert 0 < report.psnr_outside_unlocked < 40
    assert 0 < report.different_ratio <= 0.5


def test_numbers_for_programs(edit):
    source, output = edit
    report = build_report(source, output, instruction="x </script> <!--")
    from insightedit.images.reading import read_picture

    html = render_report(report, read_picture(source), output)
    data = re.search(r'<script type="application/json" id="edit-report">(.*?)</script>', html, re.DOTALL)
    assert json.loads(data.group(1))["instruction"] == "x </script> <!--"


def test_pictures_are_the_pictures(edit):
    from insightedit.images.reading import read_picture

    source, output = edit
    html = render_report(build_report(source, output, instruction="x"), read_picture(source), output)
    shown = [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    ]
    assert shown[0].tobytes() == source.tobytes()
    assert shown[1].tobytes() == output.images[0].tobytes()
    assert {picture.size for picture in shown} == {(60, 40)}


def test_heat_glows_where_the_edit_is():
    edit_map = np.zeros((20, 20), np.float32)
    edit_map[5:10, 5:10] = 0.5
    heat = heat_overlay(np.full((20, 20, 3), 100, np.uint8), edit_map)
    assert heat[7, 7].sum() > 500
    np.testing.assert_array_equal(heat[0, 0], [50, 50, 50])


def test_side_by_side(picture_of):
    rgb = np.asarray(picture_of("RGB", (10, 6)))
    image = side_by_side(rgb, rgb, gap=4)
    assert image.size == (24, 6)
    np.testing.assert_array_equal(np.asarray(image)[:, 14:], rgb)
