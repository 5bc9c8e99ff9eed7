"""Write what settings.ini says into the lessons, their solutions and CITATION.cff: `address.py`.

In a lesson two places need the public address: the link "Open in Colab" under its title, and the set-up cell, which on Colab
installs the package with all that lessons import. While `user` is empty there is no link, and the set-up cell installs nothing.
"""

import re
import sys
from configparser import ConfigParser
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
LINK_ID = "colab-link"
SETUP = '''import os

INSTALL_FROM = "{source}"  # written from settings.ini
if INSTALL_FROM and "google.colab" in str(get_ipython()):
    get_ipython().run_line_magic("pip", f"install -q '{{INSTALL_FROM}}'")
# What every cell below reads: "glyphs" are drawn, "nist" is the real EMNIST (203 MB, once).
os.environ.setdefault("TEXT_RECOGNIZER_SOURCE", "glyphs");'''
OLD_SETUP = re.compile(r"google\.colab")


def settings(root: Path = ROOT) -> dict[str, str]:
    """settings.ini's values, stripped."""
    config = ConfigParser(delimiters=["="])
    config.read(root / "settings.ini", encoding="utf-8")
    return {key: value.strip() for key, value in config["DEFAULT"].items()}


def address(root: Path = ROOT) -> str | None:
    """The repository's web address; None while `user` is empty."""
    values = settings(root)
    return f"https://github.com/{values['user']}/{values['repo']}" if values["user"] else None


def stamp(notebook: nbformat.NotebookNode, name: str, root: Path = ROOT) -> nbformat.NotebookNode:
    """The lesson with its link and set-up cell made from settings.ini; `name` is its path below the root."""
    web, values = address(root), settings(root)
    notebook.cells = [cell for cell in notebook.cells if cell.get("id") != LINK_ID]
    if web:
        place = f"{values['user']}/{values['repo']}/blob/{values['branch']}/{name}"
        link = f"[Open in Colab](https://colab.research.google.com/github/{place})"
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(link, id=LINK_ID))
    for cell in notebook.cells:
        if cell.cell_type == "code" and OLD_SETUP.search(cell.source):
            cell.source = SETUP.format(source=f"text_recognizer[lessons] @ git+{web}" if web else "")
            break
    return notebook


def citation(root: Path = ROOT) -> str:
    """CITATION.cff: how to cite the package."""
    web, values = address(root), settings(root)
    lines = ["cff-version: 1.2.0", "message: If you teach with it or build on it, please cite it.",
             f'title: "{values["title"]}: from convolutions to reading lines of handwriting"', "authors:",
             f"  - name: {values['author']}", "license: Apache-2.0", f"version: {values['version']}"]
    return "\n".join(lines + ([f"repository-code: {web}"] if web else [])) + "\n"


def main() -> int:
    (ROOT / "CITATION.cff").write_text(citation(), encoding="utf-8")
    for path in sorted((ROOT / "nbs").glob("[0-9]*.ipynb")) + sorted((ROOT / "nbs" / "solutions").glob("[0-9]*.ipynb")):
        before = nbformat.read(path, as_version=4)
        after = stamp(nbformat.read(path, as_version=4), path.relative_to(ROOT).as_posix())
        if after != before:
            nbformat.write(after, path)
            print(f"{path.relative_to(ROOT)}: address written; run it again with tools/run_notebooks.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
