"""The house keeps its plan: arrows point one way, floors are not mixed, classes are whole, rooms have a size."""

import ast
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "text_recognizer"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "_modidx.py")
# Packages in the order of their arrows: each may use what stands before it.
ORDER = ["metadata", "data", "models", "lit_models", "training"]
LONGEST_CLASS = 120
TOP_FLOOR = 14  # modules in text_recognizer/data itself
TYPES_ONLY = "TYPE_CHECKING"


def name(path: Path) -> str: return path.relative_to(PACKAGE).as_posix()


def imported(path: Path) -> set[str]:
    """The modules of the package that a module imports when it is imported, as paths below the package."""
    parts, found = path.relative_to(PACKAGE).with_suffix("").parts, set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = {id(node) for test in ast.walk(tree) if isinstance(test, ast.If) and TYPES_ONLY in ast.unparse(test.test)
                  for node in ast.walk(test)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or id(node) in only_types or not node.level: continue
        base = parts[: len(parts) - node.level]
        target = "/".join((*base, *(node.module or "").split("."))).strip("/")
        found |= {f"{target}/{alias.name}" if (PACKAGE / target / f"{alias.name}.py").is_file() else target
                  for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_arrows_point_one_way(path):
    package = path.relative_to(PACKAGE).parts[0]
    if package not in ORDER: return
    later = ORDER[ORDER.index(package) + 1 :]
    wrong = [target for target in imported(path) if target.split("/")[0] in later]
    assert wrong == [], f"{name(path)} imports {wrong}"


@pytest.mark.parametrize("path", [path for path in MODULES if len(path.relative_to(PACKAGE).parts) == 3], ids=name)
def test_a_lower_floor_asks_for_nothing_above(path):
    package, room = path.relative_to(PACKAGE).parts[:2]
    above = [target for target in imported(path)
             if target.startswith(f"{package}/") and (PACKAGE / f"{target}.py").is_file() and target.count("/") == 1]
    # data/util is the ground that all floors stand on; a set of lines is one of the data sets, made of words.
    allowed = {"data/util"} | ({"data/sentence_generator", "data/base_data_module"} if room == "lines" else set())
    assert set(above) <= allowed, f"{name(path)} imports {above}"


def test_data_has_a_top_floor_of_a_size():
    assert len([path for path in (PACKAGE / "data").glob("*.py") if path.name != "__init__.py"]) <= TOP_FLOOR


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_class_is_there_only_to_be_a_base(path):
    classes = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    names = {node.name for node in classes}
    bases = Counter(base.id for node in classes for base in node.bases if isinstance(base, ast.Name) and base.id in names)
    source = "\n".join(other.read_text(encoding="utf-8") for other in MODULES if other != path)
    alone = [base for base, uses in bases.items() if uses == 1 and base not in source]
    assert alone == [], f"{name(path)}: {alone}: each is the base of one class only"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_classes_and_modules_have_a_size(path):
    text = path.read_text(encoding="utf-8")
    long = [node.name for node in ast.parse(text).body
            if isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno >= LONGEST_CLASS]
    assert long == [], f"{name(path)}: {long} have over {LONGEST_CLASS} lines"
    assert len(text.splitlines()) <= 310, "a module is one room"
