"""Write each lesson's reading time at its top, and say where a lesson leaves the house's pace: `lesson_pace.py`.

Reading time, in minutes, up to the summary: words / 200 + lines of code / 12. An honest figure for somebody who also looks
at the figures and guesses before reading on.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORT = re.compile(r"^\s*(import|from)\s")
END = re.compile(r"#+ *(summary|questions)\b", re.IGNORECASE)
STATED = re.compile(r"Reading time: (?:about )?\d+ minutes")
CLASS = re.compile(r"^class \w", re.MULTILINE)
LONGEST_LINE, LONGEST_CELL, LONGEST_CLASS, LONGEST_LESSON = 100, 25, 120, 40


def source(cell: dict) -> str: return "".join(cell["source"])


def lessons() -> list[Path]:
    """The lessons, in reading order."""
    return sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))


def code_lines(cell: dict) -> list[str]:
    """The lines of a code cell that a reader reads: no blank ones, no directives."""
    return [line for line in source(cell).splitlines() if line.strip() and not line.startswith("#|")]


def reading_minutes(cells: list[dict]) -> int:
    """Minutes to read the cells of a lesson, up to its summary."""
    words = lines = 0
    for cell in cells:
        if cell["cell_type"] == "markdown":
            if END.match(source(cell).strip()): break
            words += len(source(cell).split())
        elif cell["cell_type"] == "code":
            lines += sum(not IMPORT.match(line) for line in code_lines(cell))
    return round(words / 200 + lines / 12)


def pace_faults(cells: list[dict]) -> list[str]:
    """Where a lesson is longer than the house's style allows, in words."""
    faults = []
    if (minutes := reading_minutes(cells)) > LONGEST_LESSON: faults.append(f"{minutes} minutes to read")
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code": continue
        wide = sum(len(line) > LONGEST_LINE for line in source(cell).splitlines())
        if wide: faults.append(f"cell {number}: {wide} lines over {LONGEST_LINE} characters")
        longest = LONGEST_CLASS if CLASS.search(source(cell)) else LONGEST_CELL
        if len(code_lines(cell)) > longest: faults.append(f"cell {number}: {len(code_lines(cell))} lines")
    return faults


def stamped(notebook: dict) -> dict:
    """The lesson with its reading time at its top."""
    first = notebook["cells"][0]
    text = STATED.sub(f"Reading time: {reading_minutes(notebook['cells'])} minutes", source(first))
    first["source"] = text.splitlines(keepends=True)
    return notebook


def main() -> int:
    faults = 0
    for path in lessons():
        text = path.read_text(encoding="utf-8")
        notebook = stamped(json.loads(text))
        made = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        if made != text: path.write_text(made, encoding="utf-8")
        found = pace_faults(notebook["cells"])
        faults += len(found)
        print(f"{path.name}: {reading_minutes(notebook['cells'])} minutes", *found, sep="\n  ")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
