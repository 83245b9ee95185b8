"""A bridge whose text branch is an edit head, what is null there, and that older folders still load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import insightedit
from insightedit.bridging.bridge import EditBridge
from insightedit.bridging.fusion import FusionBridge
from insightedit.types import ComprehensionStates

DEFAULT = Path(insightedit.__file__).parent / "weights" / "default" / "bridge"
SMALL = {"num_queries": 7, "text_width": 16, "llm_width": 24}
HEAD = {"edit_head_config": {"width": 32, "num_layers": 1, "num_heads": 2, "ffn_dim": 48}}
QFORMER = {"qformer_config": {"num_layers": 2, "num_heads": 2, "ffn_dim": 32}}
STATES, EMBEDDINGS = torch.randn(2, 5, 24), torch.randn(5, 24)


@pytest.fixture
def bridge() -> EditBridge:
    torch.manual_seed(0)
    return EditBridge(**SMALL, **HEAD, null_text="zero_states")


def test_the_text_branch_is_the_edit_head(bridge: EditBridge) -> None:
    assert bridge.qformer is None
    condition = bridge(ComprehensionStates(STATES, torch.randn(2, 9, 20), edit_embeddings=EMBEDDINGS), (4, 4))
    assert torch.equal(condition.encoder_hidden_states, bridge.edit_head(STATES, EMBEDDINGS))
    assert condition.spatial_residual is None
    assert condition.image_embeds is None


def test_round_trip(bridge: EditBridge, tmp_path) -> None:
    bridge.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert {k: saved[k] for k in HEAD} == HEAD
    loaded = EditBridge.from_pretrained(tmp_path)
    assert bridge.state_dict().keys() == loaded.state_dict().keys()
    assert torch.equal(bridge.eval().null_states(EMBEDDINGS), loaded.null_states(EMBEDDINGS))
    states = ComprehensionStates(STATES, edit_embeddings=EMBEDDINGS)
    before, after = (b(states, None).encoder_hidden_states for b in (bridge, loaded))
    assert torch.equal(before, after)


def test_bim_can_follow_an_edit_head() -> None:
    bridge = EditBridge(
        **SMALL,
        **HEAD,
        bim_config={"vision_width": 20, "width": 32, "num_heads": 2, "mlp_dim": 48, "residual_channels": 6},
    )
    condition = bridge(ComprehensionStates(STATES, torch.randn(2, 9, 20), edit_embeddings=EMBEDDINGS), (4, 4))
    assert condition.encoder_hidden_states.shape == (2, 7, 16)
    assert condition.spatial_residual.shape == (2, 6, 4, 4)


def test_zero_states_are_the_heads_answer_to_nothing(bridge: EditBridge) -> None:
    embeddings = EMBEDDINGS.clone().requires_grad_()
    null = bridge.null_states(embeddings)
    assert null.shape == (7, 16)
    assert torch.equal(null, bridge.edit_head(torch.zeros(1, 5, 24), EMBEDDINGS)[0])
    null.square().sum().backward()
    assert embeddings.grad.any()
    assert all(p.grad is not None for p in bridge.edit_head.parameters())
    with torch.no_grad():
        bridge.edit_head.proj_out.bias.add_(1.0)
    torch.testing.assert_close(bridge.null_states(EMBEDDINGS), null + 1.0)  # learned: never stale


def test_zero_states_of_a_qformer() -> None:
    bridge = EditBridge(**SMALL, **QFORMER, null_text="zero_states").eval()
    assert torch.equal(bridge.null_states(EMBEDDINGS), bridge.qformer(torch.zeros(1, 5, 24))[0])


def test_the_empty_text_is_what_was_set() -> None:
    bridge = EditBridge(**SMALL, **QFORMER)
    states = torch.randn(7, 16)
    bridge.set_null_text_states(states)
    assert torch.equal(bridge.null_states(), states)
    assert torch.equal(bridge.null_states(EMBEDDINGS), states)


def test_a_bridge_for_pictures_in_instructions_answers_the_same_call() -> None:
    bridge = FusionBridge(token_width=16, visual_width=12, num_heads=2, text_length=7, text_width=16)
    assert torch.equal(bridge.null_states(), bridge.null_text_states)


@pytest.mark.parametrize("arguments", [{}, {**QFORMER, **HEAD}])
def test_exactly_one_text_branch(arguments: dict) -> None:
    with pytest.raises(ValueError, match="exactly one of them has to be given"):
        EditBridge(**SMALL, **arguments)


def test_an_unknown_null_text() -> None:
    with pytest.raises(ValueError, match="null_text is 'none'; it is one of empty, zero_states"):
        EditBridge(**SMALL, **HEAD, null_text="none")


def test_missing_embeddings_are_named(bridge: EditBridge) -> None:
    for call in (lambda: bridge(ComprehensionStates(STATES), None), bridge.null_states):
        with pytest.raises(ValueError, match="give edit_embeddings, which comprehension returns"):
            call()


def test_a_folder_of_version_0_1_with_flat_settings_loads_unchanged(tmp_path) -> None:
    bridge = EditBridge(**SMALL, **QFORMER, iaa_config={"hidden_dim": 8, "image_embed_dim": 6})
    bridge.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    saved = json.loads(config.read_text())
    flat = {k: v for k, v in saved.items() if not k.endswith("_config") and k != "null_text"}  # before edit heads
    flat |= {"qformer_layers": 2, "qformer_heads": 2, "qformer_ffn_dim": 32, "vision_width": 20, "token_head": False}
    flat |= {"bim_width": None, "residual_channels": 6, "iaa_hidden_dim": 8, "iaa_layers": 2, "image_embed_dim": 6}
    config.write_text(json.dumps(flat))
    loaded, info = EditBridge.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert loaded.edit_head is None and loaded.bim is None
    assert loaded.config["null_text"] == "empty"
    assert loaded.config["iaa_config"] == {"hidden_dim": 8, "num_layers": 2, "image_embed_dim": 6}
    assert all(torch.equal(value, bridge.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_the_embedded_default_loads() -> None:
    bridge, info = EditBridge.from_pretrained(DEFAULT, output_loading_info=True)
    assert not any(info.values())
    assert bridge.qformer is not None
    assert bridge.edit_head is None
    assert torch.equal(bridge.null_states(), bridge.null_text_states)
    assert bridge.null_text_states.any()
