"""How each benchmark is measured: one frozen protocol per published rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from insightedit.evaluation.benchmarks.registry import MODULES, benchmark_loader, benchmark_name, did_you_mean
from insightedit.evaluation.core.protocol import MetricRule, Model, Protocol

CLIP_B32, CLIP_L14 = "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"
DINO_S16 = "facebook/dino-vits16"
JUDGED_HERE = ("The prompts are in our own words: compare only numbers that were judged here.",)


def _like(name: str, model: str, reference: str, measure: str = "image_similarity", **more: Any) -> MetricRule:
    """Likeness of the output to a picture, by the features of one network."""
    return MetricRule(name, measure, models=(model,), reference=reference, **more)


def _told(name: str, measure: str = "text_similarity", caption: str = "target_caption", **more: Any) -> MetricRule:
    """Likeness of the output to a caption, by CLIP."""
    return MetricRule(name, measure, models=("clip",), caption=caption, **more)


def _pixels(reference: str, frame: str = "reference") -> tuple[MetricRule, ...]:
    """L1 and L2 against a picture."""
    return tuple(MetricRule(f"L{n}", f"l{n}", reference=reference, frame=frame, better="lower") for n in (1, 2))


def _both(rule: MetricRule, **strict: Any) -> tuple[MetricRule, MetricRule]:
    """A column and its strict twin, which differs in the fields named."""
    return rule, replace(rule, variant="strict", **strict)


def _background() -> tuple[MetricRule, ...]:
    """PSNR, SSIM and LPIPS outside of the mask, both ways."""
    whys = {
        "PSNR": "Only background pixels count; painted black, the edited region counts as a perfect match and lifts "
        "the number by -10 log10 of the background's share.",
        "SSIM": "Mean of the map over background pixels, at the source's aspect ratio.",
        "LPIPS": "Mean of the spatial map over background pixels; black ones dilute the number.",
    }
    rules: list[MetricRule] = []
    for name, why in whys.items():
        models, better = (("lpips",), "lower") if name == "LPIPS" else ((), "higher")
        measure = f"background_{name.lower()}"
        rule = MetricRule(name, measure, models=models, reference="source", better=better, frame="squash")
        rules += _both(rule, frame="letterbox", why=why)
    return tuple(rules)


def _judged(names: Mapping[str, str]) -> tuple[MetricRule, ...]:
    """Columns of a judge, a missing answer left out and, in the strict twin, counted as 0."""
    why = "An answer that is missing counts as 0 instead of being left out."
    pairs = (_both(MetricRule(name, f"judge_{part}", models=("judge",)), why=why) for name, part in names.items())
    return tuple(rule for pair in pairs for rule in pair)


VIESCORES = _judged({"VIEScore_O": "O", "VIEScore_SC": "SC", "VIEScore_PQ": "PQ"})
DIRECTIONS = _both(
    _told("CLIP_dir", "direction", equal_captions="zero"),
    equal_captions="leave out",
    why="Equal captions have no direction; as 0 they pull every mean down.",
)

EXACT = {
    **{"success": "higher", "progress": "higher", "balanced": "higher", "leak": "lower", "psnr_background": "higher"},
    **{"discriminates": "higher", "discrimination_chance": "n/a", "iou": "higher", "exact": "higher"},
    **{"predicate_f1": "higher", "pair_success": "higher"},
}  # metric of scenes -> which of its ends is good

PHOTOS = {
    **{"success": "higher", "understood": "higher", "right_degree": "higher", "psnr": "higher", "progress": "higher"},
    **{"detail": "higher", "left_alone": "higher", "said_so": "higher", "wrongly_refused": "lower"},
}  # metric of photographs -> which of its ends is good

_ALL = (
    Protocol(
        name="smartedit_v1",
        title="SmartEdit's background metrics and CLIPScore of the edited region",
        source="SmartEdit, test/metrics_evaluation.py",
        benchmarks=("reason-edit", "advancededit", "magicbrush", "migebench", "scenes"),
        models=(Model("lpips", "lpips", "squeeze"), Model("clip", "clip", CLIP_L14, "processor_pil")),
        rules=(
            *_background(),
            *_both(
                _told("CLIPScore", "crop_clip_score", "local_caption", frame="squash", scale=100.0),
                frame="letterbox",
                why="Box with its last row and column, mask cut at 127, aspect ratio kept.",
            ),
        ),
        caveats=(
            "SSIM is cropped by 5 px, as in the torchmetrics of SmartEdit's time; later versions give other numbers.",
            "InsightEdit publishes no metric code; that it follows this rule is inferred from a row that is equal.",
            "Ins-align needs raters (`insightedit eval rate`).",
        ),
    ),
    Protocol(
        name="magicbrush_v1",
        title="MagicBrush's metrics against the ground truth",
        source="MagicBrush, evaluation/image_eval.py",
        benchmarks=("magicbrush", "advancededit", "scenes"),
        models=(Model("clip", "clip", CLIP_B32, "openai"), Model("dino", "dino", DINO_S16, "openai")),
        rules=(
            *_pixels("target"),
            _like("CLIP_I", "clip", "target"),
            _like(
                "DINO_I",
                "dino",
                "target",
                why="Called so because it is against the target; MIGE's DINO is against the source.",
            ),
            _told("CLIP_T", caption="local_caption", only=("magicbrush",)),
            _told(
                "CLIP_T_global",
                only=("magicbrush",),
                why="Captions of the whole picture: the script's default until its issue 17, about 0.02 higher; "
                "SmartEdit's values look like these.",
            ),
        ),
        caveats=(
            "All-turn and final-turn are splits; until February 2025 the script took final pictures in unsorted order.",
        ),
    ),
    Protocol(
        name="emu_mige_v1",
        title="MIGE's metrics against the source",
        source="MIGE, infer_scripts/edit.py",
        benchmarks=("emu-edit", "magicbrush"),
        models=(Model("clip", "clip", CLIP_B32, "processor_pil"), Model("dino", "dino", DINO_S16, "openai")),
        rules=(
            _like("DINO", "dino", "source"),
            _like("CLIP_I", "clip", "source"),
            _told("CLIP_T", equal_captions="leave out"),
            _told(
                "CLIP_dir",
                "direction",
                equal_captions="leave out",
                why="That rows with equal captions are left out is inferred: with them the mean would not be finite.",
            ),
            *_pixels("source"),
        ),
        caveats=(
            "MIGE's outputs were JPEG, which alone costs 0.008 to 0.012 of L1.",
            "The captions that MIGE took on MagicBrush are not published; the global ones are taken.",
        ),
    ),
    Protocol(
        name="emu_source_v1",
        title="Emu Edit's five metrics, with CLIP L/14 as most who repeat them",
        source="Emu Edit, section 5; models as in OmniGen and ICEdit",
        benchmarks=("emu-edit", "magicbrush"),
        models=(Model("clip", "clip", CLIP_L14, "openai"), Model("dino", "dino", DINO_S16, "openai")),
        rules=(
            *DIRECTIONS,
            _like("CLIP_I", "clip", "source"),
            *_both(
                _told("CLIP_T"),
                equal_captions="leave out",
                why="All rows with equal captions have place-holders that do not belong to their picture.",
            ),
            _pixels("source")[0],
            _like("DINO", "dino", "source"),
        ),
        caveats=("Emu Edit does not name its CLIP and DINO: compare only numbers that were measured here.",),
    ),
    Protocol(
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
            _like("edit_DINO", "dino", "target"),
            _like("edit_CLIP_I", "clip", "target"),
            _told("edit_CLIP_T"),
            *(
                rule
                for name, model in (("DINO", "dino"), ("CLIP_I", "clip"))
                for rule in _both(
                    MetricRule(
                        f"subj_{name}",
                        "subject_similarity",
                        models=(model, "detector", "segmenter"),
                        reference="subject",
                    ),
                    why="Pictures in which the subject is found only; else the whole picture is compared, which often "
                    "scores well.",
                )
            ),
            MetricRule(
                "subj_found",
                "subject_found",
                models=("detector", "segmenter"),
                why="Share of the pictures in which the detector finds the subject: to be read beside the others.",
            ),
        ),
        caveats=("MIGE's crops went through JPEG files, ours do not.",),
    ),
    Protocol(
        name="dreambench_v1",
        title="DreamBench: likeness to the subject's real pictures and to the prompt",
        source="DreamBooth, section 4.2; MIGE, compute_clip_I",
        benchmarks=("dreambench",),
        models=(Model("clip", "clip", CLIP_B32, "processor_pil"), Model("dino", "dino", DINO_S16, "openai")),
        rules=(
            *(
                rule
                for name, model in (("DINO", "dino"), ("CLIP_I", "clip"))
                for rule in _both(
                    _like(name, model, "input subject"),
                    measure="mean_image_similarity",
                    reference="all subjects",
                    why="Mean over all real pictures, DreamBooth's own rule: a copy of the one that was given does "
                    "not win.",
                )
            ),
            _told("CLIP_T"),
        ),
        seeds=4,
        caveats=("Which picture of the subject MIGE compares with is inferred: the one that was given.",),
    ),
    Protocol(
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
            _pixels("target", "square")[0],
            MetricRule("SSIM", "ssim", reference="target", frame="square", only=("ma5k",)),
            _like("LPIPS", "lpips", "target", "lpips", frame="square", only=("ma5k",), better="lower"),
            _like("DINO_I", "dino", "target", only=("evr", "gier", "magicbrush")),
            _like("CVS", "clip", "target", scale=100.0, only=("evr", "gier", "magicbrush")),
            _told("CTS", scale=100.0, only=("magicbrush",)),
        ),
        side=512,
        caveats=(
            "Nothing but the names is published: CLIP, DINO, the net of LPIPS, sizes and splits are assumed, so these "
            "are numbers among methods that were measured here.",
        ),
    ),
    Protocol(
        name="instructpix2pix_v1",
        title="InstructPix2Pix's image similarity and directional similarity",
        source="InstructPix2Pix, metrics/clip_similarity.py",
        benchmarks=("emu-edit", "magicbrush"),
        models=(Model("clip", "clip", CLIP_L14, "instructpix2pix"),),
        rules=(_like("CLIP_I", "clip", "source"), *DIRECTIONS, _told("CLIP_T")),
        caveats=("Pictures are squashed to 224 x 224 px without antialias, as in the script.",),
    ),
    Protocol(
        name="viescore_v1",
        title="VIEScore: a judge's 0 to 10 for the edit (SC), the picture (PQ), and both (O)",
        source="VIEScore, section 3; prompts in our own words",
        benchmarks=tuple(name for name in MODULES if name not in ("migebench", "dreambench")),
        models=(Model("judge", "judge", "viescore"),),
        rules=VIESCORES,
        caveats=(
            "How InsightEdit's judge's answers become its VIEScore is not published: no parity with its tables.",
            "A judge cannot be asked again later: its replies are kept in judge.jsonl.",
        ),
    ),
    Protocol(
        name="gedit_v1",
        title="GEdit-Bench: VIEScore at the source's size, mean over groups",
        source="Step1X-Edit, GEdit-Bench",
        benchmarks=("gedit",),
        models=(Model("judge", "judge", "gedit"),),
        rules=VIESCORES,
        averaging="macro",
        caveats=JUDGED_HERE,
    ),
    Protocol(
        name="imgedit_v1",
        title="ImgEdit-Bench: mean of three scores of 1 to 5, by type of edit",
        source="ImgEdit, Benchmark/Basic",
        benchmarks=("imgedit",),
        models=(Model("judge", "judge", "imgedit"),),
        rules=_judged({"ImgEdit": "mean"}),
        averaging="macro",
        caveats=JUDGED_HERE,
    ),
    Protocol(
        name="exact_v1",
        title="scenes with exact answers: success, progress, background, leak and more, without any network",
        source="insightedit.evaluation.scenes.metrics",
        benchmarks=("scenes",),
        rules=tuple(MetricRule(name, "scenes", variant="strict", better=better) for name, better in EXACT.items()),
        command="insightedit eval scenes",
        caveats=("Its hash covers the set of scenes too, see report.json.",),
    ),
    Protocol(
        name="photos_v1",
        title="photographs: whole-picture operations with exact answers, requests to be declined, without any network",
        source="insightedit.evaluation.photos.scoring",
        benchmarks=("photos",),
        rules=tuple(MetricRule(name, "photos", variant="strict", better=better) for name, better in PHOTOS.items()),
        command="insightedit eval photos",
        caveats=("Its hash covers the set of requests too, see report.json.",),
    ),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}

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
    "photos": "photos_v1",
}  # benchmark -> protocol that is taken if none is named


def protocols_for(bench: str) -> Sequence[Protocol]:
    """The protocols that measure a benchmark, its default first.

    A benchmark of somebody else (`MODULE:NAME`) names them as `PROTOCOLS`, ours by name or its own; if it does not, it
    is measured against its targets, as MagicBrush.

    Raises:
        ValueError: if there is no such benchmark, or it names a protocol that there is not.
    """
    name = benchmark_name(bench)
    if name in MODULES:
        fitting = [one for one in PROTOCOLS.values() if name in one.benchmarks]
        return sorted(fitting, key=lambda one: one.name != DEFAULTS[name])
    loader = benchmark_loader(name)
    named = getattr(loader, "PROTOCOLS", ("magicbrush_v1",))
    own = [_by_name(one) if isinstance(one, str) else one for one in named]
    return [replace(one, benchmarks=(*one.benchmarks, loader.CARD.name)) for one in own]


def find_protocol(bench: str, name: str | None = None) -> Protocol:
    """A protocol by name, or a benchmark's default.

    Raises:
        ValueError: if there is no such benchmark or protocol, or the protocol is not for the benchmark.
    """
    fitting = protocols_for(bench)
    if name is None:
        return fitting[0]
    wanted = name.strip().lower().replace("-", "_")
    if found := next((one for one in fitting if one.name == wanted), None):
        return found
    protocol, card = _by_name(name), benchmark_loader(bench).CARD
    if card.name not in MODULES:
        return replace(protocol, benchmarks=(*protocol.benchmarks, card.name))
    protocol.rules_for(card.name)
    return protocol


def _by_name(name: str) -> Protocol:
    wanted = name.strip().lower().replace("-", "_")
    if wanted not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}: {did_you_mean(wanted, PROTOCOLS)}")
    return PROTOCOLS[wanted]
