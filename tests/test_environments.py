"""Every lesson runs from an empty folder with nothing but the wheel and its extra for lessons: today's packages, and Colab's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from test_wheel import built_wheel

pytestmark = pytest.mark.thorough
# Google publishes what Colab has (googlecolab/backend-info). Its torch brings a GPU's libraries along, several gigabytes: ours
# is the one of constraints.txt unless COLAB_TORCH names another.
COLAB = ["ipywidgets==7.7.1", "ipython==7.34.0", "anywidget==0.9.21", "numpy==2.1.*"]
LESSONS = sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))
# What Colab's own display asks of a widget: a module that says which widget manager is there, and its environment.
STAND_IN = '''import sys, types
output = types.ModuleType("google.colab.output")
output._widgets = types.SimpleNamespace(_installed_url=None)
def enable_custom_widget_manager(version="x"): output._widgets._installed_url = "https://example.org/manager.js"
output.enable_custom_widget_manager = enable_custom_widget_manager
colab = types.ModuleType("google.colab")
colab.output = output
import google  # whose other parts, such as protobuf's, are there as before
google.colab = colab
sys.modules.update({"google.colab": colab, "google.colab.output": output})'''


def made(folder: Path, wheel: Path, pins: list[str]) -> Path:
    """The Python of a new environment with the wheel, its extra for lessons, and `pins`."""
    constraints = folder / "constraints.txt"
    pinned = {pin.split("=")[0] for pin in pins}
    kept = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.split("=")[0] not in pinned]
    if pins: kept = [line for line in kept if line.split("=")[0] in ("torch", "pytorch-lightning", "torchmetrics")]
    constraints.write_text("\n".join(kept + pins))
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", constraints, f"{wheel}[lessons]", *pins]
    subprocess.run(command, check=True)
    return python


@pytest.fixture(scope="module", params=["plain", "colab"])
def environment(request, tmp_path_factory) -> tuple[Path, bool]:
    """The Python of an environment that has the wheel, and whether its packages are Colab's."""
    folder = tmp_path_factory.mktemp(request.param)
    colab = request.param == "colab"
    pins = COLAB + ([f"torch=={os.environ['COLAB_TORCH']}"] if "COLAB_TORCH" in os.environ else []) if colab else []
    return made(folder, built_wheel(folder), pins), colab


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_from_an_empty_folder(environment, lesson, tmp_path, glyph_data):
    python, colab = environment
    notebook = nbformat.read(lesson, as_version=4)
    if colab: notebook.cells.insert(0, nbformat.v4.new_code_cell(STAND_IN))
    nbformat.write(notebook, tmp_path / lesson.name)
    environ = {**os.environ, "PYTHONPATH": "", "TEXT_RECOGNIZER_DATA": str(glyph_data), "OMP_NUM_THREADS": "1"}
    if colab: environ["COLAB_RELEASE_TAG"] = "release-colab-external"
    program = ("import sys, nbformat; from nbclient import NotebookClient as C; nb = nbformat.read(sys.argv[1], 4);"
               "C(nb, timeout=900, kernel_name='python3').execute()")
    done = subprocess.run([python, "-c", program, lesson.name], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.rmtree(tmp_path, ignore_errors=True)
