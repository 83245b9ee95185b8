"""The recipe mgie: its values, what it trains, and a tiny run from the command line to an edited picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import torch

from insightedit import stage1, stage3
from insightedit.config import ConfigError, load_config
from insightedit.datasets.loader import resize_square
from insightedit.export.folder import export_run
from insightedit.generation.denoiser import DenoiserInputs
from insightedit.model.build import build_bridge, build_editor, build_text_encoder
from insightedit.pipelines.compose import pipeline_from_editor
from insightedit.pipelines.loading import load_pipeline
from insightedit.training.checkpoint import load_stage_weights, stage_weights
from insightedit.training.data import build_loader
from insightedit.training.objectives import OBJECTIVES, total_loss
from insightedit.training.trainable import select_trainable
from insightedit.types import Answer

TINY = ["--recipe", "mgie", "--overlay", "tiny"]
TABLES = ("comprehension.mllm.model.language_model.embed_tokens.weight", "comprehension.mllm.lm_head.weight")
HEAD = {"width": 32, "num_layers": 1, "num_heads": 2, "ffn_dim": 64}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_root: Path) -> Path:
    """Run folder of the only stage."""
    folder = tmp_path_factory.mktemp("mgie")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert stage3.main(TINY).finished
    return folder / "runs" / "mgie" / "stage3"


@pytest.fixture
def prepared():
    """Config, editor ready to train, and a batch; overrides as on the command line."""

    def prepare(*overrides: str):
        config = load_config("mgie", 3, ["tiny"], list(overrides))
        editor = build_editor(config)
        report = select_trainable(editor, config.stage.trainable)
        editor.train()
        return config, editor, next(iter(build_loader(config, editor))), report

    return prepare


def losses_of(config, editor, batch):
    torch.manual_seed(0)
    return OBJECTIVES[config.stage.objective](editor, batch, config, torch.Generator().manual_seed(0))


def test_the_published_values() -> None:
    config = load_config("mgie", 3)
    part = config.comprehension
    assert (part.num_edit_tokens, part.edit_token, part.lora) == (8, "[IMG{index}]", None)
    assert part.expressive
    assert part.states_before_tokens
    assert part.train_embeddings
    assert (part.max_new_tokens, part.no_repeat_ngram_size) == (96, 3)
    head = config.bridge.edit_head
    assert (head.width, head.num_layers, head.num_heads, head.ffn_dim) == (512, 4, 4, 2048)
    assert (config.bridge.qformer, config.bridge.bim, config.bridge.iaa) == (None, None, None)
    guidance = config.guidance
    assert (guidance.drop_text, guidance.drop_image, guidance.drop_both) == (0.05, 0.05, 0.05)
    assert (guidance.guidance_scale, guidance.image_guidance_scale) == (7.5, 1.5)
    assert (guidance.num_inference_steps, guidance.null_text) == (100, "zero_states")
    assert (config.loss.lm, config.loss.noise) == (1.0, 0.5)
    assert (config.optim.lr, config.optim.warmup_ratio, config.optim.weight_decay) == (5e-4, 0.03, 0.0)
    assert 8 * config.train.batch_size * config.train.gradient_accumulation_steps == 32
    assert not config.generation.scale_source_latents
    assert config.data.sources[0].kind == "descriptions"


@pytest.mark.parametrize("recipe", ["insightedit", "smartedit"])
def test_the_other_recipes_stay_as_they_were(recipe: str) -> None:
    config = load_config(recipe, 3)
    part = config.comprehension
    assert (part.max_new_tokens, part.no_repeat_ngram_size) == (64, 0)
    assert not part.states_before_tokens
    assert not part.train_embeddings
    assert config.bridge.edit_head is None
    assert config.guidance.null_text == "empty"


def test_its_only_stage_is_3() -> None:
    assert load_config("mgie").stages == [3]
    with pytest.raises(ConfigError, match="the recipe mgie has the stages 3; stage 1 is not one of them"):
        stage1.main(TINY)


def test_the_full_bridge_is_the_edit_head_alone() -> None:
    from types import SimpleNamespace

    config = load_config("mgie", 3)
    clip = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=77, hidden_size=768))
    llava = SimpleNamespace(hidden_size=4096, vision_hidden_size=1024)
    with torch.device("meta"):
        bridge = build_bridge(config, llava, clip, DenoiserInputs(768), None)
    assert sum(p.numel() for p in bridge.parameters()) == pytest.approx(31.96e6, rel=0.005)


@pytest.mark.parametrize(
    ("override", "state"), [("bridge.edit_head=null", "null"), ("bridge.qformer.num_layers=2", "set")]
)
def test_exactly_one_text_branch(override: str, state: str) -> None:
    config = load_config("mgie", 3, ["tiny"], [override])
    text_encoder, _ = build_text_encoder(config)
    with pytest.raises(ConfigError, match=f"both {state}: the text branch is one of them, so set the other to null"):
        build_bridge(config, None, text_encoder, DenoiserInputs(32), None)


def test_what_trains_is_both_tables_the_edit_head_and_the_unet(prepared) -> None:
    config, editor, _, report = prepared()
    names = [name for name, _ in editor.named_parameters()]
    wanted = {n for n in names if n.startswith(("bridge.edit_head.", "unet.")) or n in TABLES}
    assert set(report.names) == wanted
    assert set(TABLES) < wanted
    assert all(any(fnmatchcase(n, pattern) for n in names) for pattern in config.stage.trainable)
    assert editor.unet.config.residual_channels == editor.unet.config.image_tokens == 0
    assert {k: editor.bridge.config["edit_head_config"][k] for k in HEAD} == HEAD


def test_losses_and_how_they_are_weighed(prepared) -> None:
    config, editor, batch, _ = prepared()
    losses = losses_of(config, editor, batch)
    assert set(losses) == {"lm", "noise", "metric/qformer_spread"}
    torch.testing.assert_close(total_loss(losses, config.loss), losses["lm"] + 0.5 * losses["noise"])


def test_the_words_before_the_tokens_are_learned(prepared) -> None:
    _, editor, batch, _ = prepared()
    tokens, tokenizer = batch.tokens, editor.comprehension.processor.tokenizer
    for row in range(2):
        labelled = tokens.labels[row][tokens.labels[row] != -100]
        text = tokenizer.decode(labelled[:-4])
        assert labelled[-4:].tolist() == editor.comprehension.edit_token_ids
        assert len(text.split()) > 2
        assert text.strip().rstrip(".") in tokenizer.decode(tokens.input_ids[row])


@pytest.mark.parametrize("part", ["text", "both"])
def test_the_null_is_learned_where_the_text_is_dropped(prepared, part: str) -> None:
    """Then the diffusion loss reaches the edit head and the tokens' embeddings, but not the states."""
    others = [f"guidance.drop_{name}=0.0" for name in ("text", "image", "both") if name != part]
    config, editor, batch, _ = prepared(f"guidance.drop_{part}=1.0", *others)
    losses = losses_of(config, editor, batch)
    losses["noise"].backward()
    assert all(p.grad is not None for p in editor.bridge.edit_head.parameters())
    assert editor.bridge.edit_head.proj_out.weight.grad.any()
    embeddings = editor.comprehension.stock.get_input_embeddings().weight.grad
    reached = embeddings.abs().sum(dim=1).nonzero().flatten().tolist()
    assert reached == sorted(editor.comprehension.edit_token_ids)


def test_with_text_the_noise_reaches_the_words_through_the_states(prepared) -> None:
    config, editor, batch, _ = prepared(*(f"guidance.drop_{name}=0.0" for name in ("text", "image", "both")))
    losses_of(config, editor, batch)["noise"].backward()
    reached = editor.comprehension.stock.get_input_embeddings().weight.grad.abs().sum(dim=1) > 0
    assert reached[editor.comprehension.edit_token_ids].all()
    assert reached.sum() > 10


def test_only_what_trains_moves(run: Path) -> None:
    config = load_config("mgie", 3, ["tiny"])
    before = dict(build_editor(config).named_parameters())
    after = build_editor(config)
    load_stage_weights(after, run)
    weights = stage_weights(run)
    for name, value in after.named_parameters():
        assert torch.equal(value, before[name]) == (name not in weights), name
    contract = json.loads((run / "contract.json").read_text())
    assert contract["edit_token"] == "[IMG{index}]"
    assert set(contract["keys"]) == set(weights) > set(TABLES)
    old_rows = (
        weights[TABLES[0]][: min(contract["edit_token_ids"])] != before[TABLES[0]][: min(contract["edit_token_ids"])]
    )
    assert old_rows.any(), "rows of old words train, too"


def test_the_command_line_trains_and_goes_on_bit_for_bit(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "insightedit.stage3", *TINY, "train.max_minutes=0"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as the tests run: sums are grouped by thread
    done = subprocess.run(command, cwd=tmp_path, env=one_thread, capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr  # not finished: the same command goes on
    monkeypatch.chdir(tmp_path)
    assert stage3.main(TINY).resumed_from == 1
    name = Path("checkpoints") / "step-000004" / "trainable.safetensors"
    resumed = tmp_path / "runs" / "mgie" / "stage3"
    assert (resumed / name).read_bytes() == (run / name).read_bytes()
    trained, again = stage_weights(run), stage_weights(resumed)
    assert trained.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in trained.items())


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as a model folder in float32."""
    return export_run(run, tmp_path_factory.mktemp("export") / "model", dtype="fp32")


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def edit(pipeline, **options):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        picture(), "remove the dog", seed=1, background_lock=False, output_type="np", **{"force": True, **options}
    )


def test_saved_and_loaded_it_draws_the_same_pixels(run: Path, folder: Path, tmp_path: Path) -> None:
    config = load_config("mgie", 3, ["tiny"])
    editor = build_editor(config)
    load_stage_weights(editor, run)
    live, loaded = pipeline_from_editor(editor, config), load_pipeline(folder, "cpu")
    results = [edit(pipeline) for pipeline in (live, loaded)]
    loaded.save_pretrained(tmp_path / "again")
    results.append(edit(load_pipeline(tmp_path / "again", "cpu")))
    for result in results[1:]:
        assert np.array_equal(result.images[0], results[0].images[0])
        assert result.expressive_instructions == results[0].expressive_instructions
    assert results[0].images[0].shape == (40, 56, 3)


def test_the_folder_knows_how_it_was_trained(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    assert index["expressive"]
    assert index["states_before_tokens"]
    assert (index["max_new_tokens"], index["no_repeat_ngram_size"]) == (96, 3)
    assert json.loads((folder / "bridge" / "config.json").read_text())["null_text"] == "zero_states"
    assert load_pipeline(folder, "cpu").comprehension.states_before_tokens


def test_it_says_what_it_does_first_and_that_is_what_it_draws(folder: Path) -> None:
    pipeline = load_pipeline(folder, "cpu")
    asked = {}
    answer = pipeline.comprehension.answer
    pipeline.comprehension.answer = lambda *given: asked.setdefault(
        "answer", answer(*asked.setdefault("given", given))
    )
    result = edit(pipeline)
    questions, _, max_new_tokens, no_repeat = asked["given"]
    assert (questions, max_new_tokens, no_repeat) == (["remove the dog"], 96, 3)
    assert result.expressive_instructions == [asked["answer"][0].text]
    pipeline.comprehension.answer = lambda *_: [Answer("a red ball, and nothing else", (-0.1,))]
    other = edit(pipeline)
    assert other.expressive_instructions == ["a red ball, and nothing else"]
    assert not np.array_equal(other.images[0], result.images[0])


def test_guidance_pulls_away_from_the_heads_own_null(folder: Path) -> None:
    """The null is the head's answer to zero states; the stored states of "" are not read."""
    pipeline = load_pipeline(folder, "cpu")
    before = edit(pipeline).images[0]
    pipeline.bridge.null_text_states.fill_(100.0)
    assert np.array_equal(edit(pipeline).images[0], before)
    states = pipeline.bridge.null_states(pipeline.comprehension.edit_embeddings)
    nothing = torch.zeros(1, 4, pipeline.comprehension.hidden_size)
    wanted = pipeline.bridge.edit_head(nothing, pipeline.comprehension.edit_embeddings)[0]
    torch.testing.assert_close(states, wanted, atol=0, rtol=0)
    pipeline.bridge.null_states = lambda _: states + 5.0
    assert not np.array_equal(edit(pipeline).images[0], before)
    unguided = {"guidance_scale": 1.0, "image_guidance_scale": 1.0}
    plain = edit(pipeline, **unguided).images[0]
    del pipeline.bridge.null_states
    assert np.array_equal(edit(pipeline, **unguided).images[0], plain)


def test_trained_states_are_those_that_editing_uses(run: Path) -> None:
    """The words given as a reply lead to the same condition on both ways, in training and in the pipeline."""
    config = load_config("mgie", 3, ["tiny"])
    editor = build_editor(config).eval()
    load_stage_weights(editor, run)
    square = resize_square(picture(), 32)
    with torch.no_grad():
        tokens = editor.comprehension.tokenize(["remove the dog"], [square], replies=["a red ball"])
        _, trained = editor.understand(tokens, (8, 8))
    pipeline = pipeline_from_editor(editor, config)
    used = pipeline.encode_instruction(["remove the dog"], [square], None, ["a red ball"])
    assert torch.equal(used.encoder_hidden_states, trained.encoder_hidden_states)


def test_a_recipe_with_stage_1_can_align_an_edit_head() -> None:
    head = ["bridge.qformer=null", "bridge.edit_head.width=32", "bridge.edit_head.num_heads=2"]
    head += ["bridge.edit_head.num_layers=1", "stage.trainable=[bridge.edit_head.*]"]
    config = load_config("insightedit", 1, ["tiny"], head)
    editor = build_editor(config)
    select_trainable(editor, config.stage.trainable)
    losses = losses_of(config, editor, next(iter(build_loader(config, editor))))
    assert set(losses) == {"lm", "align", "metric/qformer_spread"}
    losses["align"].backward()
    assert all(p.grad is not None and p.grad.any() for p in editor.bridge.edit_head.parameters())


def test_the_miniature_overlay_goes_on_top() -> None:
    config = load_config("mgie", 3, ["mini"])
    assert (config.bridge.qformer, config.bridge.bim, config.bridge.iaa, config.comprehension.lora) == (None,) * 4
    assert (config.bridge.edit_head.width, config.comprehension.no_repeat_ngram_size) == (192, 0)
    assert (config.loss.noise, config.guidance.null_text) == (0.5, "zero_states")
    assert config.comprehension.states_before_tokens


@pytest.mark.skipif(sys.platform == "win32", reason="a bash script")
def test_the_script_of_all_stages_refuses_an_unknown_recipe(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "stages" / "all.sh"
    environment = {**os.environ, "RECIPE": "nonsense", "PYTHON": sys.executable}
    done = subprocess.run([str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("insightedit: the recipe `nonsense` is not known: one of insightedit, mgie")
    assert not list(tmp_path.iterdir())
