"""Grading reads what a lesson's own checks say, whatever was done to the notebook that was handed in."""

import subprocess
import sys

import nbformat
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from grade import exercises, grade, is_right, lesson_of  # noqa: E402

v4 = nbformat.v4


def check(name: str, wanted: int) -> str:
    return (f'@hinting\ndef check_{name}(answer):\n    return "Right." if answer == {wanted} else "Hint: count again."\n\n'
            f'check_{name}({name})')


def lesson(one="...", two="...", three="...", answered="'Not answered yet.'") -> nbformat.NotebookNode:
    """Three exercises with checks, and the outputs that an unanswered lesson saves."""
    cells = [v4.new_code_cell("from text_recognizer.exercises.hints import hinting")]
    for stars, (name, answer) in enumerate({"one": one, "two": two, "three": three}.items(), start=1):
        output = v4.new_output("execute_result", data={"text/plain": answered}, execution_count=1)
        cells += [v4.new_markdown_cell(f"## Exercises\n### {'🌟' * stars} Number {name} ({stars} of 4)\n\nHow many?"),
                  v4.new_code_cell(f"{name} = {answer}"), v4.new_code_cell(check(name, stars), outputs=[output])]
    return v4.new_notebook(cells=cells)


def test_exercises_are_found_by_their_checks():
    assert [(e.stars, e.title) for e in exercises(lesson())] == [(1, "Number one"), (2, "Number two"), (3, "Number three")]
    found = {path.name: exercises(nbformat.read(path, as_version=4)) for path in sorted((ROOT / "nbs").glob("0[1-9]_*.ipynb"))}
    assert all(4 <= len(each) <= 8 for each in found.values()), {name: len(each) for name, each in found.items()}
    assert all(e.title and 1 <= e.stars <= 4 for each in found.values() for e in each)


def test_verdicts_are_the_lesson_s_own(tmp_path):
    handed_in = lesson(one="1", two="1 / 0", three="7")
    changed = next(cell for cell in handed_in.cells if "def check_three" in cell.source)
    changed.source = 'def check_three(answer):\n    return "Right."\n\ncheck_three(three)'
    nbformat.write(handed_in, path := tmp_path / "01_by_ada.ipynb")
    before = path.read_bytes()
    verdicts = {exercise.title: verdict for exercise, verdict in grade(path, lesson())}
    assert verdicts["Number one"] == "Right." and is_right(verdicts["Number one"])
    assert verdicts["Number two"].startswith("NameError"), "an answer that stops leaves the check without one"
    assert verdicts["Number three"] == "Hint: count again.", "a check that was changed counts for nothing"
    assert path.read_bytes() == before


def test_a_missing_check_is_said(tmp_path):
    handed_in = lesson(one="1")
    handed_in.cells = [cell for cell in handed_in.cells if "def check_two" not in cell.source]
    nbformat.write(handed_in, path := tmp_path / "ada.ipynb")
    verdicts = [verdict for _, verdict in grade(path, lesson())]
    assert verdicts == ["Right.", "The check is missing.", "Not answered yet."]


def test_the_lesson_is_known_by_name(tmp_path):
    assert lesson_of(tmp_path / "ada_04_training.ipynb", None).name.startswith("04_")
    assert lesson_of(tmp_path / "ada.ipynb", 1).name.startswith("01_")
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "grade.py"), "ada.ipynb"], text=True, capture_output=True)
    assert done.returncode == 1 and "say --lesson 1" in done.stderr
