"""Models go to a hub and come back. The commands run in processes of their own: the client reads HF_ENDPOINT on import.

The hub is `tests.hub_server` on this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from insightedit.export.push import _explain, address_card, check_target, push_folder
from tests.hub_server import TOKEN, Hub, Repository

ROOT = Path(__file__).parents[2]
REPO = "tester/tiny-editor"
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        yield server


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """A client that knows this hub and its token, talks as much as it can, and keeps its files here."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    return kept | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_DEBUG": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path) -> Cli:
    """`command("push", ...)`: the command line in a process of its own; the token is never in what it says."""

    def run(*words: object, module: str = "insightedit", **more: str | None) -> subprocess.CompletedProcess[str]:
        changed = {k: v for k, v in {**environment, **more}.items() if v is not None}
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=tmp_path,
            env=changed,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert TOKEN not in done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """What looks like a model folder to the hub, in a few bytes."""
    model = tmp_path / "small"
    (model / "unet").mkdir(parents=True)
    (model / "model_index.json").write_text('{"unet": []}')
    (model / "README.md").write_text(
        '---\nlicense: mit\n---\n`from_pretrained("small")` and `--model small -o out.png`\n'
    )
    (model / "export.json").write_text(json.dumps({"name": "small", "recipe": "insightedit"}))
    for number in range(4):
        (model / "unet" / f"model-{number}.safetensors").write_bytes(bytes([number]) * 1000)
    return model


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("insightedit: ")]
    assert len(said) == 1, done.stderr
    assert str(ROOT / "insightedit") not in done.stderr, "a traceback of ours"
    for part in parts:
        assert part in said[0], said[0]


def test_export_push_reload_gives_the_same_pixels(command, hub, tiny_runs, tmp_path):
    """One command writes and uploads; who has nothing but the id draws the same picture."""
    words = ("export", tiny_runs / "stage3", "-o", "model", "--scenes", 1, "--push-to", REPO, "--private")
    done = command(*words)
    assert done.returncode == 0, done.stderr
    assert f"{hub.endpoint}/{REPO}" in done.stdout
    held = hub.repositories[REPO]
    assert held.private
    files = (path for path in (tmp_path / "model").rglob("*") if path.is_file())
    local = {path.relative_to(tmp_path / "model").as_posix() for path in files}
    assert set(held.files) - {".gitattributes"} == local
    assert f'from_pretrained("{REPO}")' in held.files["README.md"][0].decode()
    assert f"--model {REPO} " in held.files["README.md"][0].decode()
    assert np.array_equal(*drawn_here_and_from_the_hub(command, tmp_path / "model", tmp_path))
    assert hub.count("GET", rf"/{REPO}/resolve/.*unet.*safetensors") == 1


def test_an_adapter_comes_back_from_the_hub_too(command, hub, tiny_runs, tmp_path):
    from insightedit.export.folder import export_run

    folder = export_run(tiny_runs / "stage3", tmp_path / "model", merge_lora=False, dtype="fp32")
    done = command("push", folder, REPO)
    assert done.returncode == 0, done.stderr
    assert "mllm/adapter_model.safetensors" in hub.repositories[REPO].files
    assert "mllm/model.safetensors" not in hub.repositories[REPO].files
    assert np.array_equal(*drawn_here_and_from_the_hub(command, folder, tmp_path))


def test_a_model_on_the_hub_is_trained_on(command, hub, tiny_runs, tmp_path):
    """`--init-from OWNER/NAME` fetches the model once; what comes of it says what it stands on."""
    done = command("export", tiny_runs / "stage3", "-o", "model", "--scenes", 0, "--push-to", REPO)
    assert done.returncode == 0, done.stderr
    words = ("--overlay", "tiny", "--init-from", REPO, "output_dir=mine", "train.max_steps=2", "train.num_samples=0")
    done = command(*words, module="insightedit.stage3")
    assert done.returncode == 0, done.stderr
    assert hub.count("GET", rf"/{REPO}/resolve/.*unet.*safetensors") == 1
    done = command("export", "mine", "-o", "again", "--scenes", 0)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "again" / "export.json").read_text())
    assert facts["base_models"] == [REPO]
    assert facts["bases"][0]["model"] == REPO
    assert facts["license"] == "apache-2.0"
    nowhere = command("--overlay", "tiny", "--init-from", "tester/nothing", module="insightedit.stage3")
    assert nowhere.returncode == 2
    assert "insightedit: --init-from tester/nothing: there is no such folder here, and the hub gave no model" in (
        nowhere.stderr
    )
    assert "shows no model tester/nothing: check the name; for a private one log in with" in nowhere.stderr


def drawn_here_and_from_the_hub(command: Cli, folder: Path, tmp_path: Path) -> list[np.ndarray]:
    """The same edit by the folder, in this process, and by the hub's id, in one that has never seen the folder."""
    from insightedit.pipelines.loading import load_pipeline

    noise = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    edit = ("edit", "photo.png", "make the dog red", "--model", REPO, "-o", "hub.png", "--seed", 5)
    done = command(*edit, "--no-background-lock", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    here = load_pipeline(folder, "cpu")(noise, "make the dog red", seed=5, background_lock=False).images[0]
    assert not np.array_equal(np.asarray(here), noise)
    return [np.asarray(here), np.asarray(Image.open(tmp_path / "hub.png"))]


class TestInterrupted:
    def test_a_killed_upload_goes_on(self, command, hub, environment, small, tmp_path):
        """Killed in the middle of its large files: those that arrived are not sent a second time."""
        hub.hold_after = 2
        process = subprocess.Popen(
            [sys.executable, "-m", "insightedit", "push", str(small), REPO],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert hub.holding.wait(60)
        process.kill()
        process.wait()
        assert sum(hub.puts.values()) == 2
        assert set(hub.repositories[REPO].files) == {".gitattributes"}, "half a model is on the hub"
        arrived = set(hub.puts)
        hub.hold_after = None
        hub.released.set()
        done = command("push", small, REPO)
        assert done.returncode == 0, done.stderr
        assert len(hub.puts) == 4
        assert set(hub.puts.values()) == {1}, "a file was sent twice"
        assert arrived < set(hub.puts)
        assert len(hub.repositories[REPO].files) == 4 + 4

    def test_once_more_sends_nothing(self, command, hub, small):
        assert command("push", small, REPO).returncode == 0
        commits = len(hub.repositories[REPO].commits)
        done = command("push", small, REPO)
        assert done.returncode == 0
        assert "7 files, 7 of them were there already" in done.stdout
        assert set(hub.puts.values()) == {1}
        assert len(hub.repositories[REPO].commits) == commits

    def test_a_refused_file_says_how_to_go_on(self, command, hub, small):
        hub.failing["/lfs/"] = 507
        refused(command("push", small, REPO), "failed (status 507)", f"`insightedit push {small} {REPO}` goes on")


class TestRefusals:
    def test_no_token(self, command, hub, small):
        refused(command("push", small, REPO, HF_TOKEN=None), "No hub token found", "hf auth login")
        assert not hub.requests

    def test_no_token_is_said_before_the_export(self, command, tiny_runs, tmp_path):
        words = ("export", tiny_runs / "stage3", "-o", "model", "--push-to", REPO)
        refused(command(*words, HF_TOKEN=None), "No hub token found")
        assert not (tmp_path / "model").exists()

    def test_wrong_token(self, command, hub, small):
        wrong = "hf_WrongTokenThatIsAlsoSecret"
        done = command("push", small, REPO, HF_TOKEN=wrong)
        refused(done, "does not accept the token", hub.endpoint)
        assert wrong not in done.stdout + done.stderr

    def test_no_permission(self, command, hub, small):
        hub.readers.add("somebody")
        done = command("push", small, "somebody/model")
        refused(done, "The token may not write to somebody/model", "write access to somebody")
        assert "somebody/model" not in hub.repositories

    def test_no_permission_on_the_fast_way(self, command, hub, small):
        """The client's other protocol asks for a storage token first, in a library that is not Python."""
        hub.repositories[REPO] = Repository(commits=["0" * 40])
        hub.readers.add("tester")
        done = command("push", small, REPO, HF_HUB_DISABLE_XET=None)
        refused(done, f"The token may not write to {REPO}")

    def test_another_model_is_there(self, command, hub, small):
        assert command("push", small, REPO).returncode == 0
        before = dict(hub.repositories[REPO].files)
        (small / "unet" / "model-0.safetensors").rename(small / "unet" / "model-other.safetensors")
        (small / "unet" / "model-1.safetensors").write_bytes(b"x" * 1000)
        done = command("push", small, REPO)
        refused(done, f"{REPO} exists and holds another model (2 of its weight files differ", "--replace")
        assert hub.repositories[REPO].files == before
        theirs = {"data/train.json": (b"{}", False), "notes.txt": (b"mine", False), "unet/notes.md": (b"", False)}
        hub.repositories[REPO].files |= theirs
        done = command("push", small, REPO, "--replace")
        assert done.returncode == 0, done.stderr
        now = hub.repositories[REPO].files
        assert now["unet/model-1.safetensors"][0] == b"x" * 1000
        assert "unet/model-0.safetensors" not in now and theirs.items() <= now.items()
        assert "unet/model-other.safetensors" in now
        assert ".gitattributes" in now

    def test_a_new_card_needs_no_permission(self, command, hub, small):
        assert command("push", small, REPO).returncode == 0
        (small / "README.md").write_text("---\nlicense: mit\n---\nbetter words\n")
        assert command("push", small, REPO).returncode == 0
        assert b"better words" in hub.repositories[REPO].files["README.md"][0]

    def test_other_files_are_there(self, command, hub, small):
        files = {"thesis.txt": (b"years of work", False)}
        hub.repositories[REPO] = Repository(files=files, commits=["0" * 40])
        done = command("push", small, REPO, "--replace")
        refused(done, "exists and holds other files (1, e.g. thesis.txt) but no model")
        assert set(hub.repositories[REPO].files) == {"thesis.txt"}

    def test_public_where_private_was_asked_for(self, command, hub, small):
        hub.repositories[REPO] = Repository(commits=["0" * 40])
        refused(command("push", small, REPO, "--private"), f"{REPO} exists and is public")

    def test_network_down(self, command, small):
        done = command("push", small, REPO, HF_ENDPOINT="http://user:secret@127.0.0.1:9")
        refused(done, "The hub at http://127.0.0.1:9 cannot be reached", "check the network and HF_ENDPOINT")
        assert "secret" not in done.stderr.splitlines()[-1]

    def test_hub_down(self, command, hub, small):
        hub.failing["/api/whoami"] = 503
        refused(command("push", small, REPO), "failed (status 503)", "Try again later")

    def test_offline(self, command, small):
        refused(command("push", small, REPO, HF_HUB_OFFLINE="1"), "unset HF_HUB_OFFLINE to push")

    @pytest.mark.parametrize("repo", ["no-owner", "a/b/c", "https://some.where/a/b", "/a"])
    def test_no_hub_id(self, repo):
        with pytest.raises(ValueError, match="is no hub id: write owner/name"):
            check_target(repo)

    def test_no_model_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"holds no model_index\.json, so it is no model folder"):
            push_folder(tmp_path, REPO)

    def test_options_without_a_target(self, command, tiny_runs):
        done = command("export", tiny_runs / "stage3", "-o", "model", "--private")
        refused(done, "--private and --replace are for uploading")


def test_a_model_that_is_not_there_is_named(command, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    refused(command("edit", "photo.png", "make it red", "--model", "nobody/nothing"), "nobody/nothing")


def test_a_broken_repository_changed_meanwhile_is_said(monkeypatch):
    class Conflict(Exception):
        response = type("Response", (), {"status_code": 409})

    assert "changed while it was written to" in _explain(Conflict(), REPO, None)


def test_messages_never_hold_a_token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret-of-another-kind")
    said = _explain(RuntimeError("bad header secret-of-another-kind and hf_abcdefghijkl"), REPO, None)
    assert "secret-of-another-kind" not in said
    assert "hf_abc" not in said
    assert "***" in said


def test_the_card_names_the_repository(small):
    address_card(small, REPO)
    text = (small / "README.md").read_text()
    assert f'from_pretrained("{REPO}")' in text
    assert f"--model {REPO} -o" in text
    assert json.loads((small / "export.json").read_text())["name"] == REPO
    address_card(small, REPO)
    assert (small / "README.md").read_text() == text


class TestWhatIsSent:
    """An allow list: the files of an export and a licence."""

    def test_nothing_else_leaves_this_machine(self, small):
        from insightedit.export.push import _files

        ours = _files(small)
        (small / "LICENSE").write_text("free")
        for name in (
            ".env",
            "token.txt",
            "unet/.env",
            "unet/token.txt",
            "unet/notes.json",
            "keys/config.json",
            "id_rsa",
        ):
            (small / name).parent.mkdir(exist_ok=True)
            (small / name).write_text("hf_secret")
        assert _files(small) == ours | {"LICENSE"}

    @pytest.mark.parametrize("name", ["unet/config.json", "README.md", "unet/model-9.safetensors"])
    def test_a_link_is_not_followed(self, small, tmp_path, name):
        from insightedit.export.push import _files

        (tmp_path / "private").write_text("secret")
        (small / name).unlink(missing_ok=True)
        (small / name).symlink_to(tmp_path / "private")
        with pytest.raises(ValueError, match="is a symbolic link, and what it leads to is not uploaded"):
            _files(small)

    def test_a_linked_part_is_not_followed(self, small, tmp_path):
        from insightedit.export.push import _files

        (small / "unet").rename(tmp_path / "elsewhere")
        (small / "unet").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match="unet is a symbolic link"):
            _files(small)
