"""Build the site into docs/_build/site from the committed notebooks: `build_docs.py`. No network is needed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BUILD = DOCS / "_build"
STAGE, SITE = BUILD / "stage", BUILD / "site"
DIRECTIVE = re.compile(r"^#\s*\|.*\n?", re.MULTILINE)
HIDDEN = re.compile(r"^#\s*\|\s*(hide|default_exp)\b", re.MULTILINE)
ECHO_OFF = re.compile(r"^#\s*\|\s*echo:\s*false", re.MULTILINE)


def staged(notebook: dict) -> dict:
    """The notebook as a page: without nbdev's directives, without the cells that they hide."""
    cells = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and (HIDDEN.search(source) or not DIRECTIVE.sub("", source).strip()): continue
        if ECHO_OFF.search(source): cell.setdefault("metadata", {})["tags"] = ["remove-input"]
        if cell["cell_type"] == "code": source = DIRECTIVE.sub("", source)
        # The quoted promise under a title is nbdev's convention; here it reads better as a lead.
        cells.append({**cell, "source": source.splitlines(keepends=True)})
    return {**notebook, "cells": cells}


def stage() -> None:
    """Lay out the stage: the pages' sources, an index of each part, one reference page a module."""
    shutil.rmtree(STAGE, ignore_errors=True)
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts: continue
        target = STAGE / path.relative_to(ROOT / "nbs")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(staged(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    for page in DOCS.glob("*.md"): shutil.copy(page, STAGE / page.name)
    if (DOCS / "images").is_dir(): shutil.copytree(DOCS / "images", STAGE / "images")
    static = STAGE / "_static"
    static.mkdir()
    sys.path.insert(0, str(DOCS))
    from conf import MATHJAX
    shutil.copytree(MATHJAX, static / "mathjax")
    write_reference()
    write_contents()


def write_reference() -> None:
    """One page a module of the library, with signatures, docstrings and links to the source."""
    folder = STAGE / "reference"
    folder.mkdir()
    for path in sorted((ROOT / "text_recognizer").rglob("*.py")):
        if path.name.startswith("_"): continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = f".. automodule:: {name}\n   :members:\n   :show-inheritance:\n"
        page = f"# {name.removeprefix('text_recognizer.')}\n\n```{{eval-rst}}\n{module}```\n"
        (folder / f"{name}.md").write_text(page, encoding="utf-8")


def toctree(caption: str, pages: list[str]) -> str:
    listed = "\n".join(pages)
    return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n:maxdepth: 1\n\n{listed}\n```"


def write_contents() -> None:
    """Add the table of contents to the index page."""
    def names(pattern: str) -> list[str]:
        return sorted(path.relative_to(STAGE).with_suffix("").as_posix() for path in STAGE.glob(pattern))

    index = json.loads((STAGE / "index.ipynb").read_text(encoding="utf-8"))
    parts = {"Lessons": names("[0-9]*.ipynb"), "Solutions": names("solutions/*.ipynb"), "More": names("*.md"),
             "The library, explained": names("library/*.ipynb"), "Reference": names("reference/*.md")}
    text = "\n\n".join(toctree(caption, pages) for caption, pages in parts.items() if pages)
    index["cells"].append({"cell_type": "markdown", "metadata": {}, "id": "contents", "source": text})
    (STAGE / "index.ipynb").write_text(json.dumps(index), encoding="utf-8")


def main() -> int:
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-j", "auto", "-c", DOCS, "-d", BUILD / "doctrees"]
    return subprocess.run([*map(str, command), str(STAGE), str(SITE)]).returncode


if __name__ == "__main__":
    sys.exit(main())
