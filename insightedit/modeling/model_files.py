"""The files of a model folder, read without trusting them: settings as JSON, weights as safetensors, never code."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

MAX_SETTINGS = 4 * 2**20  # bytes; the largest config of a published model has some 100 kB
MAX_TOKENIZER = 256 * 2**20  # bytes; Gemma's tokenizer.json has 33 MB
CODE_KEYS = ("auto_map", "custom_pipelines", "custom_generate")
NAMES_OF_CODE = ("attn_implementation", "_attn_implementation")  # with a slash: a kernel that is fetched and run
INFINITE = ("lambda_min_clipped",)  # -inf by default in diffusers' DPM-Solver
ANY_NUMBER = re.compile(r".*(theta|_id|_ids|_index|_idx|model_max_length|total_size|total_parameters|seed)")
LIMITS: tuple[tuple[str, float, float, str], ...] = (
    (r"num_train_timesteps", 1, 100_000, "noise levels, of which tables are computed"),
    (r"sample_size", 1, 1024, "latents a side"),
    (r"resolution|image_size|crop_size|height|width|shortest_edge|longest_edge", 1, 8192, "pixels"),
    (r"(.*_)?patch_size", 1, 1024, "pixels"),
    (r".*(layers|depth|blocks)(_per_.*)?", 0, 1024, "layers"),
    (r".*num_beams.*|num_return_sequences", 1, 64, "texts that are written at once"),
    (r".*vocab.*", 1, 2**24, "tokens"),
    (r".*(max_position|max_length|seq_length|max_new_tokens).*", 0, 2**24, "positions"),
    # a size without a limit of its own: a layer wider than a million would not fit any memory
    (r"(?s:.*)", -(2**20), 2**20, "too many for any memory"),
)
"""Pattern of a setting's name, least and most, and of what; the first that matches counts."""
_REMEDY = "weights and settings are of different models, or damaged; export or fetch the model again."


def read_json(path: str | Path, limit: int = MAX_SETTINGS) -> dict[str, Any]:
    """Settings from a JSON file of at most `limit` bytes that holds `{...}`, else a ValueError."""
    path = Path(path)
    try:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: the folder is not whole, export or fetch it again.")
        if path.stat().st_size > limit:
            raise ValueError(f"{path} has more than {limit / 1e6:.0f} MB: these are no settings.")
        held = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, OSError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).partition("\n")[0]
        raise ValueError(
            f"{path} cannot be read as JSON ({reason}): it is damaged or no settings; export or fetch the model again."
        ) from error
    if not isinstance(held, dict):
        what = "null" if held is None else f"a {type(held).__name__}"
        raise ValueError(f"{path} holds {what} in place of settings by name: export or fetch the model again.")
    return held


def check_settings(path: Path, held: Mapping[str, Any], layers: int | None = None) -> None:
    """Refuse settings that name code, and numbers that would take all memory or all time.

    `layers` is the most that there can be, since each has a tensor of its own.
    """
    for key, value in _leaves_without_code(path, held):
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if isinstance(value, float) and not math.isfinite(value) and key not in INFINITE:
            raise ValueError(f"{path}: {key} is {value}: give a finite number.")
        _, low, high, what = next(limit for limit in LIMITS if re.fullmatch(limit[0], key))
        if what == "layers" and layers is not None:
            high = min(high, layers)
        free = ANY_NUMBER.fullmatch(key) or key in INFINITE or (isinstance(value, float) and what.startswith("too"))
        if not free and not low <= value <= high:
            raise ValueError(f"{path}: {key} is {value}: it may be {low:g} to {high:g} ({what}).")


def _leaves_without_code(path: Path, held: Any) -> Iterator[tuple[str, Any]]:
    """(innermost name, value) of all settings, dicts among the values; the members of a list have the list's name."""
    left = [("", held)]
    while left:
        key, value = left.pop()
        if key in CODE_KEYS or (key in NAMES_OF_CODE and "/" in str(value)):
            raise ValueError(
                f"{path} names code of its own ({key}): code of a model folder is never run here, take a model that "
                "transformers and diffusers know."
            )
        yield key, value
        if isinstance(value, Mapping):
            left += [(str(inner), one) for inner, one in value.items()]
        elif isinstance(value, list):
            left += [(key, one) for one in value]


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The safetensors files of a part: one, or the shards that its index names.

    `stem` is `model` (transformers) or `diffusion_pytorch_model` (diffusers), with the variant.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if not index.exists():
        if not single.is_file():
            raise FileNotFoundError(
                f"{folder} holds no {single.name}: the model is not whole, or its weights are pickles, which are never "
                "read here."
            )
        return [single]
    if single.exists():
        raise ValueError(f"{folder} holds both {single.name} and {index.name}: leave the model's own one.")
    files = [folder / name for name in sorted(set(check_index(index).values()))]
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{missing[0]} is missing, which {index.name} names: fetch the model again.")
    return files


def check_index(path: Path, ending: str = ".safetensors") -> dict[str, str]:
    """Tensor -> file, of the index of a model in several files."""
    held = read_json(path, MAX_TOKENIZER).get("weight_map")
    if not isinstance(held, dict) or not held:
        raise ValueError(f"{path} has no `weight_map` of tensors to files: fetch the model again.")
    for file in held.values():
        if not isinstance(file, str) or not re.fullmatch(rf"[\w.-]+{re.escape(ending)}", file):
            raise ValueError(
                f"{path} names {str(file)[:100]!r} as a file of weights: only files ending in {ending} beside it are "
                "read, no pickles and no other folders."
            )
    return held


def read_shapes(files: list[Path]) -> Shapes:
    """Name -> shape of the tensors of one part, from the headers of its safetensors files."""
    from safetensors import SafetensorError, safe_open

    shapes: Shapes = {}
    for file in files:
        try:
            with safe_open(str(file), "pt") as held:
                found = {name: tuple(held.get_slice(name).get_shape()) for name in held.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{file} is no whole safetensors file ({str(error).partition(chr(10))[0]}): fetch or export the model "
                "again."
            ) from error
        if twice := sorted(shapes.keys() & found.keys()):
            raise ValueError(f"{file} holds {twice[0]} a second time: fetch the model again.")
        shapes |= found
    return shapes


def compare_shapes(folder: Path, held: Shapes, wanted: Shapes) -> None:
    """Refuse weights that are not exactly what the settings describe."""
    for name in sorted(wanted):
        if name not in held:
            raise ValueError(f"{folder} lacks the tensor {name}, which would be random: {_REMEDY}")
        if held[name] != wanted[name]:
            raise ValueError(
                f"{folder}: {name} has shape {held[name]}, and config.json describes {wanted[name]}: {_REMEDY}"
            )
    if extra := sorted(held.keys() - wanted.keys()):
        raise ValueError(f"{folder} holds the tensor {extra[0]}, which its config.json has no place for: {_REMEDY}")


def check_finite_weights(files: list[Path]) -> None:
    """Refuse weights that are not finite, reading one tensor at a time.

    About 15 GB a second for float16 on one core, beside the reading, which loading needs anyway.
    """
    from safetensors import safe_open

    for file in files:
        with safe_open(str(file), "pt") as held:
            for name in held.keys():  # noqa: SIM118
                if not is_finite(held.get_tensor(name)):
                    raise ValueError(
                        f"{file}: {name} holds numbers that are not finite: the weights are damaged, or their training "
                        "diverged; export or fetch the model again."
                    )


def is_finite(values: Tensor) -> bool:
    """Whether there is neither NaN nor infinity among a tensor's values."""
    if not values.is_floating_point() or not values.numel():
        return True
    if values.element_size() < 2:  # torch compares no 8-bit floats
        values = values.float()
    lowest, highest = values.aminmax()  # NaN comes through; 40 times as fast as `isfinite`
    return bool(lowest.isfinite() and highest.isfinite())


def check_no_code(folder: Path) -> None:
    """Refuse a local folder of transformers or diffusers that brings code, or points at other files for its weights."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix == ".py" or (path.name == "custom_generate" and path.is_dir()):
            raise ValueError(
                f"{path} is code: code of a model folder is never run here; take a model that transformers and "
                "diffusers know, or delete the file."
            )
        if path.name.endswith(".index.json"):
            check_index(path, Path(path.name.removesuffix(".index.json")).suffix)
        elif path.suffix == ".json" and ("config" in path.name or path.name in ("model_index.json", "base.json")):
            list(_leaves_without_code(path, read_json(path)))  # for its refusals; a base model's numbers are its own
