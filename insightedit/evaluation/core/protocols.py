"""How each benchmark is measured: one frozen protocol per published rule."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from insightedit.evaluation.benchmarks.registry import benchmark_name
from insightedit.evaluation.core.protocol_rules import MetricRule, Model, Protocol
from insightedit.evaluation.core.protocols_judged import GEDIT, IMGEDIT, VIESCORE
from insightedit.evaluation.core.records import VARIANTS

CLIP_B32, CLIP_L14 = "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"
DINO_S16 = "facebook/dino-vits16"


def _background() -> tuple[MetricRule, ...]:
    """PSNR, SSIM and LPIPS outside of the mask, both ways."""
    whys = {
        "PSNR": "Only background pixels count; painted black, the edited region counts as a perfect match and lifts "
        "the number by -10 log10 of the background's share.",
        "SSIM": "Mean of the map over background pixels, at the source's aspect ratio.",
        "LPIPS": "Mean of the spatial map over background pixels; black ones dilute the number.",
    }
    rules = []
    for name, why in whys.items():
        models = ("lpips",) if name == "LPIPS" else ()
        shared: dict[str, Any] = {
            "name": name,
            "measure": f"background_{name.lower()}",
            "models": models,
            "reference": "source",
            "better": "lower" if name == "LPIPS" else "higher",
        }
        rules.append(MetricRule(**shared, frame="squash"))
        rules.append(MetricRule(**shared, frame="letterbox", variant="strict", why=why))
    return tuple(rules)


SMARTEDIT = Protocol(
    name="smartedit_v1",
    title="SmartEdit's background metrics and CLIPScore of the edited region",
    source="SmartEdit, test/metrics_evaluation.py",
    benchmarks=("reason-edit", "advancededit", "magicbrush", "migebench", "scenes"),
    models=(Model("lpips", "lpips", "squeeze"), Model("clip", "clip", CLIP_L14, "processor_pil")),
    rules=(
        *_background(),
        MetricRule(
            name="CLIPScore",
            measure="crop_clip_score",
            models=("clip",),
            caption="local_caption",
            frame="squash",
            scale=100.0,
        ),
        MetricRule(
            name="CLIPScore",
            variant="strict",
            measure="crop_clip_score",
            models=("clip",),
            caption="local_caption",
            frame="letterbox",
            scale=100.0,
            why="Box with its last row and column, mask cut at 127, aspect ratio kept.",
        ),
    ),
    caveats=(
        "SSIM is cropped by 5 px, as in the torchmetrics of SmartEdit's time; later versions give other numbers.",
        "InsightEdit publishes no metric code; that it follows this rule is inferred from a row that is equal.",
        "Ins-align needs raters (`insightedit eval rate`).",
    ),
)

MAGICBRUSH = Protocol(
    name="magicbrush_v1",
    title="MagicBrush's metrics against the ground truth",
    source="MagicBrush, evaluation/image_eval.py",
    benchmarks=("magicbrush", "advancededit", "scenes"),
    models=(Model("clip", "clip", CLIP_B32, "openai"), Model("dino", "dino", DINO_S16, "openai")),
    rules=(
        MetricRule(name="L1", measure="l1", reference="target", frame="reference", better="lower"),
        MetricRule(name="L2", measure="l2", reference="target", frame="reference", better="lower"),
        MetricRule(name="CLIP_I", measure="image_similarity", models=("clip",), reference="target"),
        MetricRule(
            name="DINO_I",
            measure="image_similarity",
            models=("dino",),
            reference="target",
            why="Called so because it is against the target; MIGE's DINO is against the source.",
        ),
        MetricRule(
            name="CLIP_T", measure="text_similarity", models=("clip",), caption="local_caption", only=("magicbrush",)
        ),
        MetricRule(
            name="CLIP_T_global",
            measure="text_similarity",
            models=("clip",),
            caption="target_caption",
            only=("magicbrush",),
            why="Captions of the whole picture: the script's default until its issue 17, about 0.02 higher; "
            "SmartEdit's values look like these.",
        ),
    ),
    caveats=(
        "All-turn and final-turn are splits; until February 2025 the script took final pictures in unsorted order.",
    ),
)

_SOURCE_METRICS = (
    MetricRule(name="DINO", measure="image_similarity", models=("dino",), reference="source"),
    MetricRule(name="CLIP_I", measure="image_similarity", models=("clip",), reference="source"),
)
_SOURCE_PIXELS = (
    MetricRule(name="L1", measure="l1", reference="source", frame="reference", better="lower"),
    MetricRule(name="L2", measure="l2", reference="source", frame="reference", better="lower"),
)
_CAPTIONED: dict[str, Any] = {"models": ("clip",), "caption": "target_caption"}

EMU_MIGE = Protocol(
    name="emu_mige_v1",
    title="MIGE's metrics against the source",
    source="MIGE, infer_scripts/edit.py",
    benchmarks=("emu-edit", "magicbrush"),
    models=(Model("clip", "clip", CLIP_B32, "processor_pil"), Model("dino", "dino", DINO_S16, "openai")),
    rules=(
        *_SOURCE_METRICS,
        MetricRule(name="CLIP_T", measure="text_similarity", equal_captions="leave out", **_CAPTIONED),
        MetricRule(
            name="CLIP_dir",
            measure="direction",
            equal_captions="leave out",
            why="That rows with equal captions are left out is inferred: with them the mean would not be finite.",
            **_CAPTIONED,
        ),
        *_SOURCE_PIXELS,
    ),
    caveats=(
        "MIGE's outputs were JPEG, which alone costs 0.008 to 0.012 of L1.",
        "The captions that MIGE took on MagicBrush are not published; the global ones are taken.",
    ),
)

EMU_SOURCE = Protocol(
    name="emu_source_v1",
    title="Emu Edit's five metrics, with CLIP L/14 as most who repeat them",
    source="Emu Edit, section 5; models as in OmniGen and ICEdit",
    benchmarks=("emu-edit", "magicbrush"),
    models=(Model("clip", "clip", CLIP_L14, "openai"), Model("dino", "dino", DINO_S16, "openai")),
    rules=(
        MetricRule(name="CLIP_dir", measure="direction", equal_captions="zero", **_CAPTIONED),
        MetricRule(
            name="CLIP_dir",
            variant="strict",
            measure="direction",
            equal_captions="leave out",
            why="Equal captions have no direction; as 0 they pull every mean down.",
            **_CAPTIONED,
        ),
        MetricRule(name="CLIP_I", measure="image_similarity", models=("clip",), reference="source"),
        MetricRule(name="CLIP_T", measure="text_similarity", **_CAPTIONED),
        MetricRule(
            name="CLIP_T",
            variant="strict",
            measure="text_similarity",
            equal_captions="leave out",
            why="All rows with equal captions have place-holders that do not belong to their picture.",
            **_CAPTIONED,
        ),
        _SOURCE_PIXELS[0],
        MetricRule(name="DINO", measure="image_similarity", models=("dino",), reference="source"),
    ),
    caveats=("Emu Edit does not name its CLIP and DINO: compare only numbers that were measured here.",),
)

MIGEBENCH = Protocol(
    name="migebench_v1",
    title="MIGEBench: likeness to the target, and of the subject that is found",
    source="MIGE, infer_scripts/edit.py and MIGEBench_extract_entity.py",
    benchmarks=("migebench",),
    models=(
        Model("clip", "clip", CLIP_B32, "processor_pil"),
        Model("dino", "dino", DINO_S16, "openai"),
        Model("detector", "detector", "IDEA-Research/grounding-dino-base"),
        Model("segmenter", "segmenter", "facebook/sam-vit-huge"),
    ),
    rules=(
        MetricRule(name="edit_DINO", measure="image_similarity", models=("dino",), reference="target"),
        MetricRule(name="edit_CLIP_I", measure="image_similarity", models=("clip",), reference="target"),
        MetricRule(name="edit_CLIP_T", measure="text_similarity", **_CAPTIONED),
        *(
            MetricRule(
                name=f"subj_{name}",
                variant=variant,
                measure="subject_similarity",
                models=(model, "detector", "segmenter"),
                reference="subject",
                why=""
                if variant == "paper"
                else "Pictures in which the subject is found only; else the whole "
                "picture is compared, which often scores well.",
            )
            for name, model in (("DINO", "dino"), ("CLIP_I", "clip"))
            for variant in VARIANTS
        ),
        MetricRule(
            name="subj_found",
            measure="subject_found",
            models=("detector", "segmenter"),
            why="Share of the pictures in which the detector finds the subject: to be read beside the others.",
        ),
    ),
    caveats=("MIGE's crops went through JPEG files, ours do not.",),
)

DREAMBENCH = Protocol(
    name="dreambench_v1",
    title="DreamBench: likeness to the subject's real pictures and to the prompt",
    source="DreamBooth, section 4.2; MIGE, compute_clip_I",
    benchmarks=("dreambench",),
    models=(Model("clip", "clip", CLIP_B32, "processor_pil"), Model("dino", "dino", DINO_S16, "openai")),
    rules=(
        *(
            MetricRule(
                name=name,
                variant=variant,
                measure="image_similarity" if variant == "paper" else "mean_image_similarity",
                models=(model,),
                reference="input subject" if variant == "paper" else "all subjects",
                why=""
                if variant == "paper"
                else "Mean over all real pictures, DreamBooth's own rule: a copy of "
                "the one that was given does not win.",
            )
            for name, model in (("DINO", "dino"), ("CLIP_I", "clip"))
            for variant in VARIANTS
        ),
        MetricRule(name="CLIP_T", measure="text_similarity", **_CAPTIONED),
    ),
    seeds=4,
    caveats=("Which picture of the subject MIGE compares with is inferred: the one that was given.",),
)

MGIE = Protocol(
    name="mgie_v1",
    title="MGIE's metrics against the goal",
    source="MGIE, section 4; no script is published",
    benchmarks=("evr", "gier", "ma5k", "magicbrush"),
    models=(
        Model("clip", "clip", CLIP_B32, "openai"),
        Model("dino", "dino", DINO_S16, "openai"),
        Model("lpips", "lpips", "alex"),
    ),
    rules=(
        MetricRule(name="L1", measure="l1", reference="target", frame="square", better="lower"),
        MetricRule(name="SSIM", measure="ssim", reference="target", frame="square", only=("ma5k",)),
        MetricRule(
            name="LPIPS",
            measure="lpips",
            models=("lpips",),
            reference="target",
            frame="square",
            only=("ma5k",),
            better="lower",
        ),
        MetricRule(
            name="DINO_I",
            measure="image_similarity",
            models=("dino",),
            reference="target",
            only=("evr", "gier", "magicbrush"),
        ),
        MetricRule(
            name="CVS",
            measure="image_similarity",
            models=("clip",),
            reference="target",
            scale=100.0,
            only=("evr", "gier", "magicbrush"),
        ),
        MetricRule(
            name="CTS",
            measure="text_similarity",
            models=("clip",),
            caption="target_caption",
            scale=100.0,
            only=("magicbrush",),
        ),
    ),
    side=512,
    caveats=(
        "Nothing but the names is published: CLIP, DINO, the net of LPIPS, sizes and splits are assumed, so these are "
        "numbers among methods that were measured here.",
    ),
)

INSTRUCTPIX2PIX = Protocol(
    name="instructpix2pix_v1",
    title="InstructPix2Pix's image similarity and directional similarity",
    source="InstructPix2Pix, metrics/clip_similarity.py",
    benchmarks=("emu-edit", "magicbrush"),
    models=(Model("clip", "clip", CLIP_L14, "instructpix2pix"),),
    rules=(
        MetricRule(name="CLIP_I", measure="image_similarity", models=("clip",), reference="source"),
        MetricRule(name="CLIP_dir", measure="direction", equal_captions="zero", **_CAPTIONED),
        MetricRule(
            name="CLIP_dir",
            variant="strict",
            measure="direction",
            equal_captions="leave out",
            why="Equal captions have no direction; as 0 they pull every mean down.",
            **_CAPTIONED,
        ),
        MetricRule(name="CLIP_T", measure="text_similarity", **_CAPTIONED),
    ),
    caveats=("Pictures are squashed to 224 x 224 px without antialias, as in the script.",),
)


EXACT = Protocol(
    name="exact_v1",
    title="scenes with exact answers: success, progress, background, leak and more, without any network",
    source="insightedit.evaluation.scenes.metrics",
    benchmarks=("scenes",),
    rules=tuple(
        MetricRule(name=name, variant="strict", measure="scenes", better=better)
        for name, better in (
            ("success", "higher"),
            ("progress", "higher"),
            ("balanced", "higher"),
            ("psnr_background", "higher"),
            ("leak", "lower"),
            ("iou", "higher"),
        )
    ),
    command="insightedit eval scenes",
    caveats=("Its hash covers the set of scenes too, see report.json.",),
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        SMARTEDIT,
        MAGICBRUSH,
        EMU_MIGE,
        EMU_SOURCE,
        MIGEBENCH,
        DREAMBENCH,
        MGIE,
        INSTRUCTPIX2PIX,
        VIESCORE,
        GEDIT,
        IMGEDIT,
        EXACT,
    )
}

DEFAULTS = {
    "reason-edit": "smartedit_v1",
    "advancededit": "smartedit_v1",
    "magicbrush": "magicbrush_v1",
    "emu-edit": "emu_mige_v1",
    "evr": "mgie_v1",
    "gier": "mgie_v1",
    "ma5k": "mgie_v1",
    "migebench": "migebench_v1",
    "dreambench": "dreambench_v1",
    "gedit": "gedit_v1",
    "imgedit": "imgedit_v1",
    "scenes": "exact_v1",
}  # benchmark -> protocol that is taken if none is named


def protocols_for(bench: str) -> Sequence[Protocol]:
    """The protocols that measure a benchmark, its default first."""
    name = benchmark_name(bench)
    fitting = [one for one in PROTOCOLS.values() if name in one.benchmarks]
    return sorted(fitting, key=lambda one: one.name != DEFAULTS[name])


def find_protocol(bench: str, name: str | None = None) -> Protocol:
    """A protocol by name, or a benchmark's default.

    Args:
        bench: name of the benchmark.
        name: of the protocol; None for the default.

    Raises:
        ValueError: if there is no such benchmark or protocol, or the protocol is not for the benchmark.
    """
    wanted = (name or DEFAULTS[benchmark_name(bench)]).strip().lower().replace("-", "_")
    if wanted not in PROTOCOLS:
        close = difflib.get_close_matches(wanted, PROTOCOLS, n=1)
        hint = f"did you mean {close[0]}? There are" if close else "there are"
        raise ValueError(f"unknown protocol {name!r}: {hint} {', '.join(PROTOCOLS)}.")
    protocol = PROTOCOLS[wanted]
    protocol.rules_for(benchmark_name(bench))
    return protocol
