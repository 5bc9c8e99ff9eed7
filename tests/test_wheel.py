"""The wheel builds, from the source distribution, and what it installs imports, trains and reads from an empty folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_python

PARTS = ("text_recognizer", "settings.ini", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")


def built_wheel(folder: Path) -> Path:
    """The wheel, built in `folder` out of the source distribution."""
    for part in PARTS:
        if (ROOT / part).is_dir(): shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else: shutil.copy(ROOT / part, folder / part)
    built = run_python("-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), cwd=folder)  # wheel out of sdist
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds the installed wheel and nothing of the checkout."""
    wheel, target = built_wheel(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel], check=True)
    return target


def test_import_from_an_empty_folder(installed, tmp_path):
    program = ("import text_recognizer.data, text_recognizer.models, text_recognizer.lit_models, text_recognizer as t;"
               "from text_recognizer.metadata.paths import data_dirname; print(t.__file__); print(data_dirname())")
    done = run_python("-P" if sys.version_info >= (3, 11) else "-s", "-c", program, cwd=tmp_path, PYTHONPATH=str(installed),
                      TEXT_RECOGNIZER_DATA="")
    assert done.returncode == 0, done.stderr
    module, data = done.stdout.splitlines()
    assert module.startswith(str(installed)), "the checkout was imported in place of the wheel"
    assert not data.startswith(str(installed)), "data must not live beside the installed package"


def test_train_from_an_empty_folder(installed, tmp_path, glyph_data):
    short = [word for part in ("train", "val", "test") for word in (f"--limit_{part}_batches", "2")]
    command = "import sys; from text_recognizer.training.run_experiment import main; sys.exit(main())"
    done = run_python("-c", command, "--data_source", "glyphs", "--data_fraction", "0.02",
                      "--conv_dim", "8", *short, cwd=tmp_path, PYTHONPATH=str(installed),
                      TEXT_RECOGNIZER_DATA=str(glyph_data))
    assert done.returncode == 0, done.stderr
    assert "Best model saved at:" in done.stdout.splitlines()[-1]
    assert list(tmp_path.rglob("*.ckpt")), "the checkpoint belongs below the folder that the command was run in"


def test_the_network_comes_along(installed, tmp_path):
    program = ("import torch; from text_recognizer.reading.pretrained import load_pretrained, pretrained_info;"
               "print(load_pretrained()(torch.zeros(1, 1, 28, 28)).shape[1], len(pretrained_info()['sha256']))")
    done = run_python("-c", program, cwd=tmp_path, PYTHONPATH=str(installed))
    assert done.stdout.split() == ["83", "64"], done.stderr
    place = "text_recognizer/reading/weights"
    shipped = {path.name: path.stat().st_size for path in (installed / place).iterdir()}
    assert set(shipped) == {path.name for path in (ROOT / place).iterdir()}, "all that the checkout has, and nothing else"
    networks = {Path(name).stem for name in shipped if name.endswith(".pt")}
    assert "characters" in networks and set(shipped) == {name + end for name in networks for end in (".pt", ".json")}
    assert sum(shipped.values()) < 4_000_000, "a few megabytes at most, in all"


def test_the_commands_are_installed(installed):
    (entries,) = installed.glob("*.dist-info/entry_points.txt")
    text = entries.read_text()
    assert "read-line = text_recognizer.reading.command:main" in text
    assert "text-recognizer = text_recognizer.training.run_experiment:main" in text
