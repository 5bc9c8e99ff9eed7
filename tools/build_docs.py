"""Build the site into docs/_build/site from the committed notebooks: `build_docs.py`. No network is needed.

Fails, and says where, when a link within the site leads nowhere.
"""

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from address import address, settings
from check_links import site_faults
from readme import promise as promise_of_notebook

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BUILD = DOCS / "_build"
STAGE, SITE = BUILD / "stage", BUILD / "site"
DIRECTIVE = re.compile(r"^#\s*\|.*\n?", re.MULTILINE)
HIDDEN = re.compile(r"^#\s*\|\s*hide\b", re.MULTILINE)
ECHO_OFF = re.compile(r"^#\s*\|\s*echo:\s*false", re.MULTILINE)
FIG_ALT = re.compile(r"^#\s*\|\s*fig-alt:\s*(.+)$", re.MULTILINE)
TITLE = re.compile(r"""(?:title=|title\(|show_\w+\([^"\n]*,\s*)f?"([^"\n]{8,})\"""")
PLAIN = re.compile(r"[*`#>]|\]\([^)]*\)|\[(?=[^\]]*\]\()")
EXPORTED = re.compile(r"^#\s*\|\s*exports?\b", re.MULTILINE)
LIBRARY = re.compile(r"\]\(((?:\.\./)*)library/README\.md\)")
TO_DOCS = re.compile(r"\]\(((?:\.\./)*)\.\./docs/([\w.#-]+)\)")
OFF_SITE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?:tests|tools|training|benchmarks|text_recognizer)/[^)\s]+|[A-Z]+\.\w+)\)")


def described(source: str, prose: str) -> str:
    """A figure in words, for who cannot see it: its lines `#| fig-alt:`, or its title and the sentence that leads to it."""
    if given := FIG_ALT.findall(source): return " ".join(given)
    titles = [title.strip() for title in TITLE.findall(source) if "{" not in title]
    sentences = re.split(r"(?<=[.?!:])\s+", " ".join(PLAIN.sub("", line) for line in prose.splitlines() if line.strip()))
    parts = [*dict.fromkeys(titles), sentences[-1]]
    return "Figure: " + " ".join(part if part[-1:] in ".?!:" else f"{part}." for part in parts if part)


def staged(notebook: dict) -> dict:
    """The notebook as a page: without nbdev's directives, without the cells that they hide, exported cells marked."""
    cells, prose = [], ""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            if HIDDEN.search(source) or not DIRECTIVE.sub("", source).strip(): continue
            tags = {"remove-input": ECHO_OFF, "exported": EXPORTED}
            cell.setdefault("metadata", {})["tags"] = [tag for tag, form in tags.items() if form.search(source)]
            if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
                cell["metadata"]["mystnb"] = {"image": {"alt": described(source, prose)}}
            source = DIRECTIVE.sub("", source)
        elif cell["cell_type"] == "markdown":
            prose = source
            source = OFF_SITE.sub(in_repository, TO_DOCS.sub(r"](\1\2)", LIBRARY.sub(r"](\1library/index.md)", source)))
        cells.append({**cell, "source": source.splitlines(keepends=True)})
    return {**notebook, "cells": cells}


def in_repository(link: re.Match) -> str:
    """A link to a file that is no page: to the repository where its address is known, else the file's name alone."""
    web = address(ROOT)
    return f"[{link[1]}]({web}/blob/{settings(ROOT)['branch']}/{link[2]})" if web else f"`{link[2]}`"


def stage() -> None:
    """Lay out the stage: the pages' sources, an index of each part, one reference page a module."""
    shutil.rmtree(STAGE, ignore_errors=True)
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts: continue
        target = STAGE / path.relative_to(ROOT / "nbs")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(staged(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    for page in DOCS.glob("*.md"):  # on the site they lie beside the lessons
        text = page.read_text(encoding="utf-8").replace("](../nbs/", "](")
        (STAGE / page.name).write_text(OFF_SITE.sub(in_repository, text), encoding="utf-8")
    if (DOCS / "images").is_dir(): shutil.copytree(DOCS / "images", STAGE / "images")
    static = STAGE / "_static"
    static.mkdir()
    shutil.copy(DOCS / "site.css", static)
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
    caption = f":caption: {caption}\n" if caption else ""
    return f"```{{toctree}}\n:hidden:\n{caption}:maxdepth: 1\n\n{listed}\n```"


def promise(page: Path) -> tuple[str, str]:
    """A page's title, and the line that it promises itself by."""
    if page.suffix == ".ipynb": return promise_of_notebook(page)
    words = " ".join((importlib.import_module(page.stem).__doc__ or "").split())
    return page.stem.removeprefix("text_recognizer."), re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", words)


def write_overview(folder: str, title: str, lead: str, pattern: str) -> None:
    """A page about a folder: each of its pages with its promise, and the table of contents that the sidebar unfolds."""
    found = [page for page in sorted((STAGE / folder).glob(pattern)) if page.stem != "index"]
    places = [page.relative_to(STAGE / folder) for page in found]
    listed = [f"- [{name}]({place.as_posix()}): {line}" for page, place in zip(found, places) for name, line in [promise(page)]]
    text = [f"# {title}", lead, "\n".join(listed), toctree("", [place.with_suffix("").as_posix() for place in places])]
    (STAGE / folder / "index.md").write_text("\n\n".join(text), encoding="utf-8")


def write_contents() -> None:
    """Add the table of contents to the index page; the two long parts have pages of their own, so that not all carry them."""
    def names(pattern: str) -> list[str]:
        return sorted(path.relative_to(STAGE).with_suffix("").as_posix() for path in STAGE.glob(pattern))

    write_overview("library", "The library, explained", "How each module is made: a notebook, with its tests.", "**/*.ipynb")
    write_overview("reference", "Reference", "Every name that the modules export, with its signature.", "*.md")
    index = json.loads((STAGE / "index.ipynb").read_text(encoding="utf-8"))
    parts = {"Lessons": names("[0-9]*.ipynb"), "Solutions": names("solutions/*.ipynb"), "More": names("*.md"),
             "The library": ["library/index", "reference/index"]}
    text = "\n\n".join(toctree(caption, pages) for caption, pages in parts.items() if pages)
    index["cells"].append({"cell_type": "markdown", "metadata": {}, "id": "contents", "source": text})
    (STAGE / "index.ipynb").write_text(json.dumps(index), encoding="utf-8")


def main() -> int:
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-j", "auto", "-c", DOCS, "-d", BUILD / "doctrees"]
    status = subprocess.run([*map(str, command), str(STAGE), str(SITE)]).returncode
    faults = site_faults(SITE, address(ROOT) or "")
    print(*faults, sep="\n")
    return status or bool(faults)


if __name__ == "__main__":
    sys.exit(main())
