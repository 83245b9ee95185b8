"""What a small run of the data recipe on known scenes writes: manifest, rows, pixels, what it refused.

Files of Parquet and PNG differ between versions of their libraries; what is read out of them does not.
`python -m tests.golden.test_manifest` writes it anew.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from tests.golden.test_scenes import digest

MANIFEST = Path(__file__).parents[1] / "data" / "golden" / "scenes_oracle.json"
SMALL = ["source.size=48", "source.count=4", "output.shard_size=2", "engine.workers=1"]
OF_LIBRARIES = {"versions", "bytes", "sha256"}


def run_recipe(out: Path) -> None:
    """`python -m data_recipes.advancededit --config scenes_oracle --out OUT ...`."""
    words = ["advancededit", "--config", "scenes_oracle", "--out", str(out), *SMALL]
    with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(io.StringIO()):
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("data_recipes.advancededit", run_name="__main__", alter_sys=True)
        assert not ended.value.code, ended.value.code


def plain(value: Any) -> Any:
    """A cell or a manifest without what depends on libraries: encoded pictures become digests of their pixels."""
    if isinstance(value, bytes):
        with Image.open(io.BytesIO(value)) as image:
            return digest(np.asarray(image))
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items() if name not in OF_LIBRARIES}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def written(out: Path) -> dict[str, Any]:
    """The files' names, and what is in those that are read by programs."""
    import pyarrow.parquet

    shards = sorted(out.glob("*.parquet"))
    return {
        "files": sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()),
        "manifest": plain(json.loads((out / "manifest.json").read_text())),
        "rejected": [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()],
        "oracle": json.loads((out / "oracle.json").read_text()),
        "rows": {
            path.name: {"schema": str(table.schema.remove_metadata()), "rows": plain(table.to_pylist())}
            for path in shards
            for table in [pyarrow.parquet.read_table(path)]
        },
    }


def test_a_run_writes_what_it_wrote(tmp_path):
    run_recipe(tmp_path / "pairs")
    kept, found = json.loads(MANIFEST.read_text(encoding="utf-8")), written(tmp_path / "pairs")
    assert kept.keys() == found.keys()
    for name in kept:
        assert found[name] == kept[name], name


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        run_recipe(Path(folder) / "pairs")
        found = written(Path(folder) / "pairs")
    MANIFEST.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
