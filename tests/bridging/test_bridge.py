from __future__ import annotations

import json

import pytest
import torch

from insightedit.bridging.bridge import EditBridge
from insightedit.types import ComprehensionStates

SMALL = {
    "num_queries": 7,
    "text_width": 16,
    "llm_width": 24,
    "qformer_config": {"num_layers": 2, "num_heads": 2, "ffn_dim": 32},
    "bim_config": {"vision_width": 20, "width": 32, "num_heads": 2, "mlp_dim": 48, "residual_channels": 6},
    "iaa_config": {"hidden_dim": 16, "image_embed_dim": 12},
}
STATES, IMAGE = torch.randn(2, 5, 24), torch.randn(2, 9, 20)


@pytest.fixture
def bridge() -> EditBridge:
    torch.manual_seed(0)
    bridge = EditBridge(**SMALL).eval()
    torch.nn.init.normal_(bridge.bim.text_out.weight, std=0.3)
    torch.nn.init.normal_(bridge.bim.image_out.weight, std=0.3)
    return bridge


def test_full_size_shapes() -> None:
    with torch.device("meta"):
        condition = EditBridge(qformer_config={}, bim_config={}, iaa_config={})(
            ComprehensionStates(torch.empty(2, 32, 4096), torch.empty(2, 256, 1024)), (32, 32)
        )
    assert condition.encoder_hidden_states.shape == (2, 77, 768)
    assert condition.spatial_residual.shape == (2, 320, 32, 32)
    assert condition.image_embeds.shape == (2, 768)


def test_round_trip(bridge: EditBridge, tmp_path) -> None:
    bridge.set_null_text_states(torch.randn(7, 16))
    bridge.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["_class_name"] == "EditBridge"
    assert {k: saved[k] for k in SMALL} == SMALL
    loaded = EditBridge.from_pretrained(tmp_path).eval()
    assert bridge.state_dict().keys() == loaded.state_dict().keys()
    before, after = (
        bridge(ComprehensionStates(STATES, IMAGE), (8, 8)),
        loaded(ComprehensionStates(STATES, IMAGE), (8, 8)),
    )
    assert torch.equal(before.encoder_hidden_states, after.encoder_hidden_states)
    assert torch.equal(before.spatial_residual, after.spatial_residual)
    assert torch.equal(before.image_embeds, after.image_embeds)
    assert torch.equal(bridge.null_text_states, loaded.null_text_states)


def test_text_only_skips_bim(bridge: EditBridge) -> None:
    condition = bridge(ComprehensionStates(STATES), None)
    assert torch.equal(condition.encoder_hidden_states, bridge.qformer(STATES))
    assert condition.spatial_residual is None
    assert condition.image_embeds.shape == (2, 12)


def test_branches_switch_off_and_on(bridge: EditBridge) -> None:
    on = bridge(ComprehensionStates(STATES, IMAGE), (4, 4))
    bridge.use_bim = bridge.use_iaa = False
    off = bridge(ComprehensionStates(STATES, IMAGE), (4, 4))
    assert torch.equal(off.encoder_hidden_states, bridge.qformer(STATES))
    assert off.spatial_residual is None
    assert off.image_embeds is None
    bridge.use_bim = bridge.use_iaa = True
    assert torch.equal(
        bridge(ComprehensionStates(STATES, IMAGE), (4, 4)).encoder_hidden_states, on.encoder_hidden_states
    )


def test_without_bim_and_iaa(tmp_path) -> None:
    bridge = EditBridge(**{**SMALL, "bim_config": None, "iaa_config": None}).eval()
    condition = bridge(ComprehensionStates(STATES, IMAGE), (4, 4))
    assert condition.spatial_residual is None
    assert condition.image_embeds is None
    assert not any(k.startswith(("bim", "iaa")) for k in bridge.state_dict())
    bridge.save_pretrained(tmp_path)
    assert EditBridge.from_pretrained(tmp_path).bim is None
    with pytest.raises(ValueError, match=r"built without BIM: build it with bim_config"):
        bridge.use_bim = True
    with pytest.raises(ValueError, match=r"built without IAA: build it with iaa_config"):
        bridge.use_iaa = True


def test_trains_under_bfloat16_autocast() -> None:
    bridge = EditBridge(**SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        condition = bridge(ComprehensionStates(STATES, IMAGE), (8, 8))
        loss = sum(
            v.float().sub(1).square().mean()
            for v in (condition.encoder_hidden_states, condition.spatial_residual, condition.image_embeds)
        )
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in bridge.parameters())


def test_rejects_null_states_of_another_text_encoder(bridge: EditBridge) -> None:
    with pytest.raises(ValueError, match=r"shape \(5, 16\), this bridge needs .* \(7, 16\)"):
        bridge.set_null_text_states(torch.zeros(5, 16))


def test_rejects_bim_without_latent_size(bridge: EditBridge) -> None:
    with pytest.raises(ValueError, match=r"give latent_size=\(h, w\), got None"):
        bridge(ComprehensionStates(STATES, IMAGE), None)


@pytest.mark.parametrize("branch", ["qformer_config", "bim_config", "iaa_config"])
def test_rejects_what_a_branch_does_not_take(branch: str) -> None:
    with pytest.raises(ValueError, match=rf"^{branch}={{.*'wide': 8.*}} does not fit .*: .*unexpected keyword"):
        EditBridge(**{**SMALL, branch: {**SMALL[branch], "wide": 8}})
