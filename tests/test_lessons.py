"""Lessons keep the house's pace and shape, and each has a worked answer to every exercise."""

import json
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from lesson_pace import STATED, lessons, pace_faults, reading_minutes, source, stamped  # noqa: E402

# Words that no one says any more, and phrases that are no English.
ODD = re.compile(r"\b(lest|nought|shall|reckon\w*|hitherto|whilst|thereof|on the average|drawn by chance|for certain|"
                 r"put (?:it )?to the test|than one thought|be it|nobody but|what is too much)\b", re.IGNORECASE)


def cells(path: Path) -> list[dict]: return json.loads(path.read_text(encoding="utf-8"))["cells"]


def name(path: Path) -> str: return path.name


def test_there_are_nine_lessons():
    assert [path.name[:2] for path in lessons()] == [f"0{n}" for n in range(1, 10)]


@pytest.mark.parametrize("path", lessons(), ids=name)
def test_a_lesson_keeps_the_pace(path):
    assert pace_faults(cells(path)) == []


@pytest.mark.parametrize("path", lessons(), ids=name)
def test_the_reading_time_is_stated_and_true(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert STATED.search(source(notebook["cells"][0])), "the first cell states the reading time"
    assert stamped(json.loads(path.read_text(encoding="utf-8"))) == notebook, "run tools/lesson_pace.py"


@pytest.mark.parametrize("path", lessons(), ids=name)
def test_a_lesson_has_its_parts(path):
    text = "\n".join(source(cell) for cell in cells(path) if cell["cell_type"] == "markdown")
    for part in ("What you will learn", "Running time", "## Summary", "## Questions", "## Exercises", "🌟"):
        assert part in text, f"{part} is missing"
    questions = re.search(r"## Questions(.*?)\n## ", text, re.DOTALL)[1]
    assert 8 <= len(re.findall(r"^\d+\. ", questions, re.MULTILINE)) <= 12


@pytest.mark.parametrize("path", lessons(), ids=name)
def test_prose_is_plain_english(path):
    found = [match.group() for cell in cells(path) if cell["cell_type"] == "markdown" for match in ODD.finditer(source(cell))]
    assert found == []


@pytest.mark.parametrize("path", lessons(), ids=name)
def test_one_switch_says_which_characters(path):
    code = [source(cell) for cell in cells(path) if cell["cell_type"] == "code" and not source(cell).startswith("#| hide")]
    setup = [text for text in code if "TEXT_RECOGNIZER_SOURCE" in text]
    assert len(setup) == 1, "one set-up cell"
    named = [text for text in code if re.search(r"""source=["'](glyphs|nist|auto)|data_source[= ]["']?(glyphs|nist)""", text)]
    assert named == [], f"only the set-up cell names a source:\n{named[:1]}"


@pytest.mark.parametrize("path", lessons(), ids=name)
def test_every_exercise_has_a_worked_answer(path):
    def stars(file: Path) -> int:
        return sum("🌟" in line for cell in cells(file) if cell["cell_type"] == "markdown"
                   for line in source(cell).splitlines() if line.startswith("#"))
    assert stars(path) == stars(path.parent / "solutions" / path.name) > 0


def test_a_slow_lesson_is_noticed():
    words = {"cell_type": "markdown", "source": ["word " * 8200]}
    code = {"cell_type": "code", "source": ["x = 1\n"] * 30 + ["y" * 101]}
    assert reading_minutes([words]) == 41
    assert pace_faults([words, code]) == ["44 minutes to read", "cell 1: 1 lines over 100 characters", "cell 1: 31 lines"]
