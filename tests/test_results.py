"""The table of results: what its page shows of the cells that are there, and that two processes share the work."""

import json
import re
import sys
from argparse import Namespace

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import results
import results_cells

SCORES = {"glyphs": {"glyphs": 80.0, "transfer": 60.0}, "real": {"real": 70.0}, "mnist": {"mnist": 98.0},
          "lines": {"acc": 60.0, "acc_padding_only": 50.7, "char_acc": 20.0, "cer": 75.0}}


@pytest.fixture(autouse=True)
def no_archive(monkeypatch, data_folder):
    """Without one, the page says nothing of it."""
    monkeypatch.setattr(results_cells, "real_archive", lambda: None)
    monkeypatch.setattr(results, "real_archive", lambda: None)


def write(source: str, seed: int, seconds: float = 1, more: float = 0) -> None:
    """All cells of a source and a seed."""
    for name in results.networks(source):
        path = results.path_of(name, source, seed, seconds)
        path.parent.mkdir(parents=True, exist_ok=True)
        scores = {score: value + more for score, value in SCORES[source].items()}
        path.write_text(json.dumps({"scores": scores, "images_a_second": 1234.5, "parameters": 1000}))


def tables(page: str) -> list[list[list[str]]]:
    """The cells of each table of a page, line by line, without the rule below the head."""
    found = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    for lines in found: assert len({line.count("|") for line in lines.splitlines()}) == 1, f"ragged: {lines}"
    return [[[part.strip() for part in line.strip("|").split("|")] for line in lines.splitlines() if "|--" not in line]
            for lines in found]


def test_page_shows_what_is_there():
    write("lines", seed=0)
    write("lines", seed=1, more=2)
    page = results.page(Namespace(seconds=1, seeds=2))
    (head, guess, *networks), = tables(page)
    assert "## Characters" not in page and head[3] == "character error rate"
    assert guess == ["always `<P>`", "–", "–", "100.0", "0.0", "50.7"]
    assert networks[0] == ["LineCNNSimple", "1,000", "1,234", "76.0 (75.0–77.0)", "21.0 (20.0–22.0)", "61.0 (60.0–62.0)"]


def test_page_of_all_sources_and_of_none():
    for source in results.SOURCES: write(source, seed=0)
    characters, lines = tables(results.page(Namespace(seconds=1, seeds=2)))
    assert characters[0][3:] == list(results.COLUMNS.values()) and len(characters) == 8
    assert characters[1] == ["MLP", "1,000", "1,234", "80.0 (1 seed)", "60.0 (1 seed)", "70.0 (1 seed)", "98.0 (1 seed)"]
    assert characters[3][3:] == ["–", "–", "70.0 (1 seed)", "–"], "augmented"
    assert "seed" not in str(tables(results.page(Namespace(seconds=1, seeds=1)))), "one of one needs no word"
    assert tables(results.page(Namespace(seconds=2, seeds=1))) == [], "cells of another budget"


def test_cell_of_another_process_comes_last_and_is_done_once(monkeypatch):
    wanted, made = [("MLP", "mnist", seed) for seed in range(3)], []

    def cell(name, source, seed, seconds):
        if seed == 1: taken.__exit__(None, None, None)  # the other process is killed meanwhile: its cell is nobody's
        made.append(seed)
        return {"scores": SCORES[source]}

    monkeypatch.setattr(results, "cell", cell)
    taken = results.claimed(results.path_of("MLP", "mnist", 0, 1), wait=False)
    assert taken.__enter__()
    results.fill(wanted, 1)
    results.fill(wanted, 1)
    assert made == [1, 2, 0] and all(results.path_of(*one, 1).is_file() for one in wanted)


@pytest.mark.parametrize("name", ["LineCNNSimple, 32 channels", "LineCNN"])
def test_lines_are_trained_and_judged(monkeypatch, one_thread, name):
    """With so little time as to learn nothing, on a few lines: each score is there, and is what it says."""
    from text_recognizer.data import EMNISTLines

    data = EMNISTLines(source="glyphs", text_source="python", num_train=32, num_val=1, num_test=40)
    data.prepare_data()
    data.setup()
    monkeypatch.setattr(results_cells, "line_data", lambda: data)
    found = results.cell(name, "lines", seed=0, seconds=0.1)
    padding = (data.data_test.targets == data.inverse_mapping["<P>"]).float().mean().item()
    assert found["scores"].keys() == SCORES["lines"].keys() and found["images_a_second"] > 0
    assert found["scores"]["acc_padding_only"] == pytest.approx(100 * padding, abs=0.01)
