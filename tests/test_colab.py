"""The pad and the explorer with the versions that Colab has, which are older than anybody else's."""

import os
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.thorough
VERSIONS = ["ipywidgets==7.7.1", "ipython==7.34.0", "anywidget==0.9.21"]
VIEW = "application/vnd.jupyter.widget-view+json"
# What anywidget asks of Colab's own package, which is nowhere else to be had.
COLAB = """
import sys, types
manager = types.SimpleNamespace(_installed_url=None)
output = types.ModuleType("google.colab.output")
output._widgets = manager
def enable_custom_widget_manager(version="x"): manager._installed_url = "https://example.org/manager.js"
output.enable_custom_widget_manager = enable_custom_widget_manager
colab, google = types.ModuleType("google.colab"), types.ModuleType("google")
google.colab, colab.output = colab, output
sys.modules.update({"google": google, "google.colab": colab, "google.colab.output": output})
import IPython, anywidget, ipywidgets
print(ipywidgets.__version__, IPython.__version__, anywidget.__version__)
"""
PAD = """
from text_recognizer.reading.pad import HandwritingPad
pad = HandwritingPad(boxes=4)
pad
"""
EXPLORER = """
import torch
from text_recognizer.explorer import explore_live
from text_recognizer.metadata.emnist import DIMS, MAPPING
from text_recognizer.models.cnn import CNN
explore_live(CNN({"input_dims": DIMS, "mapping": MAPPING}), torch.rand(20, 1, 28, 28), torch.arange(20) + 4)
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> list:
    """What the three cells show."""
    folder = tmp_path_factory.mktemp("colab")
    asked = [sys.executable, "-m", "pip", "install", "-q", "--target", folder / "packages", *VERSIONS]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=600)
    if done.returncode: pytest.skip(f"{' '.join(VERSIONS)} cannot be installed here: {done.stderr.strip()[-200:]}")
    cells = [nbformat.v4.new_code_cell(source) for source in (COLAB, PAD, EXPLORER)]
    path = os.pathsep.join(filter(None, [str(folder / "packages"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "COLAB_RELEASE_TAG": "release-colab"}
    client = NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=300, resources={"metadata": {"path": folder}})
    client.execute(env=environment)
    return [cell.outputs for cell in cells]


def test_these_are_the_versions(outputs):
    assert outputs[0][0].text.split() == [asked.split("==")[1] for asked in VERSIONS]


def test_the_pad_says_which_manager_shows_it(outputs):
    (shown,) = outputs[1]
    assert VIEW in shown.data and "image/png" not in shown.data, "Colab would show the picture in place of the pad"
    assert "custom_widget_manager" in str(shown.metadata[VIEW])


def test_the_explorer_has_its_controls(outputs):
    (shown,) = outputs[2]
    assert shown.data[VIEW]["model_id"] and "image/png" not in shown.data
