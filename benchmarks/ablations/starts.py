"""Start weights: language model and text branch of a finished model, laid out so that a stage can start from them.

`LLAVA/` is the language model with its processor in one folder, as `comprehension.model` wants it; `run/` looks like
the run folder of an earlier stage and holds the text branch (Q-Former or edit head) in float32. BIM, IAA and the UNet
are left behind: every row starts them anew, or from the foundation's editing UNet.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insightedit.miniatures.folders import replace_folder
from insightedit.pipelines.loading import find_model
from insightedit.training.checkpoint import TRAINABLE, CheckpointFolder, load_tensors, save_tensors
from insightedit.training.processes import Processes
from insightedit.training.run_folder import CONTRACT

if TYPE_CHECKING:
    from collections.abc import Iterable

LLAVA, RUN = "llava", "run"
TEXT_BRANCH = ("qformer.", "edit_head.", "token_out.")
WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Start:
    """What rows with `from_model` start from.

    Attributes:
        folder: holds `llava/` and `run/`.
        digest: of the weights.
        num_edit_tokens: R of the model.
        edit_token: name pattern of its edit tokens.
    """

    folder: Path
    digest: str
    num_edit_tokens: int
    edit_token: str

    @property
    def overrides(self) -> tuple[str, ...]:
        """Settings of a stage that starts here."""
        return (
            f"comprehension.model={self.folder / LLAVA}",
            f"comprehension.num_edit_tokens={self.num_edit_tokens}",
            f"comprehension.edit_token={self.edit_token}",
        )

    @property
    def run(self) -> Path:
        """What `--init-from` names."""
        return self.folder / RUN


def prepare_start(model: Path | None, folder: Path) -> Start:
    """Lay out a finished model's language model and text branch; does nothing if that is done already.

    Args:
        model: folder of an exported model whose language model is whole; None for the embedded default.
        folder: where to.

    Raises:
        FileNotFoundError: if there is no such model.
        ValueError: if the model is of another kind, or holds an adapter in place of a language model.
    """
    source = Path(find_model(model))
    index = json.loads((source / "model_index.json").read_text(encoding="utf-8"))
    if "mllm" not in index or not (source / "mllm" / "config.json").is_file():
        raise ValueError(
            f"{source} holds no whole language model with a text branch beside it: start from an exported model of the "
            "recipe insightedit, smartedit or mgie (insightedit export, without --no-merge-lora)."
        )
    parts = [source / "mllm", source / "processor", source / "bridge"]
    digest = weights_digest(parts)
    start = Start(folder, digest, index["num_edit_tokens"], index["edit_token"])
    if not (folder / digest).is_file():
        with replace_folder(folder) as fresh:
            _fill(fresh, parts, index)
            (fresh / digest).touch()
    return start


def weights_digest(folders: Iterable[Path]) -> str:
    """First 16 hex digits of the SHA-256 over all safetensors below the folders, in the order of their names.

    Raises:
        FileNotFoundError: if there are none.
    """
    folders = list(folders)
    files = [file for folder in folders for file in sorted(folder.rglob("*.safetensors"))]
    if not files:
        raise FileNotFoundError(f"No weights below {', '.join(map(str, folders))}: train or fetch the model first.")
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _fill(folder: Path, parts: list[Path], index: dict[str, Any]) -> None:
    mllm, processor, bridge = parts
    (folder / LLAVA).mkdir()
    for part in (mllm, processor):
        for file in part.iterdir():
            shutil.copyfile(file, folder / LLAVA / file.name)
    held = load_tensors(bridge / WEIGHTS)
    branch = {f"bridge.{name}": value.float() for name, value in held.items() if name.startswith(TEXT_BRANCH)}
    with CheckpointFolder(folder / RUN / "checkpoints").writing(0, Processes()) as path:
        save_tensors(path / TRAINABLE, branch)
    contract = {
        "recipe": "start",
        "stage": 1,
        "steps": 0,
        "base_models": {},
        "edit_token": index["edit_token"],
        "edit_token_ids": list(range(index["num_edit_tokens"])),
        "keys": {name: list(value.shape) for name, value in sorted(branch.items())},
    }
    (folder / RUN / CONTRACT).write_text(json.dumps(contract, indent=1) + "\n", encoding="utf-8")
