# ruff: noqa: T201
"""What the full size costs on this GPU: the tests that need one, 20 steps of stage 3 in three settings, and an edit.

python benchmarks/gpu --out runs/gpu                       a GPU, about four minutes; nothing is downloaded
python benchmarks/gpu --out /tmp/gpu --rehearse            the same program at toy size on a CPU

The models have their published shapes and random weights. OUT/results.json has the numbers, OUT/*.log what each step
printed; a step that fails or takes too long is written down, and the others go on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # runs without an installation
STEPS = 20
COST = ("samples_per_second", "peak_memory_gb", "loss")
# Stage 3's work as a first stage: what a step costs does not depend on what was learned before.
STAGE3 = [
    "stage.objective=edit",
    "stage.use_bim=true",
    "stage.use_iaa=true",
    'stage.trainable=["comprehension.*trainable_tokens_delta*","comprehension.*lora_*","bridge.*","unet.*"]',
    "data.sources=[{kind: scenes, split: train}]",
]
SETTINGS = {  # of stage 3, beside the recipe's own
    "single_gpu: 4 bit, 8-bit Adam, recomputation, batch 4": ["--overlay", "single_gpu", "train.batch_size=4"],
    "deepspeed zero2, bf16, batch 8": ["train.batch_size=8"],
    "plain torch, bf16, batch 16": ["train.engine=torch", "train.batch_size=16"],
}


def main(
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    work: Annotated[Path, typer.Option(help="Folder for models and runs: 40 GB, emptied.")] = Path("/dev/shm/gpu"),
    rehearse: Annotated[bool, typer.Option(help="Toy size on the CPU.")] = False,
    settings: Annotated[int, typer.Option(help="Train in the first so many settings.")] = len(SETTINGS),
    minutes: Annotated[float, typer.Option(help="No new step begins after so long.")] = 4.0,
) -> None:
    """Run every step and write what it cost."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    deadline = time.monotonic() + 60 * minutes
    results: dict[str, Any] = {"machine": machine(), "steps": STEPS, "rows": []}

    def step(name: str, command: list[str]) -> bool:
        left = deadline - time.monotonic()
        row: dict[str, Any] = {"name": name, "command": " ".join(command)}
        if left > 5:
            row |= run(command, out / f"{len(results['rows'])}.log", left)
        else:
            row["exit"] = "not begun: no time left"
        results["rows"].append(row)
        (out / "results.json").write_text(json.dumps(results, indent=1))
        print(name, row["exit"], row.get("seconds"), row.get("tail", "")[-300:], sep=" | ", flush=True)
        return row["exit"] == 0

    this = [sys.executable, str(Path(__file__).parent)]
    step("base models", [*this[:1], str(Path(__file__)), "--write-models", str(work), *(["--rehearse"] * rehearse)])
    trained: Path | None = None
    for number, (name, words) in enumerate(list(SETTINGS.items())[:settings]):
        run_dir = work / f"run{number}"
        if step(name, stage3(work, run_dir, words, rehearse)):
            results["rows"][-1] |= cost(run_dir / "log.jsonl")
            print({key: results["rows"][-1][key] for key in COST}, flush=True)
            trained, before = run_dir, trained
            shutil.rmtree(before or work / "none", ignore_errors=True)  # one run's weights fit beside the models
    model = work / "model"
    step("export", [sys.executable, "-m", "insightedit", "export", str(trained), "-o", str(model)])
    step("edits of 50 steps at 256 px", [sys.executable, str(Path(__file__)), "--edit", str(model)])
    step(
        "tests that need a GPU",
        [sys.executable, "-m", "pytest", "-q", "-n", "8", "-p", "no:benchmark", "-m", "gpu", "tests/gpu"],
    )
    (out / "results.json").write_text(json.dumps(results, indent=1))
    shutil.rmtree(work, ignore_errors=True)


def machine() -> dict[str, str]:
    """The GPU and the packages that decide about speed."""
    from importlib.metadata import version

    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {"gpu": gpu} | {name: version(name) for name in ("torch", "transformers", "diffusers", "peft")}


def stage3(work: Path, run_dir: Path, words: list[str], rehearse: bool) -> list[str]:
    """The command of one training row."""
    settings = [
        f"output_dir={run_dir}",
        f"comprehension.model={work / 'llava'}",
        f"generation.model={work / 'sd'}",
        f"generation.image_encoder={work / 'clip'}",
        f"train.max_steps={STEPS}",
        "train.gradient_accumulation_steps=1",
        "train.save_every=100000",
        "train.log_every=5",
        "train.num_samples=0",
        "train.deepspeed_files=false",
        "data.num_workers=4",
    ]
    if rehearse:
        settings += ["train.engine=torch", "train.batch_size=2", "generation.resolution=64"]
        settings += ["comprehension.quantization=none", "optim.name=adamw"]
        settings += ["bridge.qformer.num_heads=4", "bridge.bim.num_heads=4"]
    return [sys.executable, "-m", "insightedit.stage1", *words, *STAGE3, *settings]


def run(command: list[str], log: Path, seconds: float) -> dict[str, Any]:
    """Run a command into a log file; its exit code, or why there is none, and the seconds."""
    started = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with log.open("w") as file:
        try:
            code: int | str = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, timeout=seconds, env=environment, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = "stopped: no time left"
    return {"exit": code, "seconds": round(time.monotonic() - started, 1), "tail": log.read_text()[-600:]}


def cost(log: Path) -> dict[str, Any]:
    """Samples a second after the first lines, and the peak of the GPU's memory."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    settled = lines[len(lines) // 2 :]  # the first steps choose kernels
    speed = sum(line["samples_per_second"] for line in settled) / len(settled)
    return dict(zip(COST, (round(speed, 2), lines[-1].get("peak_memory_gb"), lines[-1]["loss"]), strict=True))


def edit(folder: str) -> None:
    """Load a model folder as a user would, and time edits."""
    import torch
    from PIL import Image

    from insightedit import InsightEditPipeline

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    started = time.perf_counter()
    pipeline = InsightEditPipeline.from_pretrained(folder, torch_dtype=dtype).to(device)
    print(f"loading {time.perf_counter() - started:.1f} s")
    image = Image.open(ROOT / "docs/assets/sample.png")
    for number in range(3):
        started = time.perf_counter()
        pipeline(image, "make it winter", num_inference_steps=50, generator=torch.Generator().manual_seed(number))
        print(f"edit {time.perf_counter() - started:.2f} s", flush=True)
    if device == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")


def write_models(work: str, rehearse: bool) -> None:
    """Write the base models in a process of its own, which gives the GPU's memory back."""
    from benchmarks.gpu.base_models import FULL, REHEARSAL, write_base_models

    write_base_models(Path(work), REHEARSAL if rehearse else FULL, "cpu" if rehearse else "cuda")


if __name__ == "__main__":
    if "--edit" in sys.argv:
        edit(sys.argv[2])
    elif "--write-models" in sys.argv:
        write_models(sys.argv[2], "--rehearse" in sys.argv)
    else:
        typer.run(main)
