"""nbdev's own commands have something to work with: every exported name can be shown as documentation."""

import importlib
import inspect

import pytest
from conftest import ROOT

showdoc = pytest.importorskip("nbdev.showdoc", reason="nbdev is not installed")
MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts)
                 for path in (ROOT / "text_recognizer").rglob("*.py") if not path.name.startswith("_"))


def test_there_are_modules():
    assert len(MODULES) > 50


@pytest.mark.parametrize("name", MODULES)
def test_every_exported_name_can_be_shown(name):
    module = importlib.import_module(name)
    for exported in module.__all__:
        thing = getattr(module, exported)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)): continue
        if thing.__module__ == "builtins": continue  # another name for Python's own, such as Strokes for a list
        shown = str(showdoc.show_doc(thing, renderer=showdoc.BasicMarkdownRenderer))
        assert exported in shown, f"{name}.{exported}: {shown[:200]}"
        assert thing.__doc__, f"{name}.{exported} has no docstring"


