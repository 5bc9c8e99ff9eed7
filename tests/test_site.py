"""What people read: its links lead somewhere, its pages need no kernel, and its notebooks are fit for the site."""

import json
import sys
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from build_docs import described, staged  # noqa: E402
from check_links import anchors, outside_fault, pages, site_faults, source_faults  # noqa: E402


def notebook(*cells: tuple[str, str]) -> dict:
    return {"cells": [{"cell_type": kind, "source": text.splitlines(keepends=True), "metadata": {}} for kind, text in cells],
            "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def test_links_of_the_sources_lead_somewhere():
    assert len(pages()) > 40
    assert source_faults() == []


def test_a_broken_link_is_noticed(tmp_path):
    (tmp_path / "nbs").mkdir()
    text = ("# A *title*, here\n[there](other.ipynb), [up](../README.md#two-commands), [own](#a-title-here), `[code](no.md)`, "
            "[gone](gone.ipynb), [lost](other.ipynb#nowhere), [web](https://example.org/)\n\n```\n[fenced](no.md)\n```\n")
    (tmp_path / "nbs" / "page.ipynb").write_text(json.dumps(notebook(("markdown", text))))
    (tmp_path / "nbs" / "other.ipynb").write_text(json.dumps(notebook(("code", "# [no](link.md)"))))
    (tmp_path / "README.md").write_text("# Title\n## Two commands\n")
    assert anchors(tmp_path / "README.md") == {"title", "two-commands"}
    faults = source_faults(tmp_path)
    assert [fault.split()[1] for fault in faults] == ["gone.ipynb", "other.ipynb#nowhere", "https://example.org/"], faults


@pytest.mark.parametrize(("label", "target", "sound"), [
    ("arXiv:1702.05373", "https://arxiv.org/abs/1702.05373", True), ("2017", "https://arxiv.org/abs/1702.05373", True),
    ("arXiv:1702.05373", "https://arxiv.org/abs/1702.05374", False), ("paper", "https://arxiv.org/pdf/1702.05373", False),
    ("doi:10.1109/5.726791", "https://doi.org/10.1109/5.726791", True),
    ("doi:10.1016/S0079-7421(08)60536-8", "https://doi.org/10.1016/S0079-7421(08)60536-8", True),
    ("x", "https://doi.org/5.726791", False),
    ("code", "https://github.com/somebody/text_recognizer/blob/main/README.md", True), ("x", "https://example.org", False)])
def test_outside_links_are_literature(label, target, sound):
    fault = outside_fault(label, target, own="https://github.com/somebody/text_recognizer")
    assert (fault is None) == sound, fault


def test_broken_links_of_a_site_are_noticed(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "_static").mkdir()
    (tmp_path / "index.html").write_text('<h1 id="top">x</h1><a href="part/a.html#here">1</a><a href="part/a.html#gone">2</a>'
                                         '<a href="no.html">3</a><a href="#top">4</a><img src="part/no.png">'
                                         '<a href="https://arxiv.org/abs/1702.05373">5</a><a href="https://example.org">6</a>')
    (tmp_path / "part" / "a.html").write_text('<p id="here"><a href="../index.html">back</a><a href="#nowhere">x</a></p>')
    (tmp_path / "_static" / "template.html").write_text('<a href="{{ nothing }}">x</a>')
    faults = [fault.split()[1] for fault in site_faults(tmp_path)]
    assert faults == ["part/a.html#gone", "no.html", "part/no.png", "https://example.org", "#nowhere"], faults


def test_a_page_is_staged_without_directives():
    text = "[why](library/README.md), [how](../../docs/teaching.md), [x](../../tests/a.py)"
    page = staged(notebook(("code", "#| default_exp x"), ("code", "#| hide\nimport y"), ("code", "#| export\ndef f(): return 1"),
                           ("code", "#| echo: false\ndraw()"), ("code", "f()"), ("markdown", text)))
    sources = ["".join(cell["source"]) for cell in page["cells"]]
    assert sources[:3] == ["def f(): return 1", "draw()", "f()"]
    assert [cell["metadata"].get("tags") for cell in page["cells"][:3]] == [["exported"], ["remove-input"], []]
    assert sources[3] == "[why](library/index.md), [how](../teaching.md), `tests/a.py`"


@pytest.mark.parametrize("path", [path for path in pages() if path.suffix == ".ipynb"],
                         ids=lambda path: path.relative_to(ROOT).as_posix())
def test_committed_outputs_need_no_kernel(path: Path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    kinds = {kind for cell in cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert not any("widget" in kind or "javascript" in kind for kind in kinds), kinds


def test_prose_names_no_directive_that_the_site_strips():
    for path in pages():
        if path.suffix != ".ipynb": continue
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""
            assert "#|" not in text, f"{path.relative_to(ROOT)}: {text[:200]}"


def test_a_checkout_with_crlf_is_the_same(tmp_path):
    from check_tree import text_of

    (tmp_path / "unix.md").write_bytes(b"# Title\n\nText\n")
    (tmp_path / "windows.md").write_bytes(b"# Title\r\n\r\nText\r\n")
    assert text_of(tmp_path / "unix.md") == text_of(tmp_path / "windows.md")


def test_a_figure_is_described_in_words():
    picture = {"output_type": "display_data", "data": {"image/png": "AAAA", "text/plain": "<Figure>"}, "metadata": {}}
    drawn = 'ax.set(title="Nearly all weights are dense")'
    page = notebook(("markdown", "How far? The *bars* of `fc1` say it:"), ("code", drawn))
    page["cells"][1]["outputs"] = [picture]
    (_, cell) = staged(page)["cells"]
    alt = cell["metadata"]["mystnb"]["image"]["alt"]
    assert alt == "Figure: Nearly all weights are dense. The bars of fc1 say it:"
    assert described('#| fig-alt: Two bars,\n#| fig-alt: one tall.\ndraw("A title of its own")', "Look.") == "Two bars, one tall."


def test_every_figure_of_a_lesson_has_words():
    for path in sorted((ROOT / "nbs").glob("[0-9]*.ipynb")):
        for cell in staged(json.loads(path.read_text(encoding="utf-8")))["cells"]:
            if "mystnb" not in cell["metadata"]: continue
            alt = cell["metadata"]["mystnb"]["image"]["alt"]
            assert len(alt) > 40 and not alt.startswith("Figure: "), f"{path.name}: give this figure #| fig-alt: lines; {alt!r}"


def test_code_beside_the_name_of_the_module_stays_on_the_page():
    cells = staged(notebook(("code", "#| default_exp a.b"), ("code", "#| default_exp a.b\n#| export\nimport torch"),
                            ("code", "#| hide\nimport os")))["cells"]
    assert ["".join(cell["source"]) for cell in cells] == ["import torch"]
