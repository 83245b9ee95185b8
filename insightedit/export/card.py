"""The model card: the README.md of a model folder, and the facts behind it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment
from torch import nn

from insightedit.datasets.mixture import leaves
from insightedit.hub.network import HUB_ID
from insightedit.hub.secrets import map_texts, read_plain_yaml, without_secrets
from insightedit.modeling.pretrained import PREFIX, current_id, resolve_model_id
from insightedit.training.checkpoint import TRAINER, CheckpointFolder
from insightedit.training.run_folder import stages_behind, started_from

if TYPE_CHECKING:
    from insightedit.config.schema import Config
    from insightedit.pipelines.edit import InsightEditPipeline

DEFAULTS = {"title": "InsightEdit model", "recipe": "insightedit", "license": "apache-2.0", "name": "."}
ROLES = {
    "comprehension.model": "language model",
    "comprehension.vision": "vision tower and Q-Former",
    "comprehension.text_encoder": "text encoder",
    "generation.model": "image generator",
    "generation.denoiser.model": "denoiser that training started from",
    "generation.image_encoder": "image encoder",
}
EXPORT = "export.json"
STARTED_FROM = "finished model that training started from"
OWN_LICENSE = "apache-2.0"
NOT_STATED = "not stated by the base; check {model}"
_CACHED = re.compile(r"models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)[/\\]snapshots[/\\]")


def model_card(pipeline: InsightEditPipeline, card: dict[str, Any] | None = None) -> str:
    """The README.md of a model folder, with the header that the hub reads.

    `card` has what only training knows: `title`, `name` (what `from_pretrained` takes), `recipe`, `license`,
    `base_models`, `bases` (see `base_facts`), `datasets`, `data`, `steps`, `weights`, `language_model`, `dtype`,
    `skill`, `protocol`, `photographs`, `photo_protocol`, `samples` (file of the grid), `limits`; texts or lists of
    texts.
    """
    template = files("insightedit").joinpath("templates/model_card.md").read_text(encoding="utf-8")
    parameters = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in pipeline.components.items()
        if isinstance(module, nn.Module)
    }
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["lines"] = lambda value: [value] if isinstance(value, str) else list(value or [])
    return environment.from_string(template).render(
        card={**DEFAULTS, **(card or {})},
        config=pipeline.config,
        parameters=parameters,
        pipeline_class=type(pipeline).__name__,
    )


def base_facts(models: dict[str, str]) -> dict[str, Any]:
    """The base models (config key -> folder or hub id) and what follows from their licences for this model.

    `bases`: one {role, model, license} each, with those of a finished model that training started from; `base_models`:
    those with a hub id; `license`: theirs if all state the same one, else "other".
    """
    bases: list[dict[str, str]] = []
    hub_ids: list[str] = []
    for key, model in models.items():
        if key == "generation.denoiser.model" and model == models.get("generation.model"):
            continue  # one folder holds both
        finished = _finished_model(model)
        if finished is not None:
            told, name = json.loads((finished / EXPORT).read_text(encoding="utf-8")), shown(str(finished))
            rows = [{"role": STARTED_FROM, "model": name, "license": base_license(str(finished))}]
            rows += [{**row, "role": f"{row['role']} of {name}"} for row in told.get("bases") or []]
            ids = [name] * bool(_CACHED.search(str(finished))) + list(told.get("base_models") or [])
        else:
            rows = [{"role": ROLES.get(key, key), "model": shown(model), "license": base_license(model)}]
            ids = [model] if _is_hub_id(model) else []
        bases += [row for row in rows if row not in bases]
        hub_ids += ids
    stated = {row["license"] for row in bases}
    license_ = stated.pop() if len(stated) == 1 else "other"
    return {
        "bases": bases,
        "base_models": list(dict.fromkeys(hub_ids)),
        "license": license_ if re.fullmatch(r"[a-z0-9.-]+", license_) else "other",
    }


def base_license(model: str) -> str:
    """The licence that a base model's own card states, as the hub spells it; of a hub id only the cache is read."""
    from huggingface_hub import metadata_load, try_to_load_from_cache

    if current_id(model).startswith(PREFIX):
        return OWN_LICENSE  # trained by this package on its own scenes
    card = (_finished_model(model) or Path(model)) / "README.md"
    if _is_hub_id(model):
        cached = try_to_load_from_cache(model, "README.md")
        card = Path(cached) if isinstance(cached, str) else card
    try:
        stated = ((card.is_file() and metadata_load(card)) or {}).get("license")
    except (yaml.YAMLError, ValueError):
        stated = None
    if isinstance(stated, list):
        stated = ", ".join(map(str, stated))
    return str(stated) if stated else NOT_STATED.format(model=shown(model))


def _finished_model(model: str) -> Path | None:
    """The finished model that a base model is, or is a part of; it has one card for all its parts."""
    folder = Path(model)
    candidates = (folder, folder.parent) if folder.is_dir() else ()
    return next((candidate for candidate in candidates if (candidate / EXPORT).is_file()), None)


def _is_hub_id(model: str) -> bool:
    return bool(HUB_ID.fullmatch(model)) and not Path(resolve_model_id(model)).exists()


def shown(model: str) -> str:
    """A base model as a card names it: an absolute path tells a reader nothing, its last name does.

    Of a part of a finished model (`MODEL/mllm`) it is the finished model's name, of one in the hub's cache its id.
    """
    path = _finished_model(model) or Path(model)
    cached = _CACHED.search(str(path))
    if cached:
        return f"{cached['owner']}/{cached['name']}"
    return path.name if path.is_absolute() else str(path) if path != Path(model) else model


def carried_config(config: Config) -> str:
    """A run's config as its model folder carries it (YAML): without secrets, without paths of this machine.

    A branch that the run left out is none of the model's, so it is none of its config's.
    """
    bridge, stage = config.bridge, config.stage
    bridge = replace(bridge, bim=bridge.bim if stage.use_bim else None, iaa=bridge.iaa if stage.use_iaa else None)
    settings = asdict(replace(config, bridge=bridge, init_from=None))
    held = without_secrets(map_texts(settings, lambda text: shown(text) if Path(text).is_absolute() else text))
    # what a reader would fill in from an environment of its own is told by its name alone
    return re.sub(r"\$\{oc\.env:(\w+)\}", r"<\1>", yaml.safe_dump(held, sort_keys=False))


def data_facts(run: Path) -> list[str]:
    """One line per data source of all stages that led to a run, and for photographs of scenes one a licence."""
    from insightedit.scenes import Assets
    from insightedit.scenes.credits import ATTRIBUTION_ONLY, photo_licences

    lines: dict[str, None] = dict.fromkeys(_model_facts(run, "data"))
    for folder in stages_behind(run):
        for source in leaves(read_plain_yaml(folder / "config.yaml").data.sources):
            kind, split, path = source.kind, source.split, source.get("path")
            origin = Path(path).name if path else "scenes drawn by this package, `data_recipes/scenes`"
            lines[f"{kind}, split {split}: {origin}"] = None
            pack = source.get("pack")
            if path or kind == "captions" or (pack and not Path(pack).is_dir()):  # captions show no picture
                lines |= {f"photographs of a folder {Path(pack).name}, which is gone": None} if pack else {}
                continue
            for place, licence, count in photo_licences(Assets.embedded(pack), split):
                what = (
                    "photographs"
                    if ATTRIBUTION_ONLY.fullmatch(licence)
                    else "photographs under a licence of their own"
                )
                lines[f"{what}: {count} of {place}, {licence}"] = None
    return list(lines)


def training_facts(run: Path) -> list[str]:
    """One line per stage that led to a run: steps, batch, what it was trained to do; read from the run folders."""
    facts = _model_facts(run, "steps")
    for current in stages_behind(run):
        config: Any = read_plain_yaml(current / "config.yaml")
        log = current / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        steps = f"{json.loads(lines[-1])['step']} steps" if lines else "an unknown number of steps"
        newest = CheckpointFolder(current / "checkpoints").latest()
        world_size = json.loads((newest / TRAINER).read_text(encoding="utf-8"))["world_size"] if newest else 1
        batch = config.train.batch_size * config.train.gradient_accumulation_steps * world_size
        sources = ", ".join(f"{s.kind} ({s.split})" for s in leaves(config.data.sources))
        facts.append(
            f"stage {config.stage.number} ({config.stage.objective}): {steps} of {batch} samples from "
            f"{sources}; {config.optim.name}, learning rate {config.optim.lr:g}"
        )
    return facts


def _model_facts(run: Path, field: str) -> list[str]:
    """Lines of the card of the finished model that the first of these stages started from; none without one."""
    start = started_from(run)
    export = Path(start or "") / EXPORT
    told = json.loads(export.read_text(encoding="utf-8")).get(field) if start and export.is_file() else None
    return [told] if isinstance(told, str) else list(told or [])


def known_limits(config: Any) -> list[str]:
    """What the settings of a run keep its model from doing."""
    limits = []
    if first := config.loss.min_timestep:
        steps = config.guidance.num_inference_steps
        limits.append(
            f"Trained on the timesteps from {first} on only: made for {steps} denoising step{'s' * (steps > 1)}, "
            "many more make its pictures worse."
        )
    if not config.guidance.drop_image + config.guidance.drop_both:
        limits.append("Never trained without the source picture: an image guidance scale other than 1 is a guess.")
    return limits


def measured_facts(report: Path) -> dict[str, list[str]]:
    """What the card says of the `report.json` that `insightedit eval scenes` or `insightedit eval photos` writes.

    Of scenes, `skill` is edit success, by task, too, and `protocol` how it was measured: scenes, rules, settings, and
    what doing nothing would have got; of photographs `photographs` and `photo_protocol` are the same.
    """
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
        is_photos = found["protocol"].get("name") == "photos_v1"
        return _photo_facts(found) if is_photos else _scene_facts(found)
    except (KeyError, IndexError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{report} is no report of `insightedit eval scenes` or `insightedit eval photos`: give the report.json of "
            "its --out folder."
        ) from error


def _told(rate: dict[str, Any] | None) -> str:
    if rate is None:
        return "the model does not tell"
    return f"{rate['value']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}], n = {rate['n']}"


def _photo_facts(found: dict[str, Any]) -> dict[str, list[str]]:
    model, protocol, settings = found["rows"][0], found["protocol"], found.get("settings", {})
    psnr, others = model["psnr"], found["rows"][1:]
    controls = ", ".join(
        f"{row['name'].replace('_', ' ')} {row['psnr']['median']:.1f} dB" for row in others if row["psnr"]
    )
    lines = [
        f"whole-picture requests understood, in wordings held out from training: {_told(model['understood'])} "
        f"(protocol {protocol['hash']})",
        f"whole-picture requests carried out: {_told(model['success'])}",
        f"pixels of those against the exact operation, at the photograph's own size: median {psnr['median']:.1f} dB, "
        f"quartiles {psnr['low']:.1f} and {psnr['high']:.1f}",
        f"requests outside of its world, or about things that are not there, left exactly as they were: "
        f"{_told(model['left_alone'])}",
        f"of these, told so: {_told(model['said_so'])}; of all other requests: {_told(model['doubted'])}",
        f"requests that it could carry out, refused: {_told(model['wrongly_refused'])}",
    ]
    count, split = protocol["count"], protocol["split"]
    return {
        "photographs": lines,
        "photo_protocol": [
            f"{protocol['name']}: {count} requests on {settings.get('photographs', 'some')} photographs of the split "
            f"{split}, and on scenes, seed {protocol['seed']}; protocol {protocol['hash']}",
            "carried out: nearest of all operations to the right one, and at least half of the way there",
            f"controls on the same photographs: {controls}",
        ],
    }


def _scene_facts(found: dict[str, Any]) -> dict[str, list[str]]:
    from insightedit.evaluation.reporting.report import MEANING

    model, protocol = found["rows"][0], found["protocol"]
    success, tasks, hash_ = model["success"], model["groups"]["task"], protocol["hash"]
    skill = [f"edit success on {success['n']} held-out scenes: {_told(success)} (protocol {hash_})"]
    skill += [f"{task}: {_told(rate)}" for task, rate in sorted(tasks.items())]
    lines, settings = [f"success: {MEANING['success']}"], found.get("settings", {})
    if model.get("sharpness"):  # reports of earlier versions have none
        rows = {"as drawn": model} | {row["name"].replace("_", " "): row for row in found["rows"][1:]}
        values = {name: row["sharpness"]["value"] for name, row in rows.items() if row.get("sharpness")}
        values |= {task: value["value"] for task, value in sorted(model["sharpness_by_task"].items()) if value}
        skill.append(f"sharpness, 1 as the truth: {', '.join(f'{name} {x:.2f}' for name, x in values.items())}")
        lines.append(f"sharpness: {MEANING['sharpness']}")
    if "name" in protocol:
        lines.append(
            f"{protocol['name']}: {protocol['count']} scenes of the split {protocol['split']} at "
            f"{protocol['size']} px, seed {protocol['seed']}; protocol {hash_}"
        )
    if "num_inference_steps" in settings:
        lines.append(
            f"drawn with {settings['num_inference_steps']} steps, guidance {settings['guidance_scale']} text and "
            f"{settings['image_guidance_scale']} image, on {settings['device']}"
        )
    controls = [f"{row['name'].replace('_', ' ')} {row['success']['value']:.3f}" for row in found["rows"][1:]]
    return {
        "skill": skill,
        "protocol": lines + [f"controls on the same scenes: {', '.join(controls)}"] * bool(controls),
    }
