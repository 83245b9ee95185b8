"""What is compared with what: frozen lists of rows, each a training setting, and the columns of their tables."""

from __future__ import annotations

from dataclasses import dataclass

STEPS_OF_STAGE_1 = 2.0  # a stage before the last takes so many times the steps; ours

EDITOR_BASES = (
    ("comprehension.model", "llava"),
    ("generation.model", "sd"),
    ("generation.unet", "ip2p"),
    ("generation.image_encoder", "clip"),
)  # setting -> part of the foundation
INTERLEAVED_BASES = (
    ("comprehension.reader.vision", "blip2"),
    ("comprehension.reader.text_encoder", "t5"),
    ("generation.model", "sd"),
    ("generation.transformer.model", "pixart"),
    ("generation.image_encoder", "clip"),
)


@dataclass(frozen=True)
class Cost:
    """What a row costs on one core, until its own runs tell.

    Attributes:
        name: rows of the same name cost the same.
        step: seconds of a training step of 16 samples.
        scene: seconds of editing and scoring one scene.
        run: seconds of a run besides.
    """

    name: str
    step: float
    scene: float
    run: float


@dataclass(frozen=True)
class Stage:
    """One stage of a row's training.

    Attributes:
        number: 1, 2 or 3.
        overrides: `key=value` for this stage only.
        steps: times the budget's steps.
    """

    number: int = 3
    overrides: tuple[str, ...] = ()
    steps: float = 1.0


@dataclass(frozen=True)
class Row:
    """One training setting.

    Attributes:
        name: unique; rows of several studies with one name are one run.
        label: in tables.
        recipe: of the configs.
        overlays: at miniature size.
        overrides: `key=value`, all stages.
        bases: (setting, part of the foundation) pairs.
        cost: for estimates.
        from_model: whether language model and text branch come from a finished model.
        tasks: what it is measured on, see `insightedit.evaluation.scenes.benchmark`.
        stages: trained one after the other.
    """

    name: str
    label: str
    recipe: str
    overlays: tuple[str, ...]
    overrides: tuple[str, ...]
    bases: tuple[tuple[str, str], ...]
    cost: Cost
    from_model: bool = False
    tasks: tuple[str, ...] = ("editing",)
    stages: tuple[Stage, ...] = (Stage(),)


@dataclass(frozen=True)
class Column:
    """A number of the tables.

    Attributes:
        metric: field of the scenes' records.
        label: head.
        better: "higher" or "lower".
        factor: what values are multiplied by.
        digits: after the point.
        where: (field, value) that a record has to have; None for all records.
        compared: whether the reference's difference to each row is shown.
    """

    metric: str
    label: str
    better: str = "higher"
    factor: float = 1.0
    digits: int = 2
    where: tuple[str, str] | None = None
    compared: bool = False


SUCCESS = Column("success", "success %", factor=100.0, digits=1, compared=True)
PROGRESS = Column("progress", "progress", digits=3, compared=True)
COLUMNS = (
    SUCCESS,
    PROGRESS,
    Column("balanced", "balanced", digits=3),
    Column("leak", "leak %", "lower", 100.0, 1),
    Column("psnr_background", "background dB", digits=1),
    Column("discriminates", "right object %", factor=100.0, digits=1),
)


@dataclass(frozen=True)
class Study:
    """One table.

    Attributes:
        name: on the command line.
        title: of the table.
        source: paper and table.
        published: what the paper found, in numbers.
        about: how the miniature differs from the paper's study.
        rows: in the table's order.
        reference: name of the row that the others are compared with: the whole model.
        columns: of the table.
    """

    name: str
    title: str
    source: str
    published: str
    about: str
    rows: tuple[Row, ...]
    reference: str
    columns: tuple[Column, ...] = COLUMNS


EDITOR = Cost("editor", step=0.65, scene=0.12, run=10.0)
INTERLEAVED = Cost("interleaved", step=0.58, scene=0.12, run=10.0)
EXPRESSIVE = Cost("expressive", step=0.9, scene=0.3, run=20.0)


def _editor_row(name: str, label: str, *overrides: str, parts: tuple[str, ...] = ("bim", "iaa")) -> Row:
    """Recipe insightedit with a finished language model, which stays as it is."""
    trained = ",".join([f"bridge.{part}.*" for part in ("qformer", *parts)] + ["unet.*"])
    absent = [f"bridge.{part}=null" for part in ("bim", "iaa") if part not in parts]
    unused = [f"stage.use_{part}=false" for part in ("bim", "iaa") if part not in parts]
    settings = ("stages=[3]", "comprehension.lora=null", f"stage.trainable=[{trained}]", *absent, *unused)
    return Row(name, label, "insightedit", ("mini",), (*settings, *overrides), EDITOR_BASES, EDITOR, from_model=True)


ALL_TASKS = ("editing", "subject", "subject_editing")
SOURCES = {"editing": "scenes", "subject": "subjects", "subject_editing": "subject_edits"}  # task -> its data


def _interleaved_row(
    name: str,
    label: str,
    tasks: tuple[str, ...],
    *overrides: str,
    bridge: str = "bridge.*",
    sources: str | None = None,
    measured: tuple[str, ...] | None = None,
    steps: float = 1.0,
) -> Row:
    """Recipe mige on the data of `tasks`, drawn alike."""
    sources = sources or ",".join(f"{{kind: {SOURCES[task]}, split: train}}" for task in tasks)
    trained = f"stage.trainable=[comprehension.*,{bridge},transformer.*]"
    return Row(
        name,
        label,
        "mige",
        ("mige_mini",),
        (f"data.sources=[{sources}]", trained, *overrides),
        INTERLEAVED_BASES,
        INTERLEAVED,
        tasks=measured or tasks,
        stages=(Stage(steps=steps),),
    )


SPOKEN = "data.sources=[{{kind: {}, split: train}}]"


def _expressive_row(name: str, label: str, kind: str, *overrides: str, aligned_on: str) -> Row:
    """Recipe mgie's two stages in miniature, the language model learning along."""
    trained = "comprehension.*language_model.*,comprehension.*lm_head.weight,bridge.edit_head.*"
    return Row(
        name,
        label,
        "mgie",
        ("mini", "mgie_mini"),
        ("stages=[1,3]", "bridge.edit_head.token_head=true", *overrides),
        EDITOR_BASES,
        EXPRESSIVE,
        stages=(
            Stage(
                1,
                (f"stage.trainable=[{trained},bridge.token_out.*]", "stage.use_bim=false", SPOKEN.format(aligned_on)),
                STEPS_OF_STAGE_1,
            ),
            Stage(3, (f"stage.trainable=[{trained},unet.*]", SPOKEN.format(kind))),
        ),
    )


WHOLE = _editor_row("whole", "BIM and IAA (InsightEdit)")
WITHOUT_IAA = _editor_row("without_iaa", "without IAA", parts=("bim",))
WITHOUT_BIM = _editor_row("without_bim", "without BIM", parts=("iaa",))
BIM_MLP = _editor_row("bim_mlp", "MLP in BIM's place", "bridge.bim.kind=mlp")
BIM_SELF = _editor_row("bim_self_attention", "self-attention in BIM's place", "bridge.bim.kind=self_attention")

JOINT = _interleaved_row("joint", "all three tasks (MIGE)", ALL_TASKS)
ONLY_EDITING = _interleaved_row("only_editing", "only editing data", ("editing",))
ONLY_SUBJECT = _interleaved_row("only_subject", "only subject data", ("subject",))
ONLY_COMPOSED = _interleaved_row("only_subject_editing", "only subject editing data", ("subject_editing",))
TWO_TASKS = _interleaved_row(
    "editing_and_subject", "editing and subject data", ("editing", "subject"), measured=ALL_TASKS
)
JOINT_SAMPLES = _interleaved_row("joint_3x", "all three tasks, three times the steps", ALL_TASKS, steps=3.0)
WITHOUT_FUSION = _interleaved_row("without_fusion", "without VAE features", ALL_TASKS, bridge="bridge.fusion.norm.*")
WORDS_ALONE = _interleaved_row(
    "words_alone",
    "source not among the words",
    ALL_TASKS,
    "comprehension.reader.source_in_text=false",
    measured=("editing",),
)
NO_WORDINGS = _interleaved_row(
    "no_wordings", "neither: one fixed form", ("editing",), sources="{kind: resolved_words, split: train}"
)
SIMPLE = _interleaved_row(
    "simple_wordings", "simple wordings", ("editing",), sources="{kind: scenes, split: train, style: simple}"
)
ADVANCED = _interleaved_row(
    "advanced_wordings", "advanced wordings", ("editing",), sources="{kind: scenes, split: train, style: advanced}"
)
SILENT = _expressive_row(
    "not_expressive", "no expressive instruction", "scenes", "comprehension.expressive=false", aligned_on="resolved"
)
FULL_WORDS = _expressive_row(
    "full_expressive",
    "full expressive instruction",
    "full_descriptions",
    "comprehension.max_new_tokens=160",
    aligned_on="full_descriptions",
)
SUMMARISED = _expressive_row(
    "summarised_expressive", "summarised expressive instruction (MGIE)", "descriptions", aligned_on="descriptions"
)

STUDIES = (
    Study(
        "iaa",
        "Image alignment adapter",
        "InsightEdit, table 4",
        "AdvancedEdit-Eval, without and with IAA: PSNR 22.348 and 22.871 dB, SSIM 0.692 and 0.716, LPIPS 0.095 and "
        "0.071, CLIPScore 20.652 and 21.002, VIEScore 7.307 and 7.545.",
        "The miniature CLIP knows little (docs/lab-notes.md), so lambda is 0.25 and what IAA predicts is weak.",
        (WITHOUT_IAA, WHOLE),
        WHOLE.name,
    ),
    Study(
        "bim",
        "Bidirectional interaction module",
        "SmartEdit, supplement, section 3.2 (what BIM's exchange is worth); without BIM: SmartEdit's main ablation",
        "Reason-Edit: the supplement's table 1 has no row without BIM; see `bim_kinds`.",
        "Both rows keep IAA, which SmartEdit does not have. BIM's place head is trained along, as in the default.",
        (WITHOUT_BIM, WHOLE),
        WHOLE.name,
    ),
    Study(
        "joint",
        "Joint training on three tasks",
        "MIGE, tables 1, 2 and 3",
        "MagicBrush, only editing data and joint: DINO 0.796 and 0.889, L1 0.094 and 0.055. DreamBench, only subject "
        "data and joint: DINO 0.726 and 0.744, CLIP-I 0.823 and 0.830.",
        "Every row takes the same number of steps, so the joint row sees each task a third as often. In the paper "
        "it sees the union of the data sets; `joint_samples` gives each task as many samples as its own row.",
        (ONLY_EDITING, ONLY_SUBJECT, ONLY_COMPOSED, JOINT),
        JOINT.name,
    ),
    Study(
        "bim_kinds",
        "What stands in BIM's place",
        "SmartEdit, supplement, table 1",
        "Reason-Edit, understanding, self-attention, MLP and BIM: PSNR 21.978, 21.848 and 22.049 dB, Ins-align 0.695, "
        "0.697 and 0.712; reasoning: 24.586, 23.447 and 25.258 dB, 0.628, 0.667 and 0.789.",
        "How the paper's two replacements were built is not told. Ours have BIM's widths and depth, its "
        "zero-initialised outputs and its place head, and no path from text to picture or back.",
        (WITHOUT_BIM, BIM_MLP, BIM_SELF, WHOLE),
        WHOLE.name,
    ),
    Study(
        "wording",
        "Simple and advanced wordings",
        "InsightEdit, table 5",
        "AdvancedEdit-Eval, neither, SimpleEdit and AdvancedEdit: PSNR 21.267, 22.260 and 22.871 dB, CLIPScore 20.395, "
        "20.557 and 21.002, VIEScore 6.974, 7.213 and 7.545.",
        "Measured on the recipe mige, because its miniature foundation has learned from one fixed form of words only, "
        "while the miniature LLaVA knows both kinds already. The pictures are the same in all rows, only the words "
        "differ; in the paper the data sets differ in their pictures too.",
        (NO_WORDINGS, SIMPLE, ADVANCED),
        ADVANCED.name,
        (
            *COLUMNS[:2],
            Column("success", "told simply %", factor=100.0, digits=1, where=("style", "simple")),
            Column("success", "told elaborately %", factor=100.0, digits=1, where=("style", "advanced")),
            *COLUMNS[2:5],
        ),
    ),
    Study(
        "joint_samples",
        "Joint training at equal samples of each task",
        "MIGE, tables 1, 2 and 3",
        "See `joint`; MIGEBench, DINO of replacing and of adding a subject: only compositional data 0.780 and 0.879, "
        "subject and editing data 0.789 and 0.807, all 0.863 and 0.909.",
        "The last row takes three times the steps of the others, so that it sees each task as often as the row of that "
        "task alone: the union of the data, as in the paper. The row of two tasks never sees what `subject_editing` "
        "measures.",
        (ONLY_EDITING, ONLY_SUBJECT, ONLY_COMPOSED, TWO_TASKS, JOINT_SAMPLES),
        JOINT_SAMPLES.name,
    ),
    Study(
        "fusion",
        "VAE features in the pictures' tokens",
        "MIGE, tables 1, 2 and 3 (wo VAE feature)",
        "MagicBrush, without and with: DINO 0.811 and 0.889, L1 0.098 and 0.055. DreamBench: DINO 0.741 and 0.744.",
        "Without: the fusion's last layer keeps the zeros that it starts with, so a picture's tokens never read the "
        "autoencoder's features.",
        (WITHOUT_FUSION, JOINT),
        JOINT.name,
    ),
    Study(
        "words_alone",
        "The source among the words",
        "MIGE, table 1 (wo multimodal instruction)",
        "MagicBrush, without and with: DINO 0.548 and 0.889, CLIP-I 0.714 and 0.905, L1 0.170 and 0.055.",
        "Without: the source picture reaches the transformer as latents only. The transformer that all rows start from "
        "has learned from words alone, which favours this row.",
        (WORDS_ALONE, JOINT),
        JOINT.name,
    ),
    Study(
        "expressive",
        "Expressive instructions, full or summarised",
        "MGIE, section on ablations",
        "In words only: summarised expressive instructions do better than full ones, and those better than none.",
        "Two stages for every row, the language model learning along. The miniature LLaVA has learned to expand an "
        "instruction to its summarised form, which favours that row.",
        (SILENT, FULL_WORDS, SUMMARISED),
        SUMMARISED.name,
    ),
)
CORE = ("iaa", "bim", "joint")

NOT_BUILT = {
    "SmartEdit, supplement, table 1, Exp 1 (no Q-Former)": "the language model's states would have to be the "
    "denoiser's text states; nothing in the architecture brings 8 states of one width to 77 of another without one.",
    "SmartEdit, supplement, table 1, Exp 5 (fine-tuned GILL)": "another system on another language model (OPT).",
    "MGIE: frozen and fine-tuned InstructPix2Pix, LGIE": "their language model is not trained with the denoiser, or "
    "does not see the picture: other systems, not settings of this one.",
    "MGIE: without the instruction loss": "its language model speaks as it was pre-trained; the miniature's was "
    "pre-trained to give exactly the summarised form, so nothing would be left out.",
}


def find_studies(names: tuple[str, ...]) -> tuple[Study, ...]:
    """Studies by name, in the order of `STUDIES`; `core` and `all` stand for several.

    Raises:
        ValueError: for an unknown name, with the known ones.
    """
    known = {study.name: study for study in STUDIES}
    groups = {"core": CORE, "all": tuple(known)}
    wanted = {found for name in names for found in groups.get(name, (name,))}
    unknown = sorted(wanted - set(known))
    if unknown or not wanted:
        told = f"unknown study {', '.join(unknown)}" if unknown else "no studies are named"
        raise ValueError(f"{told}: choose from {', '.join(known)}, core ({', '.join(CORE)}) or all.")
    return tuple(study for study in STUDIES if study.name in wanted)


def rows_of(studies: tuple[Study, ...]) -> tuple[Row, ...]:
    """All rows of the studies, each once."""
    return tuple({row.name: row for study in studies for row in study.rows}.values())
