"""Write README.md from nbs/index.ipynb, and nbs/library/README.md: code, prose and pictures; a list of notebooks."""

import base64
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURES = Path("docs") / "images"
LINK = re.compile(r"(\]\()(?!https?:|#|/|\.\.)([^)\s]+)")
LINKED = re.compile(r"\[([^\]]+)\]\([^)]+\)")


def pictures(cell: dict, number: int) -> list[str]:
    """Save the cell's pictures; the markdown that shows them, with the cell's first comment as the text in their place."""
    shown = []
    for k, output in enumerate(cell.get("outputs", [])):
        if "image/png" not in output.get("data", {}): continue
        name = PICTURES / f"index-{number}-{k}.png"
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_bytes(base64.b64decode("".join(output["data"]["image/png"])))
        described = re.search(r"^# (.+)$", "".join(cell["source"]), re.MULTILINE)
        shown.append(f"![{described.group(1) if described else ''}]({name.as_posix()})")
    return shown


def readme(notebook: dict) -> str:
    """The README's text; links that are relative to nbs/ become relative to the root."""
    parts = []
    for number, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            source = re.sub(r"\]\(\.\./", "](", LINK.sub(r"\1nbs/\2", source))
            parts.append(source)
        elif cell["cell_type"] == "code":
            hidden = re.search(r"^#\|\s*(hide|echo: false)", source, re.MULTILINE)
            if not hidden: parts.append(f"```python\n{source}\n```")
            parts += pictures(cell, number)
    return "\n\n".join(part for part in parts if part) + "\n"


def promise(path: Path) -> tuple[str, str]:
    """A notebook's title, and the line that it promises itself by: words alone, since links lead elsewhere from a list."""
    first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    line = next((line.removeprefix("> ") for line in first.splitlines() if line.startswith("> ")), "")
    return first.splitlines()[0].removeprefix("# "), LINKED.sub(r"\1", line)


def library(folder: Path) -> str:
    """A list of the library's notebooks, by package."""
    parts = ["# The library, explained", "How each module is made: a notebook, with its tests. Written by `make readme`."]
    for package in sorted({path.parent for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts}):
        name = ".".join(("text_recognizer", *package.relative_to(folder).parts))
        found = [(path, *promise(path)) for path in sorted(package.glob("*.ipynb"))]
        listed = [f"- [{title}]({path.relative_to(folder).as_posix()}): {line}" for path, title, line in found]
        parts += [f"## {name}", "\n".join(listed)]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    notebook = json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))
    (ROOT / "README.md").write_text(readme(notebook), encoding="utf-8")
    folder = ROOT / "nbs" / "library"
    (folder / "README.md").write_text(library(folder), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
