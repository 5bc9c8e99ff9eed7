"""Coverage of the package in its own notebooks.

A notebook runs the code that it exports as cells, not as the module, so coverage would see nothing of it. Here an exported cell
is compiled under the module's file name and line numbers, which nbdev's marks tell, and what runs counts as what it is.
"""

import ast
import re
from pathlib import Path

import nbdev.test
from execnb.shell import CaptureShell
from IPython.core.compilerop import CachingCompiler
from traitlets import Type

PACKAGE = Path(__file__).resolve().parent.parent / "text_recognizer"
MARK = re.compile(r"# %% (\S+\.ipynb) #(\S+)")


def exported_cells(notebook: Path) -> dict[str, tuple[str, int]]:
    """Of each cell that `notebook` exports, by its id: the module's file, and the line of nbdev's mark above the cell's code."""
    found = {}
    for module in PACKAGE.rglob("*.py"):
        for number, line in enumerate(module.read_text(encoding="utf-8").splitlines(), 1):
            if (mark := MARK.fullmatch(line)) and (module.parent / mark[1]).resolve() == notebook:
                found[mark[2]] = str(module), number
    return found


class ModuleCompiler(CachingCompiler):
    """Compiles under the name and lines of `place`, where there is one."""

    place: tuple[str, int] | None = None

    def cache(self, transformed_code, number=0, raw_code=None):
        return self.place[0] if self.place else super().cache(transformed_code, number, raw_code)

    def ast_parse(self, source, filename="<unknown>", symbol="exec"):
        tree = super().ast_parse(source, filename, symbol)
        return ast.increment_lineno(tree, self.place[1]) if self.place else tree


class CoveredShell(CaptureShell):
    """A shell of `nbdev_test` whose exported cells count as lines of their module."""

    compiler_class = Type(ModuleCompiler)

    def __init__(self, path):
        super().__init__(path)
        self.places = exported_cells(Path(path).resolve())

    def cell(self, cell, **options):
        self.compile.place = self.places.get(cell.id)
        try:
            super().cell(cell, **options)
        finally:
            self.compile.place = None


def count_cells_as_modules() -> None:
    """From here on, `nbdev_test` in this process runs notebooks in a `CoveredShell`."""
    nbdev.test.CaptureShell = CoveredShell
