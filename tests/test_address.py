"""The public address stands once, in settings.ini, and everything that needs it is made from there."""

import sys
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from address import LINK_ID, address, citation, settings, stamp  # noqa: E402

LESSONS = sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))


@pytest.fixture
def fork(tmp_path) -> Path:
    """A root whose settings.ini names an owner."""
    text = (ROOT / "settings.ini").read_text(encoding="utf-8")
    lines = ["user = somebody" if line.startswith("user =") else line for line in text.splitlines()]
    (tmp_path / "settings.ini").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.name)
def test_lessons_carry_the_address_of_settings(path):
    notebook, name = nbformat.read(path, as_version=4), path.relative_to(ROOT).as_posix()
    assert stamp(nbformat.read(path, as_version=4), name) == notebook, "run tools/address.py"
    links = [cell for cell in notebook.cells if cell.get("id") == LINK_ID]
    assert len(links) == (1 if settings()["user"] else 0)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.name)
def test_a_fork_changes_one_line(path, fork):
    name = path.relative_to(ROOT).as_posix()
    stamped = stamp(nbformat.read(path, as_version=4), name, fork)
    assert stamped.cells[1].source == (
        f"[Open in Colab](https://colab.research.google.com/github/somebody/text_recognizer/blob/main/{name})")
    setup = [cell.source for cell in stamped.cells if "INSTALL_FROM" in cell.source]
    source = "text_recognizer[lessons] @ git+https://github.com/somebody/text_recognizer"
    assert len(setup) == 1 and f'INSTALL_FROM = "{source}"' in setup[0]
    again = stamp(stamped, name, fork)
    assert again == stamped, "stamping twice must change nothing"
    assert address(fork) == "https://github.com/somebody/text_recognizer"


def test_unset_means_left_out(tmp_path, fork):
    path = LESSONS[0]
    name = path.relative_to(ROOT).as_posix()
    (tmp_path / "settings.ini").write_text((fork / "settings.ini").read_text().replace("user = somebody", "user ="))
    plain = stamp(stamp(nbformat.read(path, as_version=4), name, fork), name, tmp_path)
    assert address(tmp_path) is None
    assert not any("colab.research" in cell.source for cell in plain.cells)
    assert any('INSTALL_FROM = ""' in cell.source for cell in plain.cells)


def test_the_citation_is_made_of_settings(fork):
    assert (ROOT / "CITATION.cff").read_text(encoding="utf-8") == citation(), "run tools/address.py"
    assert "repository-code: https://github.com/somebody/text_recognizer" in citation(fork)
