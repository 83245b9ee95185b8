"""A recipe may name classes of its own; what is no backend and no pipeline is not called."""

from __future__ import annotations

import pytest

from data_recipes.backends.base import KINDS, load_backend
from data_recipes.backends.inpaint import DiffusersInpainter
from tests.recipes.test_backends_paint import SD


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", ["os:system", "subprocess:Popen", "subprocess:run", "builtins:exec", "pathlib:Path"])
def test_what_is_no_backend_is_not_called(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"backends\.{name}\.kind is '{kind}', which is no backend"):
        load_backend(name, {"kind": kind, "command": "touch ran", "args": ["touch", "ran"]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["no.such:ObjectAnnotation", "os:nothing"])
def test_what_is_not_there(kind):
    with pytest.raises(ValueError, match=r"backends\.chat\.kind is .* which cannot be imported"):
        load_backend("chat", {"kind": kind})


@pytest.mark.parametrize("named", ["os:system", "subprocess:run", "builtins:open", "shutil:rmtree"])
def test_what_makes_no_pipeline_is_not_called(named):
    from insightedit.modeling.pretrained import resolve_model_id

    made = DiffusersInpainter(SD, size=32, steps=1, device="cpu", pipeline_class=named)
    with pytest.raises(ValueError, match=f"pipeline_class is {named}, which makes no pipeline"):
        made.pipeline  # noqa: B018
    assert resolve_model_id(SD)
