"""The notebooks run from top to bottom with the miniature models."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def outputs(notebook: nbformat.NotebookNode, word: str) -> str:
    """Everything printed by the cell that holds a word."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and word in cell.source)
    return "".join(output.get("text", "") for output in cell.outputs)


def execute(name: str, parameters: str) -> nbformat.NotebookNode:
    """Run a notebook; `parameters` come right after its own, as papermill does it."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(parameters))
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}
    )
    return client.execute()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client", "ignore::DeprecationWarning:zmq")
def test_edit_image(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = execute("edit_image.ipynb", f"OUTPUT = Path({str(tmp_path / 'model')!r})")
    assert "InsightEditPipeline, draws 64 x 64 pixels" in outputs(done, "load_pipeline(MODEL)")
    assert "of the pixels changed, seed 0" in outputs(done, "result = pipeline(")
    assert "understood as: " in outputs(done, "heat_overlay(np")
    shown = outputs(done, "compared = drawing(").splitlines()
    assert [line.split(":")[0] for line in shown] == [
        "embedded, remove the fish",
        "embedded, paint the fish red",
        "embedded, make the picture darker",
        "embedded, make it look like winter",
    ]
    assert all("understood as: " in line for line in shown[:3])  # what it can do is shown without a warning
    assert 'does not know the words "like", "winter"' in shown[3]
    drawn = [
        output for cell in done.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(drawn) == 2
    assert "model_index.json" in outputs(done, "export_pipeline(pipeline")
    assert (tmp_path / "model" / "model_index.json").is_file()
