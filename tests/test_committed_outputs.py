"""The outputs that are committed come from the cells that are committed."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from run_notebooks import code_sha256  # noqa: E402

NOTEBOOKS = sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
MACHINE_PATH = re.compile(r"(?<![\w./])/(home|root|work|tmp|Users|content)/\S+")


def name(path: Path) -> str: return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_outputs_belong_to_cells(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    executed = notebook["metadata"].get("executed")
    assert executed == code_sha256(notebook), f"{name(path)}: run tools/run_notebooks.py {name(path)}, then commit it"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_outputs_are_fit_to_read(path):
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        for output in cell.get("outputs", []):
            text = json.dumps(output.get("text", "")) + json.dumps(output.get("data", {}).get("text/plain", ""))
            assert output["output_type"] != "error", f"{name(path)} cell {number}: an error was saved"
            assert not MACHINE_PATH.search(text), f"{name(path)} cell {number}: shows a path of one machine: {text[:200]}"
            assert "Warning" not in text, f"{name(path)} cell {number}: a warning was saved: {text[:200]}"


def test_changed_code_is_noticed():
    notebook = json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))
    before = code_sha256(notebook)
    next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")["source"] = ["changed = True"]
    assert code_sha256(notebook) != before


def test_words_for_a_figure_need_no_new_run():
    def cell(source): return {"cells": [{"cell_type": "code", "source": source}]}
    assert code_sha256(cell(["#| fig-alt: A line\n", "#| fig-alt: that rises.\n", "draw()"])) == code_sha256(cell(["draw()"]))
    assert code_sha256(cell(["# fig-alt: A line\n", "draw()"])) != code_sha256(cell(["draw()"]))
