"""Other people's machines: what is offered and not installed, small, old, foreign, or asked for twice."""

import re
import sys
from argparse import Namespace
from collections import namedtuple

import numpy as np
import pytest
import torch
from conftest import ROOT, run_python

from text_recognizer.data import EMNISTLines, loaders
from text_recognizer.data.base_data_module import BaseDataModule
from text_recognizer.data.glyphs.draw import draw_glyphs, glyph_dataset
from text_recognizer.data.lines.photographed import Hands, PhotographedLines, PhotographedWriter
from text_recognizer.data.sentence_generator import SentenceGenerator
from text_recognizer.data.util import BaseDataset, to_image
from text_recognizer.reading.form import hand_strokes, labels_of
from text_recognizer.reading.lines import read_line
from text_recognizer.reading.paper import write_line
from text_recognizer.training.run_experiment import main

TINY = ["--model_class", "MLP", "--fc1", "16", "--fc2", "8", "--data_source", "glyphs", "--data_fraction", "0.02",
        "--limit_train_batches", "2", "--limit_val_batches", "1", "--limit_test_batches", "1", "--gpus", "0",
        "--enable_progress_bar", "false", "--enable_model_summary", "false"]

pytestmark = pytest.mark.usefixtures("one_thread")


def refusal(argv, capsys) -> str:
    """The one line with which the command refuses `argv`."""
    with pytest.raises(SystemExit) as stop: main(argv)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert stop.value.code == 2 and len(lines) == 1 and lines[0].startswith("run_experiment: error: "), lines
    return lines[0]


@pytest.mark.parametrize(("argv", "said"), [
    (["--accelerator", "tpu"], "torch_xla"), (["--strategy", "xla"], "torch_xla"), (["--strategy", "deepspeed"], "deepspeed"),
    (["--precision", "transformer-engine"], "transformer_engine"), (["--profiler", "xla"], "torch_xla"),
    (["--accelerator", "hpu"], "hpu"),
])
def test_what_is_offered_and_not_installed(argv, said, tmp_path, capsys, monkeypatch):
    if argv[1] == "deepspeed": pytest.importorskip("pytorch_lightning.strategies.deepspeed")
    monkeypatch.chdir(tmp_path)
    argv = [*(TINY if "--accelerator" not in argv else [word for word in TINY if word not in ("--gpus", "0")]), *argv]
    assert said in refusal(argv, capsys)


def test_a_share_of_little_data(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refusal([*TINY, "--batch_size", "512", "--overfit_batches", "0.01"], capsys)
    assert "overfit_batches" in said and "limit_train_batches" not in said, said


@pytest.mark.parametrize(("module", "prog"), [("text_recognizer.training", "run_experiment"),
                                              ("text_recognizer.training.run_experiment", "run_experiment"),
                                              ("training.run_experiment", "run_experiment"),
                                              ("text_recognizer.reading", "read-line"),
                                              ("text_recognizer.reading.command", "read-line")])
def test_python_dash_m(module, prog):
    done = run_python("-m", module, "--help", cwd=ROOT)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {prog}"), done.stdout[:200] + done.stderr[-500:]


def test_python_dash_m_of_every_module_with_a_main():
    """Whatever has a `main` for a terminal has it under `python -m`; a package without one says so, with Python's words."""
    for path in sorted((ROOT / "text_recognizer").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if re.search(r"^def main\(", source, re.MULTILINE): assert '\nif __name__ == "__main__"' in source, path
    done = run_python("-m", "text_recognizer", cwd=ROOT)
    assert done.returncode == 1 and "cannot be directly executed" in done.stderr, done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_screen_that_lacks_characters(encoding, tmp_path):
    here = tmp_path / "Кириллица и 日本"
    here.mkdir()
    done = run_python("-m", "text_recognizer.training", *TINY, "--enable_progress_bar", "true", cwd=here,
                      PYTHONIOENCODING=encoding, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.match(r"Best model saved at: .*\?+ \? \?\?.*\.ckpt$", done.stdout.strip().splitlines()[-1]), done.stdout[-300:]


def offline_runs(folder) -> list:
    return sorted(path for path in folder.rglob("offline-run-*") if path.is_dir())


def test_two_trainings_in_one_process_are_two_wandb_runs(tmp_path, capsys, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for lr in ("0.001", "0.01"): main([*TINY, "--logger", "wandb", "--lr", lr])
    runs = offline_runs(tmp_path)
    assert len(runs) == 2 and wandb.run is None, runs
    for run in runs:
        pictures = {path.parent.name for path in (run / "files" / "media" / "images").rglob("*.png")}
        tables = {path.name.split("_")[0] for path in (run / "files" / "media" / "table").rglob("*.json")}
        assert {"validation", "test"} <= pictures and {"mistakes"} == tables, (pictures, tables)


def test_wandb_without_an_account_names_both_ways_out(tmp_path, capsys, monkeypatch):
    pytest.importorskip("wandb")
    done = run_python("-m", "text_recognizer.training", *TINY, "--wandb", cwd=tmp_path, HOME=str(tmp_path), WANDB_MODE="online",
                      WANDB_SILENT="true", WANDB_API_KEY="", NETRC=str(tmp_path / "netrc"))
    assert done.returncode == 2, done.stderr[-1000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("run_experiment: error: logger: wandb") and "`wandb login`" in last and "WANDB_MODE=offline" in last


def test_a_folder_called_wandb_is_not_the_package(tmp_path, capsys, monkeypatch):
    (tmp_path / "wandb").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    sys.path_importer_cache.clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "wandb"]: monkeypatch.delitem(sys.modules, name)
    from text_recognizer.training.loggers import is_installed
    assert not is_installed("wandb")


def test_a_card_that_emulates_bfloat16_gets_float16(monkeypatch):
    """A T4, Colab's, as torch describes it: bfloat16 is "supported", at compute capability 7.5."""
    from text_recognizer.training.trainer import with_defaults
    for name, answer in (("is_available", True), ("is_bf16_supported", True), ("get_device_capability", (7, 5))):
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    assert with_defaults({})["precision"] == "16-mixed"


@pytest.mark.parametrize("workers", [0, 1])
def test_another_default_device(workers):
    """Orders and batches are made on the CPU; "meta" is a device on which no number can be read."""
    images = BaseDataset(torch.zeros(10, 28, 28, dtype=torch.uint8), torch.arange(10), transform=to_image)
    data = BaseDataModule(batch_size=4, num_workers=workers)
    data.data_train = data.data_val = images
    torch.set_default_device("meta")
    try:
        assert sorted(int(label) for _, labels in data.train_dataloader() for label in labels) == list(range(10))
        assert [len(labels) for _, labels in data.val_dataloader()] == [4, 4, 2]
    finally: torch.set_default_device(None)


def test_drawing_and_reading_on_another_default_device():
    """Glyphs, lines in many hands and `read_line` come out as ever."""
    def made() -> list:
        hands = Hands.drawn(2, each=1)
        x, y = PhotographedLines(PhotographedWriter(hands, SentenceGenerator(source="python"), 8), 2, width=224)[0]
        line = write_line("on", list(draw_glyphs(labels_of("on"), [3, 3]).numpy()), np.random.default_rng(0)).ink
        return [x, y, *glyph_dataset(2, 1, show=False), read_line(np.pad(line, 12)).text, str(hand_strokes("ab"))]

    expected = made()
    torch.set_default_device("meta")
    try: found = made()
    finally: torch.set_default_device(None)
    assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(found, expected, strict=True))


def test_little_shared_memory(tmp_path, monkeypatch, capsys):
    """A container of Docker's has 64 MB of it: lines with four workers need more, and the main process loads them."""
    monkeypatch.setattr(loaders, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: namedtuple("usage", "total used free")(64 << 20, 0, 64 << 20))
    sizes = {"num_train": 256, "num_val": 128, "num_test": 128, "data_source": "glyphs", "data_fraction": 0.02}
    data = EMNISTLines(Namespace(num_workers=4, **sizes))
    data.prepare_data()
    data.setup()
    loader = data.train_dataloader()
    x, _ = next(iter(loader))
    assert x.shape == (128, 1, 28, 896) and loader.num_workers == 0
    said = capsys.readouterr().err
    assert "num_workers: expected 103 MB of free shared memory for 4 worker processes, found 67.1 MB" in said, said
    data.val_dataloader()
    assert capsys.readouterr().err == "", "said once"
