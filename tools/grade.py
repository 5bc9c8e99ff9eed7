"""Read what the exercises' checks say about notebooks that were handed in: `grade.py HANDED_IN.ipynb ... [--lesson 1]`.

Each notebook is run top to bottom in a fresh kernel, as if it stood in nbs/, with the lesson's own checking cells put back
in place of changed ones. It runs whatever was handed in, so do it where that may be done. Nothing is written.
"""

import argparse
import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
STAR = "🌟"
OPEN = ("Not answered",)
LEVEL = re.compile(r" *\([1-4] of 4\)$")  # the stars, for who has no font for them


class Exercise(NamedTuple):
    """An exercise of a lesson: how hard it is, its title, and the source of the cell that checks it."""
    stars: int
    title: str
    check: str


def said(cell: nbformat.NotebookNode) -> str | None:
    """The text that a cell ends in, or the error that it stopped with; None without either."""
    for output in reversed(cell.get("outputs", [])):
        if output.output_type == "error": return f"{output.ename}: {output.evalue}"
        text = output.get("data", {}).get("text/plain", "")
        try: value = ast.literal_eval(text)
        except (ValueError, SyntaxError): continue
        if isinstance(value, str): return value
    return None


def exercises(lesson: nbformat.NotebookNode) -> list[Exercise]:
    """A lesson's exercises, known by what their checks say of an empty answer in its saved outputs."""
    found, heading = [], ""
    for cell in lesson.cells:
        if cell.cell_type == "markdown":
            heading = next((line for line in cell.source.splitlines() if STAR in line), heading)
        elif (said(cell) or "").startswith(OPEN):
            bold = re.search(r"\*\*(.+?)\*\*", heading)
            title = LEVEL.sub("", (bold[1] if bold else heading).strip(f"#{STAR} ."))
            found.append(Exercise(heading.count(STAR), title, cell.source))
    return found


def known_by(check: str) -> re.Pattern:
    """What a check is found again by: a call of it, or its definition."""
    name = re.search(r"\bcheck_\w+", check)
    return re.compile(rf"\b{name[0]}\(" if name else re.escape(check.splitlines()[0]))


def restored(handed_in: nbformat.NotebookNode, wanted: list[Exercise]) -> set[str]:
    """Put the lesson's checks into a notebook where they were changed; the titles of exercises whose checks are not there."""
    missing, sources = set(), {cell.source: cell for cell in handed_in.cells if cell.cell_type == "code"}
    for exercise in wanted:
        if exercise.check in sources: continue
        form = known_by(exercise.check)
        changed = [cell for source, cell in sources.items() if form.search(source)]
        if changed: changed[-1].source = exercise.check
        else: missing.add(exercise.title)
    return missing


def grade(path: Path, lesson: nbformat.NotebookNode, timeout: int = 600) -> list[tuple[Exercise, str]]:
    """What each exercise's check says about a notebook."""
    handed_in, wanted = nbformat.read(path, as_version=4), exercises(lesson)
    missing = restored(handed_in, wanted)
    NotebookClient(handed_in, timeout=timeout, kernel_name="python3", allow_errors=True,
                   extra_arguments=["--log-level=ERROR"], resources={"metadata": {"path": str(ROOT / "nbs")}}).execute()
    verdicts = {cell.source: said(cell) for cell in handed_in.cells if cell.cell_type == "code"}
    return [(exercise, "The check is missing." if exercise.title in missing else verdicts[exercise.check] or "Nothing was said.")
            for exercise in wanted]


def is_right(verdict: str) -> bool: return verdict.lower().startswith("right")


def lesson_of(path: Path, number: int | None) -> Path:
    """The lesson that a notebook belongs to: by `number`, or by the number that its name holds."""
    number = number or next((int(digit) for digit in re.findall(r"0([1-9])_", path.name)), 0)
    found = sorted((ROOT / "nbs").glob(f"{number:02}_*.ipynb"))
    if not found: sys.exit(f"{path.name}: expected a name that holds the lesson's, such as 01_convolutions; or say --lesson 1")
    return found[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", nargs="+", type=Path)
    parser.add_argument("--lesson", type=int, help="The lesson's number, where the notebook's name does not hold it.")
    args = parser.parse_args()
    for path in args.notebook:
        graded = grade(path, nbformat.read(lesson_of(path, args.lesson), as_version=4))
        print(path.name)
        for exercise, verdict in graded:
            mark = "right" if is_right(verdict) else "open" if verdict.startswith(OPEN) else "wrong"
            print(f"  {mark:6} {STAR * exercise.stars:4} {exercise.title}: {verdict}")
        right = [exercise.stars for exercise, verdict in graded if is_right(verdict)]
        print(f"  {len(right)} of {len(graded)} right, {sum(right)} of {sum(e.stars for e, _ in graded)} stars", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
