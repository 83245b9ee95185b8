"""LPIPS against `lpips`, torchmetrics and its definition, with random trunks under the real heads."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchmetrics.functional.image import lpips as theirs

from insightedit.evaluation.metrics import masks, perceptual
from insightedit.evaluation.metrics.perceptual import Perceptual, TrunkError, build_perceptual

HEADS = {  # net -> widths, sum of all weights, SHA-256 of the file
    "alex": ((64, 192, 384, 256, 256), 105.275, "df73285e35b22355"),
    "vgg": ((64, 128, 256, 512, 512), 131.856, "a78928a0af1e5f0f"),
    "squeeze": ((64, 128, 256, 384, 384, 512, 512), 173.439, "4a5350f23600cb79"),
}
SIDE = 64  # pixels


@pytest.fixture(scope="module")
def built() -> dict[str, Perceptual]:
    return {net: build_perceptual(net, random_seed=0) for net in HEADS}


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(64, 64, 3) uint8, smooth."""
    rows, columns = np.mgrid[:SIDE, :SIDE] * 4
    return np.dstack([rows, columns, (rows + columns) // 2]).astype(np.uint8)


def noisy(picture: np.ndarray, seed: int = 0, sigma: float = 20.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def signed(picture: np.ndarray) -> torch.Tensor:
    """(1, 3, H, W) float32 in -1..1."""
    return torch.from_numpy(picture.transpose(2, 0, 1) / 127.5 - 1.0).float()[None]


def half(side: int = SIDE) -> np.ndarray:
    keep = np.zeros((side, side), dtype=bool)
    keep[:, : side // 2] = True
    return keep


@pytest.mark.parametrize("net", list(HEADS))
def test_the_heads_are_the_published_ones(net: perceptual.Net, built: dict[str, Perceptual]):
    widths, total, digest = HEADS[net]
    path = perceptual.heads_path(net)
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest)
    copy = Path(theirs.__file__).parent / "lpips_models" / path.name
    assert copy.read_bytes() == path.read_bytes()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    assert tuple(weights[f"lin{i}.model.1.weight"].shape[1] for i in range(len(weights))) == widths
    assert min(float(values.min()) for values in weights.values()) >= 0.0
    assert sum(float(values.double().sum()) for values in weights.values()) == pytest.approx(total, abs=5e-4)
    network = built[net]._network
    loaded = network.state_dict()
    assert all(torch.equal(loaded[name], values) for name, values in weights.items())
    assert built[net].identity == {"net": net, "heads": digest, "trunk": "random:0", "lpips": version("lpips")}


@pytest.mark.parametrize("net", list(HEADS))
def test_distance_is_its_definition(net: str, built: dict[str, Perceptual], picture: np.ndarray):
    """Sum over layers of `mean_hw(w . (f0 / |f0| - f1 / |f1|)^2)`, the inputs shifted and scaled."""
    network, other = built[net]._network, noisy(picture)
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    features = [network.net((signed(p) - shift) / scale) for p in (picture, other)]
    total = 0.0
    for layer, (f0, f1) in enumerate(zip(*features, strict=True)):
        n0, n1 = (f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in (f0, f1))
        weights = network.get_parameter(f"lin{layer}.model.1.weight")[0]
        total += float((weights * (n0 - n1).square()[0]).sum(0).mean())
    ours = built[net].distance(picture, other)
    assert ours == pytest.approx(total, abs=1e-6) and ours > 1e-3
    assert built[net].distance(other, picture) == pytest.approx(ours, abs=1e-7)
    assert built[net].distance(picture, picture) == 0.0


@pytest.mark.parametrize("net", list(HEADS))
def test_distance_is_that_of_lpips_and_torchmetrics(
    net: str, built: dict[str, Perceptual], picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    """Both load their own copies of the heads themselves; only the trunk's random values are handed over."""
    for name in ("normal_", "kaiming_normal_", "kaiming_uniform_"):
        monkeypatch.setattr(nn.init, name, lambda values, *_, **__: values)  # seconds for VGG's unused layers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        published = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        copied = theirs._LPIPS(net=net, pnet_rand=True)
    ours, other = built[net], noisy(picture, seed=1)
    trunk = ours._network.net.state_dict()
    published.net.load_state_dict(trunk)
    copied.net.load_state_dict(dict(zip(copied.net.state_dict(), trunk.values(), strict=True)))
    distance = ours.distance(picture, other)
    with torch.inference_mode():
        for network in (published, copied):
            assert distance == pytest.approx(float(network(signed(picture), signed(other))), abs=1e-6)


@pytest.mark.parametrize("net", list(HEADS))
def test_strict_is_the_mean_of_the_spatial_map_over_kept_pixels(
    net: str, built: dict[str, Perceptual], picture: np.ndarray
):
    ours, other, keep = built[net], noisy(picture), half()
    network = ours._network
    network.spatial = True
    with torch.inference_mode():
        spatial = network(signed(picture), signed(other))[0, 0].double().numpy()
    assert ours.distance(picture, other, keep=keep) == pytest.approx(spatial[keep].mean(), abs=1e-6)
    assert ours.distance(picture, other, keep=~keep) == pytest.approx(spatial[~keep].mean(), abs=1e-6)
    everywhere = ours.distance(picture, other, keep=np.ones_like(keep))
    assert everywhere == pytest.approx(spatial.mean(), abs=1e-6)
    assert everywhere == pytest.approx(ours.distance(picture, other), rel=0.05)  # the layers' maps, interpolated


def test_background_distances_read_the_mask_as_told_and_do_not_see_the_edit(
    built: dict[str, Perceptual], picture: np.ndarray
):
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[16:48, 16:48] = True
    other = noisy(picture)
    paper = masks.paper_pair(picture, other, mask, side=SIDE)
    strict = masks.strict_pair(picture, other, mask, side=SIDE, dilation=2)
    ours = built["squeeze"]
    values = [ours.distance(pair.source, pair.edited, keep=pair.region) for pair in (paper, strict)]
    assert paper.region is None and values[0] == ours.distance(paper.source, paper.edited)
    assert values[0] > 0 and values[1] > 0 and values[0] != values[1]
    edited = picture.copy()
    edited[16:48, 16:48] = 255 - edited[16:48, 16:48]
    for made in (masks.paper_pair, masks.strict_pair):
        pair = made(picture, edited, mask, side=SIDE)
        assert ours.distance(pair.source, pair.edited, keep=pair.region) == 0.0


def test_uint8_and_floats_are_the_same_picture(built: dict[str, Perceptual], picture: np.ndarray):
    other = noisy(picture)
    assert built["alex"].distance(picture, other) == built["alex"].distance(picture / 255, other / 255)


def test_a_trunk_is_read_as_lpips_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: np.ndarray):
    """`lpips` itself finds a file of random weights in torchvision's folder; ours is given the same file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    cache.parent.mkdir(parents=True)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), cache)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        published = lpips.LPIPS(net="squeeze", verbose=False)
    named = tmp_path / "own.pth"
    named.write_bytes(cache.read_bytes())
    ours = build_perceptual("squeeze", trunk=named)
    digest = hashlib.sha256(cache.read_bytes()).hexdigest()[:16]
    assert ours.identity["trunk"] == f"sha256:{digest}"
    other = noisy(picture)
    with torch.inference_mode():
        expected = float(published(signed(picture), signed(other)))
    assert ours.distance(picture, other) == pytest.approx(expected, abs=1e-7) and expected > 1e-4
    assert perceptual.trunk_path("squeeze") == cache
    with pytest.raises(TrunkError, match=f"SHA-256 {digest}..., not b8a52dc0...\\): delete it and get it again"):
        build_perceptual("squeeze")  # random weights under the name of the published ones


@pytest.mark.parametrize(
    ("net", "file", "size"),
    [
        ("squeeze", "squeezenet1_1-b8a52dc0.pth", "5 MB"),
        ("alex", "alexnet-owt-7be5be79.pth", "233 MB"),
        ("vgg", "vgg16-397923af.pth", "528 MB"),
    ],
)
def test_missing_weights_are_not_fetched_but_explained(
    net: perceptual.Net, file: str, size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(TrunkError) as caught:
        build_perceptual(net)
    message = str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    assert f"LPIPS ({net}) needs the ImageNet weights {file}, and {tmp_path / 'hub' / 'checkpoints' / file}" in message
    assert size in message and "or copy the file there" in message
    command = re.search(r'python -c "(.+?)"', message)
    assert command is not None
    ast.parse(command[1])
    imported, call = command[1].split("; ")
    names: dict[str, object] = {}
    exec(imported, names)
    assert call == "W.IMAGENET1K_V1.get_state_dict()"
    assert names["W"].IMAGENET1K_V1.url.endswith(file)
    assert not list(tmp_path.iterdir())


def test_a_file_of_anything_else_is_refused(tmp_path: Path):
    with pytest.raises(TrunkError, match="No file at .*none.pth: check the path of the trunk's weights"):
        build_perceptual("alex", trunk=tmp_path / "none.pth")
    text = tmp_path / "text.pth"
    text.write_text("no weights")
    with pytest.raises(TrunkError, match=r"text.pth does not hold torchvision's weights of LPIPS's trunk \(alex\)"):
        build_perceptual("alex", trunk=text)
    squeeze = tmp_path / "squeeze.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), squeeze)
    with pytest.raises(TrunkError, match=r"trunk \(alex\): KeyError"):
        build_perceptual("alex", trunk=squeeze)
    wrong = torchvision.models.squeezenet1_0(weights=None).state_dict()
    torch.save(wrong, squeeze)
    with pytest.raises(TrunkError, match=r"trunk \(squeeze\)"):
        build_perceptual("squeeze", trunk=squeeze)


def test_other_heads_are_refused(tmp_path: Path):
    heads = tmp_path / "alex.pth"
    heads.write_bytes(b"other")
    with pytest.raises(
        TrunkError, match="not the file that LPIPS was published with .* not df73285e35b22355...\\): get it"
    ):
        perceptual.check_digest(heads, perceptual.HEADS["alex"], "get it")
    assert perceptual.check_digest(heads, "", "") == hashlib.sha256(b"other").hexdigest()[:16]


def test_a_random_trunk_follows_its_seed_and_leaves_the_global_state_alone(picture: np.ndarray):
    other, state = noisy(picture), torch.get_rng_state()
    values = [build_perceptual("alex", random_seed=seed).distance(picture, other) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("net", list(HEADS))
def test_the_smallest_side_goes_through_every_net(net: str, built: dict[str, Perceptual], picture: np.ndarray):
    small = picture[:32, :40]
    assert built[net].distance(small, noisy(small)) > 0
    assert built[net].distance(small, noisy(small), keep=np.ones((32, 40), dtype=bool)) > 0


def test_errors_say_what_holds(built: dict[str, Perceptual], picture: np.ndarray):
    ours = built["squeeze"]
    with pytest.raises(ValueError, match='net is "resnet"; LPIPS has squeeze, alex, vgg'):
        build_perceptual("resnet")
    with pytest.raises(ValueError, match="`trunk` and `random_seed` exclude each other"):
        build_perceptual("alex", trunk=Path("trunk.pth"), random_seed=0)
    with pytest.raises(ValueError, match="the pictures have 31 x 64 px; LPIPS needs 32 each way"):
        ours.distance(picture[:, :31], picture[:, :31])
    with pytest.raises(ValueError, match=r"shapes \(64, 64, 3\) and \(63, 64, 3\): bring them to one size"):
        ours.distance(picture, picture[1:])
    with pytest.raises(masks.FullMaskError, match="no pixel is left to compare"):
        ours.distance(picture, picture, keep=half() & False)
    with pytest.raises(TypeError, match="keep has dtype float64; it is bool"):
        ours.distance(picture, picture, keep=half().astype(float))
    with pytest.raises(ValueError, match=r"keep has shape \(32, 32\), the pictures \(64, 64, 3\)"):
        ours.distance(picture, picture, keep=half(32))
    with pytest.raises(ValueError, match="picture holds floats from -1 to"):
        ours.distance(picture / 127.5 - 1, picture / 127.5 - 1)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(
        ValueError, match=r"needs the package lpips, which is not installed: pip install 'insightedit\[eval\]'"
    ):
        build_perceptual("alex", random_seed=0)


@pytest.mark.gpu
def test_a_gpu_gives_the_cpus_values(built: dict[str, Perceptual], picture: np.ndarray):
    """Within 1e-5, as no TF32 is used."""
    other = noisy(picture)
    for net in ("squeeze", "alex", "vgg"):
        on_gpu = build_perceptual(net, random_seed=0, device="cuda").distance(picture, other)
        assert on_gpu == pytest.approx(built[net].distance(picture, other), abs=1e-5)
