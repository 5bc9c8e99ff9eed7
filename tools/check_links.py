"""Check links without a network: `check_links.py [SITE]`.

Among the sources (notebooks, README and the pages of docs/) every relative link must lead to a file and every anchor to a
heading; in a built site every link must lead to a page and an element. Links that leave the project are literature, by
DOI or arXiv number, or one of a few addresses that are listed here.
"""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[((?:[^\]\[]|\[[^\]]*\])*)\]\(<?((?:[^()\s>]|\([^()\s]*\))+)>?\)")
CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1|(`+)(?!`).*?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
LITERATURE = (re.compile(r"https://doi\.org/10\.\d{4,9}/\S+"), re.compile(r"https://arxiv\.org/abs/\d{4}\.\d{4,5}"))
OTHERS = ("https://jmlr.org/papers/v15/srivastava14a.html", "https://jfly.uni-koeln.de/color/",
          "https://en.wikipedia.org/wiki/Hershey_fonts", "https://pypi.org/project/remotezip/",
          "https://requests.readthedocs.io", "https://anywidget.dev", "https://inria.hal.science/inria-00112631",
          "https://github.com/huggingface/pytorch-image-models", "https://karpathy.github.io/2019/04/25/recipe/",
          "https://www.nist.gov/itl/products-and-services/emnist-dataset", "https://distill.pub/2020/circuits/",
          "https://github.com/Bishwaprotapi/Hand-Written")


def pages(root: Path = ROOT) -> list[Path]:
    """The sources that people read: notebooks, README and docs/."""
    notebooks = [path for path in (root / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    return sorted(notebooks) + [path for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))) if path.exists()]


def prose(path: Path) -> str:
    """A page's Markdown, code left out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    return CODE.sub("", text)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    words = [re.sub(r"[^\w\- ]", "", re.sub(r"[*`]", "", heading)) for heading in HEADING.findall(prose(path))]
    return {heading.strip().lower().replace(" ", "-") for heading in words}


def outside_fault(label: str, target: str, own: str = "") -> str | None:
    """What is wrong with a link that leaves the project; None for literature and what is listed."""
    if own and target.startswith(own): return None
    if target.startswith("https://colab.research.google.com/github/") or target in OTHERS: return None
    if not any(form.fullmatch(target) for form in LITERATURE):
        return "leaves the project, and is neither a DOI nor an arXiv number nor listed in tools/check_links.py"
    number = re.fullmatch(r"(?:arXiv|doi):(\S+)", label.strip())
    if number and not target.endswith("/" + number[1]): return f"says {label}, but leads elsewhere"
    return None


def source_faults(root: Path = ROOT, own: str = "") -> list[str]:
    """One line for each link of the sources that leads nowhere."""
    found = []
    for page in pages(root):
        for label, target in LINK.findall(prose(page)):
            parts, place = urlsplit(target), f"{page.relative_to(root).as_posix()}: {target}"
            if parts.scheme in ("http", "https"):
                if fault := outside_fault(label, target, own): found.append(f"{place} {fault}")
                continue
            if parts.scheme in ("mailto", "data", "attachment"): continue
            goal = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not goal.exists(): found.append(f"{place} leads to no file")
            elif parts.fragment and goal.suffix in (".md", ".ipynb") and unquote(parts.fragment).lower() not in anchors(goal):
                found.append(f"{place} leads to no heading")
    return found


class Page(HTMLParser):
    """The ids of a page, and what it links to and embeds."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.update(value for key in ("id", "name") if (value := values.get(key)))
        self.links += [value for key in ("href", "src") if (value := values.get(key))]


def site_faults(site: Path, own: str = "") -> list[str]:
    """One line for each link of a built site that leads nowhere."""
    # The theme leaves its templates in _static.
    found, known = [], {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}
    for path, page in known.items():
        for link in dict.fromkeys(page.links):
            parts, place = urlsplit(link), f"{path.relative_to(site).as_posix()}: {link[:100]}"
            if parts.scheme in ("http", "https"):
                if fault := outside_fault("", link, own): found.append(f"{place} {fault}")
                continue
            if parts.scheme in ("data", "mailto", "javascript"): continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if goal.is_dir(): goal = goal / "index.html"
            if not goal.exists(): found.append(f"{place} leads to no file")
            elif parts.fragment.startswith(":~:"): continue  # scrolls to words, not to an element
            elif parts.fragment and goal in known and unquote(parts.fragment) not in known[goal].ids:
                found.append(f"{place} leads to no element")
    return found


def main() -> int:
    sys.path.insert(0, str(ROOT / "tools"))
    from address import address
    own = address(ROOT) or ""
    found = site_faults(Path(sys.argv[1]).resolve(), own) if len(sys.argv) > 1 else source_faults(ROOT, own)
    print(*found, sep="\n")
    print(f"links: {len(found)} lead nowhere" if found else "links: all lead somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
