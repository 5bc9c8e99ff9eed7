"""What several tests share: a scratch data folder, and the real samples where they are at hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from closing_table import (  # noqa: F401 (pytest finds hooks and fixtures by their names here)
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_pyfunc_call,
    pytest_terminal_summary,
    tally,
)

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("TEXT_RECOGNIZER_OFFLINE", "1")  # tests never download


@pytest.fixture(scope="session")
def raw() -> Path:
    """The folder of real samples; tests that can do without make their own data instead of asking for it."""
    named = os.environ.get("TEXT_RECOGNIZER_RAW")
    if not named: pytest.skip("TEXT_RECOGNIZER_RAW is not set: no real samples here")
    return Path(named)


@pytest.fixture
def data_folder(tmp_path, monkeypatch) -> Path:
    """An empty data folder that this test alone uses."""
    monkeypatch.setenv("TEXT_RECOGNIZER_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def one_thread():
    """Networks and images this small gain nothing from a second thread, and lose much to it on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def glyph_data() -> Path:
    """A data folder shared by the tests of one session, so that glyphs are drawn once."""
    from text_recognizer.metadata.paths import data_dirname

    return data_dirname()


def run_python(*args: str, cwd: Path = ROOT, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
    """Run this interpreter in a process of its own; what it prints is kept."""
    return subprocess.run([sys.executable, *map(str, args)], cwd=cwd, env={**os.environ, **environment}, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
