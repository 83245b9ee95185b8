"""Whatever goes wrong ends in one sentence, and a stop says what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import typer
from safetensors import SafetensorError

from insightedit.console import one_sentence_errors
from insightedit.files import write_text

ROOT = Path(__file__).parents[2]


def deep() -> None:
    deep()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("a\n  b"), "insightedit: a b"),
        (OSError(28, "No space left on device"), "the disk is full"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (MemoryError(), "more memory than there is"),
        (torch.OutOfMemoryError("CUDA out of memory."), "more memory than there is"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "more memory than there is"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (ModuleNotFoundError("no", name="pyarrow.lib"), "pip install 'insightedit[data]'"),
        (FileExistsError(17, "File exists", "out"), "insightedit: out is there already: name another place."),
        (OSError(36, "File name too long", "n" * 300), "nnn is too long a name: shorten it."),
        (OSError(5, "Input/output error", "a.png"), "a.png: Input/output error; check the path and the disk."),
        (ModuleNotFoundError("no", name="spacy"), "pip install 'spacy'"),
        (KeyError("recipe"), "fault of insightedit"),
        (AttributeError("x"), "fault of insightedit"),
        (RuntimeError(""), "RuntimeError"),
        (NotImplementedError("x"), "fault of insightedit"),
        (SafetensorError("header too large"), "SafetensorError: header too large"),
        (AssertionError(), "INSIGHTEDIT_TRACEBACK=1"),
        (ExceptionGroup("several", [ValueError("a")]), "several"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "codec"),
        (FileNotFoundError(f"no {os.fsdecode(bytes([255]))}.png"), "no \\udcff.png"),
    ],
)
def test_every_error_is_one_sentence(error, told, capsys):
    with pytest.raises(SystemExit) as ended, one_sentence_errors():
        raise error
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("insightedit: ") and told in lines[0]


def test_a_recursion(capsys):
    with pytest.raises(SystemExit), one_sentence_errors():
        deep()
    assert "nested too deeply" in capsys.readouterr().err


@pytest.mark.parametrize("passed", [typer.Exit(1), typer.Abort(), typer.BadParameter("x"), SystemExit(5)])
def test_what_the_command_line_itself_raises_passes(passed):
    with pytest.raises(type(passed)), one_sentence_errors():
        raise passed


def test_the_traceback_on_demand(capsys, monkeypatch):
    monkeypatch.setenv("INSIGHTEDIT_TRACEBACK", "1")
    with pytest.raises(SystemExit), one_sentence_errors():
        raise KeyError("x")
    told = capsys.readouterr().err
    assert "Traceback" in told and told.splitlines()[-1].startswith("insightedit: ")


def test_one_of_several_processes_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit, match="2"), one_sentence_errors():
        raise ValueError("a")
    assert capsys.readouterr().err == ""


def test_a_stop_tells_what_was_written(tmp_path, capsys):
    for number, told in enumerate(["nothing was written.", "1 file was written before that", "2 files were"]):
        with pytest.raises(SystemExit) as ended, one_sentence_errors():
            for name in "ab"[:number]:
                write_text(tmp_path / name, "")
            raise KeyboardInterrupt
        assert ended.value.code == 130
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit), one_sentence_errors():
        write_text(tmp_path / "aside", "")
        (tmp_path / "aside").unlink()  # as what lay in a temporary folder
        raise KeyboardInterrupt
    assert "nothing was written" in capsys.readouterr().err
    with pytest.raises(SystemExit), one_sentence_errors("the same command goes on."):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "insightedit: stopped; the same command goes on.\n"


STOPPED = """
import sys, time
from insightedit.console import one_sentence_errors
from insightedit.files import write_atomically
with one_sentence_errors(), write_atomically(sys.argv[1]) as aside:
    sys.stdout.write("begin\\n"); sys.stdout.flush()
    time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_nothing_temporary(tmp_path, number, code):
    command = [sys.executable, "-c", STOPPED, str(tmp_path / "a")]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a suite in the background of a shell inherits that SIGINT is ignored, and hands that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (code, "insightedit: stopped; nothing was written.\n")
    assert not list(tmp_path.iterdir())


def test_a_closed_pipe_is_silent():
    code = (
        "import sys\nfrom insightedit.console import one_sentence_errors\n"
        "with one_sentence_errors():\n    while True: sys.stdout.write('x' * 9999)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(30) == 141
    process.stderr.close()
