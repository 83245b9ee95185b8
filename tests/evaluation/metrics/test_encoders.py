"""CLIP in two libraries, DINO in two; weights from the disk, and what is said where they are not."""

from __future__ import annotations

import pickle
import re
import shutil
import sys
import zipfile

import open_clip
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from insightedit.evaluation.metrics import encoders
from insightedit.evaluation.metrics.encoders import (
    ClipEncoder,
    DinoEncoder,
    ImageEncoder,
    ImageTextEncoder,
    OpenClipEncoder,
    load_clip,
    load_dino,
    load_open_clip,
)
from insightedit.evaluation.metrics.preprocess import METHODS, clip_preprocess, dino_preprocess
from insightedit.evaluation.metrics.pretrained import load_model, read
from insightedit.modeling.pretrained import weights_digest
from tests.evaluation.metrics.toy_encoders import (
    FEATURES,
    HEADS,
    LAYERS,
    PATCH,
    SIDE,
    TINY,
    WIDTH,
    ProjectionEncoder,
    byte_tokenizer,
    open_clip_weights,
    photos,
    register_open_clip,
    save_clip,
    save_dino,
    tiny_clip,
    tiny_dino,
    tokenizer,
)

TEXTS = ["a dog in the jungle", "Add  a RED hat!", "1,024 cats' ears", "long " * 100]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`clip/` and `dino/` of transformers; `weights.pt`, `weights.safetensors` and `archive.pt` of open_clip."""
    root = tmp_path_factory.mktemp("encoders")
    save_clip(root / "clip")
    save_dino(root / "dino")
    register_open_clip(root)
    weights = open_clip_weights(tiny_clip())
    torch.save(weights, root / "weights.pt")
    safetensors.torch.save_file(weights, root / "weights.safetensors")
    save_archive(weights, root / "archive.pt")
    return root


def save_archive(weights, path):
    """A TorchScript archive in half precision with three numbers beside the weights, as OpenAI publishes CLIP."""

    class Holder(nn.Module):
        def forward(self):
            return 0

    numbers = {"input_resolution": SIDE, "context_length": 77, "vocab_size": 49408}
    root = Holder()
    for name, tensor in {**weights, **{k: torch.tensor(v) for k, v in numbers.items()}}.items():
        *parts, last = name.split(".")
        module = root
        for part in parts:
            if part not in dict(module.named_children()):
                module.add_module(part, Holder())
            module = module.get_submodule(part)
        module.register_buffer(last, tensor.half() if tensor.is_floating_point() else tensor)
    with pytest.warns(FutureWarning):  # torch keeps TorchScript for old files only
        torch.jit.script(root).save(str(path))


@pytest.fixture(scope="module")
def opened(folder):
    return load_open_clip(TINY, pretrained="mine", checkpoint=folder / "weights.safetensors")


@pytest.fixture(scope="module")
def dino(folder):
    return load_dino(folder / "dino")


def clip_encoder(method="openai", words=tokenizer):
    return ClipEncoder(tiny_clip(), words(), name="tiny", preprocess=clip_preprocess(method, size=SIDE))


def test_open_clip_and_transformers_agree(opened):
    ours, theirs = clip_encoder(), opened
    pictures = photos(5)
    for first, second in (
        (ours.image_features(pictures), theirs.image_features(pictures)),
        (ours.text_features(TEXTS), theirs.text_features(TEXTS)),
    ):
        assert first.dtype == second.dtype == torch.float32
        assert first.shape[1] == FEATURES
        assert torch.pdist(first).min() > 0.01, "the features do not tell their inputs apart"
        torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


def test_the_feature_is_projected_and_padding_is_not_seen():
    """Against the model's own forward, which normalises; each text alone, without filling up."""
    encoder, pictures = clip_encoder(), photos(2)
    for text, picture in zip(TEXTS, pictures, strict=False):
        ids = tokenizer()(text, return_tensors="pt").input_ids
        with torch.no_grad():
            output = tiny_clip()(input_ids=ids, pixel_values=encoder.preprocess(picture)[None])
        for feature, wanted in (
            (encoder.text_features([text]), output.text_embeds),
            (encoder.image_features([picture]), output.image_embeds),
        ):
            torch.testing.assert_close(nn.functional.normalize(feature), wanted, rtol=0, atol=1e-5)


def test_typographic_quotes_are_plain_to_open_clip_only(opened):
    ours, theirs = clip_encoder(), opened
    curly, plain = ["the dog\N{RIGHT SINGLE QUOTATION MARK}s hat"], ["the dog's hat"]
    assert torch.equal(theirs.text_features(curly), theirs.text_features(plain))
    assert not torch.allclose(ours.text_features(curly), ours.text_features(plain), atol=0.01)


def test_a_batch_is_its_single_pictures_of_whatever_size(opened, dino):
    pictures = [*photos(2), *photos(1, 70, 33)]
    for encoder in (clip_encoder(), opened, dino):
        singles = torch.cat([encoder.image_features([picture]) for picture in pictures])
        torch.testing.assert_close(encoder.image_features(pictures), singles, rtol=0, atol=1e-5)


def timm_weights(model):
    """The state dict of a ViT of transformers, in the words of timm and of DINO's own code."""
    ours = model.state_dict()
    theirs = {"cls_token": ours["embeddings.cls_token"], "pos_embed": ours["embeddings.position_embeddings"]}
    for end in ("weight", "bias"):
        theirs[f"patch_embed.proj.{end}"] = ours[f"embeddings.patch_embeddings.projection.{end}"]
        theirs[f"norm.{end}"] = ours[f"layernorm.{end}"]
        for i in range(LAYERS):
            layer, block = f"layers.{i}", f"blocks.{i}"
            parts = [ours[f"{layer}.attention.{part}_proj.{end}"] for part in "qkv"]
            theirs[f"{block}.attn.qkv.{end}"] = torch.cat(parts)
            theirs[f"{block}.attn.proj.{end}"] = ours[f"{layer}.attention.o_proj.{end}"]
            theirs[f"{block}.norm1.{end}"] = ours[f"{layer}.layernorm_before.{end}"]
            theirs[f"{block}.norm2.{end}"] = ours[f"{layer}.layernorm_after.{end}"]
            theirs[f"{block}.mlp.fc1.{end}"] = ours[f"{layer}.mlp.fc1.{end}"]
            theirs[f"{block}.mlp.fc2.{end}"] = ours[f"{layer}.mlp.fc2.{end}"]
    return theirs


def test_dino_is_the_class_token_behind_the_norm(dino):
    """As timm computes it, which is what `torch.hub`'s DINO does; not the pooler of transformers."""
    reference = timm.models.vision_transformer.VisionTransformer(
        img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS, num_classes=0
    ).eval()
    reference.load_state_dict(timm_weights(tiny_dino()))
    pictures = photos(3)
    pixels = torch.stack([dino_preprocess(size=SIDE)(picture) for picture in pictures])
    with torch.no_grad():
        wanted, pooled = reference(pixels), tiny_dino()(pixels).pooler_output
    features = dino.image_features(pictures)
    torch.testing.assert_close(features, wanted, rtol=0, atol=1e-4)
    assert not torch.allclose(features, pooled, atol=0.1)


def test_dino_is_read_as_it_was_published(dino, folder, tmp_path):
    """`facebook/dino-vits16` has no pooler, the names of transformers 4, and is a pickle of tensors."""
    published = {}
    for name, tensor in tiny_dino().state_dict().items():
        name = re.sub(r"^layers\.(\d+)\.", r"encoder.layer.\1.", name)
        for ours, theirs in (
            ("attention.q_proj", "attention.attention.query"),
            ("attention.k_proj", "attention.attention.key"),
            ("attention.v_proj", "attention.attention.value"),
            ("attention.o_proj", "attention.output.dense"),
            ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
        ):
            name = name.replace(ours, theirs)
        if not name.startswith("pooler"):
            published[name] = tensor
    shutil.copy(folder / "dino" / "config.json", tmp_path)
    torch.save(published, tmp_path / "pytorch_model.bin")
    encoder = load_dino(tmp_path)
    assert encoder.revision == dino.revision
    torch.testing.assert_close(encoder.image_features(photos(2)), dino.image_features(photos(2)))


def test_encoders_have_what_the_protocols_ask(folder, opened, dino):
    clip = load_clip(folder / "clip")
    for encoder in (clip, opened, ProjectionEncoder()):
        assert isinstance(encoder, ImageTextEncoder)
    assert isinstance(dino, ImageEncoder)
    assert not isinstance(dino, ImageTextEncoder)
    assert (clip.name, dino.name) == (str(folder / "clip"), str(folder / "dino"))
    assert opened.name == f"open_clip:{TINY}/mine"
    assert isinstance(opened, OpenClipEncoder)
    assert isinstance(dino, DinoEncoder)


def test_the_revision_tells_weights_apart_and_nothing_else(folder, opened):
    pickled = load_open_clip(TINY, pretrained="mine", checkpoint=folder / "weights.pt")
    assert pickled.revision == opened.revision
    assert load_clip(folder / "clip").revision == clip_encoder().revision
    layer = nn.Linear(2, 2)
    before = weights_digest(layer)
    assert len(before) == 16
    assert before == weights_digest(nn.ModuleDict({"elsewhere": layer}))
    with torch.no_grad():
        layer.weight[0, 0] += 1e-6
    assert weights_digest(layer) != before


def test_the_preprocess_is_the_one_asked_for(folder):
    picture = photos(1, 90, 131)[0]
    features = {}
    for method in ("openai", "instructpix2pix"):
        encoder = load_clip(folder / "clip", preprocess=method)
        assert (encoder.preprocess.method, encoder.preprocess.size) == (method, SIDE)
        torch.testing.assert_close(encoder.image_features([picture]), clip_encoder(method).image_features([picture]))
        features[method] = encoder.image_features([picture])
    assert not torch.allclose(features["openai"], features["instructpix2pix"], atol=1e-3)
    with pytest.raises(ValueError, match="the preprocess 'pil' is unknown"):
        load_clip(folder / "clip", preprocess="pil")


def test_openais_own_archive_can_be_read(folder, opened):
    archive = load_open_clip(TINY, checkpoint=folder / "archive.pt")
    assert next(archive.model.parameters()).dtype == torch.float32
    pictures = photos(3)
    torch.testing.assert_close(archive.image_features(pictures), opened.image_features(pictures), rtol=0, atol=0.01)


def test_open_clip_is_found_where_it_keeps_its_weights(folder, hub_cache, tmp_path, monkeypatch):
    settings = {
        "hf_hub": "someone/tiny/",
        "url": "https://x.example/tiny.pt",
        "quick_gelu": True,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, TINY, {"openai": settings})
    monkeypatch.setenv("HOME", str(tmp_path))
    wanted = load_open_clip(TINY, pretrained="openai", checkpoint=folder / "weights.pt")
    assert (wanted.preprocess.mean, wanted.preprocess.std) == (settings["mean"], settings["std"])
    with pytest.raises(FileNotFoundError, match="The weights 'openai' of tiny-quickgelu are not on this disk"):
        load_open_clip(TINY)
    archive = tmp_path / ".cache" / "clip" / "tiny.pt"
    archive.parent.mkdir(parents=True)
    shutil.copy(folder / "weights.pt", archive)
    assert load_open_clip(TINY).revision == wanted.revision
    archive.unlink()
    in_hub_cache(tmp_path, "someone/tiny", folder / "weights.safetensors", "open_clip_model.safetensors")
    assert load_open_clip(TINY).revision == wanted.revision


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def in_hub_cache(cache, repository, source, name=""):
    """Put a file or a folder where the hub's client would put it."""
    base = cache / f"models--{repository.replace('/', '--')}"
    snapshot = base / "snapshots" / ("0" * 40)
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("0" * 40)
    if source.is_dir():
        shutil.copytree(source, snapshot)
    else:
        snapshot.mkdir(parents=True)
        shutil.copy(source, snapshot / name)


def test_open_clip_is_taken_where_a_publication_used_openais_code(folder, hub_cache, tmp_path, monkeypatch):
    """And its weights are there; a file is always for open_clip, a folder for transformers."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(encoders.OPEN_CLIP_MODELS, "someone/clip", TINY)
    settings = {"hf_hub": "someone/tiny/", "url": "https://x.example/tiny.pt", "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, TINY, {"openai": settings})
    in_hub_cache(tmp_path, "someone/clip", folder / "clip")
    kinds = [type(load_clip("someone/clip", preprocess=name)) for name in METHODS]
    assert kinds == [ClipEncoder] * 4
    in_hub_cache(tmp_path, "someone/tiny", folder / "weights.safetensors", "open_clip_model.safetensors")
    found = {name: load_clip("someone/clip", preprocess=name) for name in METHODS}
    assert {name for name, one in found.items() if isinstance(one, OpenClipEncoder)} == {"openai", "instructpix2pix"}
    assert all(one.preprocess.method == name for name, one in found.items())
    pictures = photos(2)
    torch.testing.assert_close(
        found["openai"].image_features(pictures), clip_encoder().image_features(pictures), rtol=0, atol=1e-5
    )
    assert isinstance(load_clip("someone/clip", weights=folder / "weights.pt"), OpenClipEncoder)
    assert isinstance(load_clip("someone/clip", weights=folder / "clip"), ClipEncoder)
    with pytest.raises(ValueError, match="weights.pt is a file, and other/clip has no name in open_clip: name a"):
        load_clip("other/clip", weights=folder / "weights.pt")


def test_a_hub_id_is_read_from_the_cache(folder, hub_cache):
    in_hub_cache(hub_cache, "someone/clip", folder / "clip")
    encoder, wanted = load_clip("someone/clip"), clip_encoder(words=byte_tokenizer)
    assert (encoder.name, encoder.revision) == ("someone/clip", wanted.revision)
    torch.testing.assert_close(encoder.text_features(TEXTS), wanted.text_features(TEXTS))


def test_absent_weights_are_told_with_the_way_to_get_them(hub_cache):
    for load, name in ((load_clip, "openai/clip-vit-large-patch14"), (load_dino, "facebook/dino-vits16")):
        with pytest.raises(FileNotFoundError, match=f"{name} is neither .* `hf download {name}` fetches it"):
            load(name)
    with pytest.raises(FileNotFoundError, match="No folder at missing/folder/x: name a model folder"):
        load_clip("missing/folder/x")
    for name in ("ViT-B-32-quickgelu", "ViT-L-14-quickgelu"):
        with pytest.raises(FileNotFoundError, match=f"open_clip.create_model\\('{name}', 'openai'\\)\"` fetches"):
            load_open_clip(name)


def test_a_damaged_folder_is_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="not a complete model folder .no config.json.: download"):
        load_clip(tmp_path)
    with pytest.raises(ValueError, match="holds a model of type 'vit', not 'clip': name another one"):
        load_clip(folder / "dino")
    shutil.copytree(folder / "clip", tmp_path / "clip")
    (tmp_path / "clip" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="clip holds no tokenizer: download it again, with tokenizer.json"):
        load_clip(tmp_path / "clip")
    (tmp_path / "clip" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="clip is not a complete model folder .*: download it again"):
        load_clip(tmp_path / "clip")


def test_weights_that_would_be_random_are_refused(folder, tmp_path):
    shutil.copytree(folder / "dino", tmp_path / "dino")
    path = tmp_path / "dino" / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    norm = next(name for name in weights if name.endswith("layernorm.weight"))
    safetensors.torch.save_file({k: v for k, v in weights.items() if k != norm}, path, {"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights of a ViTModel, e.g. layernorm.weight, which would be"):
        load_dino(tmp_path / "dino")
    safetensors.torch.save_file({**weights, norm: torch.zeros(7)}, path, {"format": "pt"})
    with pytest.raises(ValueError, match="dino does not fit a ViTModel .*: download it again"):
        load_dino(tmp_path / "dino")


def test_what_open_clip_does_not_know_is_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="open_clip knows no model 'ViT-B-33'"):
        load_open_clip("ViT-B-33")
    with pytest.raises(ValueError, match="no weights 'laion' of ViT-L-14-quickgelu .it knows: .*openai.*: name"):
        load_open_clip("ViT-L-14-quickgelu", pretrained="laion")
    with pytest.raises(ValueError, match="differ in their activation, .*: name ViT-B-32-quickgelu"):
        load_open_clip("ViT-B-32")
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED["ViT-B-32-quickgelu"], "tiny", {"quick_gelu": False})
    with pytest.raises(ValueError, match="differ in their activation, .*: name ViT-B-32\\."):
        load_open_clip("ViT-B-32-quickgelu", pretrained="tiny")
    with pytest.raises(FileNotFoundError, match="checkpoint names one file with CLIP's weights"):
        load_open_clip(TINY, checkpoint=tmp_path)
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights, but more than eight bytes")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    for name in ("text.pt", "text.safetensors", "other.pt"):
        with pytest.raises(ValueError, match=f"{name} does not hold the weights of tiny-quickgelu .*: name the"):
            load_open_clip(TINY, checkpoint=tmp_path / name)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(RuntimeError, match="needs open_clip, which is not installed: pip install open_clip_torch"):
        load_open_clip()


def test_a_pickle_that_runs_code_does_not(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"weights": Evil()}, tmp_path / "evil.pt")
    register_open_clip(tmp_path)
    with pytest.raises(ValueError, match="evil.pt does not hold the weights"):
        load_open_clip(TINY, checkpoint=tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["archive/constants.pkl", "archive/more/constants.pkl", "constants.pkl"])
@pytest.mark.parametrize("first", [b"", b"pickle"])
def test_a_pickle_that_calls_itself_torchscript_does_not_run_either(tmp_path, place, first):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    evil = tmp_path / "evil.pt"
    torch.save({"weights": Evil()}, evil)
    with zipfile.ZipFile(evil, "a") as archive:
        archive.writestr(place, pickle.dumps(Evil()))
    if first:  # a file that is both: the old format at its beginning, an archive at its end
        evil.write_bytes(pickle.dumps(Evil(), protocol=2) + evil.read_bytes())
    register_open_clip(tmp_path)
    with pytest.raises(ValueError, match="evil.pt does not hold the weights"):
        load_open_clip(TINY, checkpoint=evil)
    assert not (tmp_path / "ran").exists()


def test_an_archive_with_code_that_runs_while_it_is_read(folder, tmp_path):
    shutil.copy(folder / "archive.pt", tmp_path / "code.pt")
    with zipfile.ZipFile(tmp_path / "code.pt", "a") as archive:
        archive.writestr("archive/code/__torch__/evil.py", "def __setstate__(self, state):\n  pass\n")
    with pytest.raises(ValueError, match="brings code that would run while it is read"):
        load_open_clip(TINY, checkpoint=tmp_path / "code.pt")


def test_models_and_tokenizers_can_be_read_alone(folder):
    from transformers import CLIPTokenizer, ViTModel

    model = load_model(ViTModel, folder / "dino")
    assert not model.training
    assert model.dtype == torch.float32
    words = read(CLIPTokenizer.from_pretrained, folder / "clip", local_files_only=True)
    assert words("a dog").input_ids == byte_tokenizer()("a dog").input_ids
    assert len(words) == 514
