"""Python 3.10 and newer, and the oldest versions that are allowed: what can be held without installing them."""

import ast
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, run_python
from packaging.version import Version

from robustness.test_hygiene import requirements, settings

KIND = "versions"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def interpreters() -> "dict[str, str]":
    """The Pythons of this machine that we support, by version."""
    def runs(place: "str | None") -> bool:  # a name may be there and lead nowhere
        return bool(place) and subprocess.run([place, "-V"], capture_output=True).returncode == 0

    places = {name: [shutil.which(f"python{name}"), *map(str, Path.home().glob(f".pyenv/versions/{name}.*/bin/python"))]
              for name in PYTHONS}
    return {name: next(filter(runs, some)) for name, some in places.items() if any(map(runs, some))}


def sources() -> "dict[str, str]":
    """Python that a reader may run, by its name: modules, scripts and the cells of notebooks."""
    found = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
             for folder in ("text_recognizer", "training", "tests", "benchmarks", "tools")
             for path in sorted((ROOT / folder).rglob("*.py"))}
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts: continue
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        found[str(path.relative_to(ROOT))] = "\n".join(re.sub(r"(?m)^\s*[%!].*$", "pass", cell) for cell in code)
    return found


def test_all_is_python_3_10(tally):
    """No module, script or cell uses grammar that came later."""
    for name, text in sources().items():
        with tally.case(name): ast.parse(text, feature_version=(3, 10))


COMPILE = ("import ast, json, sys\nwrong = {}\nfor name, text in json.load(sys.stdin).items():\n"
           "    try: compile(text, name, 'exec', ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)\n"
           "    except SyntaxError as error: wrong[name] = str(error)\nprint(json.dumps(wrong))")


@pytest.mark.thorough
def test_every_python_here_compiles_it(tally):
    """Each supported Python that this machine has, itself."""
    text = json.dumps(sources())
    for name, place in {**interpreters(), "this": sys.executable}.items():
        done = subprocess.run([place, "-W", "ignore", "-c", COMPILE], input=text, capture_output=True, text=True, check=True)
        wrong = json.loads(done.stdout)
        for source in sources():
            with tally.case(f"{name}: {source}"): assert source not in wrong, wrong[source]


def test_bounds(tally):
    """What is installed is no older than what is asked for, and what is asked for is tested in a job of its own."""
    for name, bounds in requirements().items():
        if not bounds.startswith(">="): continue
        try: found = Version(version(name))
        except PackageNotFoundError: continue
        with tally.case(f"{name}{bounds}"): assert found >= Version(bounds[2:].split(",")[0])
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]
    with tally.case("the matrix"): assert tuple(jobs["test"]["strategy"]["matrix"]["python"]) == PYTHONS
    with tally.case("the oldest"):
        assert jobs["oldest"]["steps"][1]["with"]["python-version"] == settings()["min_python"] == PYTHONS[0]
        assert any(step.get("run") == "python tools/oldest.py" for step in jobs["oldest"]["steps"])


def test_the_oldest_are_the_lower_bounds(tally):
    """tools/oldest.py asks for all that the package needs, at the lowest that settings.ini allows."""
    listed = run_python("tools/oldest.py", "--print").stdout.split()
    for one in settings()["requirements"].split():
        with tally.case(one): assert one.split(",")[0] in listed and ">=" in one
    with tally.case("tools"): assert any(one.startswith("hypothesis>=") for one in listed)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_the_oldest_are_what_the_text_says(name, tally):
    """The lower bounds that were tried out; raise them here and in settings.ini together."""
    with tally.case(name): assert requirements()[name] == {"numpy": ">=1.26", "torch": ">=2.4"}[name]
