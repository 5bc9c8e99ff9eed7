"""Same seed, same result, whatever the hash seed, the number of workers and threads and the way processes are started."""

import json
import multiprocessing
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, run_python
from torch.utils.data import DataLoader

from robustness.things import gzip_zip, run_child, sum_of
from text_recognizer.data.base_data_module import ready
from text_recognizer.data.emnist_lines import EMNISTLines
from text_recognizer.data.glyphs.draw import draw_glyphs, glyph_dataset
from text_recognizer.data.sentence_generator import SentenceGenerator

KIND = "reproducible"

# A program of its own: everything that a seed decides, as sums.
PROGRAM = """
import sys; sys.path.insert(0, {tests!r})
import json, torch
threads, workers = {threads}, {workers}
if threads: torch.set_num_threads(threads)
from robustness.test_reproducible import everything
print(json.dumps(everything({archive!r}, workers)))
"""


def everything(archive: str, workers: int) -> "dict[str, str]":
    """Sums of glyphs, sentences, lines, batches and a trained model."""
    from argparse import Namespace

    import pytorch_lightning as pl

    from text_recognizer.data.emnist import EMNIST
    from text_recognizer.lit_models.base import BaseLitModel
    from text_recognizer.models.cnn import CNN
    from text_recognizer.training.trainer import make_trainer

    lines = EMNISTLines(source=archive, num_train=40, num_val=8, num_test=8, max_length=8, text_source="python",
                        num_workers=workers, batch_size=16)
    lines.prepare_data()
    lines.setup()
    streaming = EMNISTLines(source=archive, num_train=40, num_val=8, num_test=8, max_length=8, text_source="python",
                            num_workers=workers, batch_size=16, streaming=True)
    streaming.setup()
    found = {"glyphs": sum_of(*glyph_dataset(6, 2, show=False)), "lines": sum_of(*lines.data_train.__getitems__(range(40))),
             "sentences": sum_of(SentenceGenerator(seed=5, source="python").generate_many(50, 16)),
             "streamed": sum_of(*(part for _ in range(2) for batch in streaming.train_dataloader() for part in batch))}
    torch.manual_seed(7)
    found["batches"] = sum_of(*(part for _ in range(2) for batch in lines.train_dataloader() for part in batch))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order are other sums: with threads only what is not trained is promised
    pl.seed_everything(3, verbose=False)
    data = EMNIST(source=archive, batch_size=64, num_workers=workers)
    model = BaseLitModel(CNN(data.config(), Namespace(conv_dim=2, fc_dim=8)), {"lr": 0.01})
    make_trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, logger=False, enable_checkpointing=False,
                 num_sanity_val_steps=0).fit(model, datamodule=data)
    torch.set_num_threads(threads)
    return found | {"training": sum_of(*model.state_dict().values())}


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> str:
    """An official archive."""
    path = tmp_path_factory.mktemp("official") / "gzip.zip"
    path.write_bytes(gzip_zip())
    return str(path)


def in_a_program(archive: str, folder: Path, threads: int = 1, workers: int = 0, **environment: str) -> dict:
    """`everything`, in a process of its own with an environment of its own."""
    folder.mkdir(exist_ok=True)
    text = PROGRAM.format(tests=str(Path(__file__).parent.parent), threads=threads, workers=workers, archive=archive)
    done = run_python("-c", text, TEXT_RECOGNIZER_DATA=str(folder / "data"), TEXT_RECOGNIZER_OFFLINE="1", **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def same(found: dict, expected: dict, tally, what: str) -> None:
    """A case for each part."""
    for name, value in expected.items():
        with tally.case(f"{name}, {what}"): assert found[name] == value


def test_in_this_process_and_in_children(archive, tally, tmp_path):
    """Twice in a forked child, with other random states before, with 0 and 2 workers."""
    def restless(archive: str, workers: int) -> dict:
        random.seed(workers), np.random.seed(workers), torch.manual_seed(workers)
        return everything(archive, workers)

    first = run_child(tmp_path / "0", everything, archive, 0)[0]
    for workers in (0, 1, 2, 3) if tally.whole else (2,):
        same(run_child(tmp_path / "0", restless, archive, workers)[0], first, tally, f"{workers} workers")
        same(run_child(tmp_path / f"fresh{workers}", restless, archive, workers)[0], first, tally, f"{workers} workers, no cache")


@pytest.mark.parametrize("what", ["hash seed", "threads", "OMP_NUM_THREADS", "locale"])
@pytest.mark.thorough
def test_in_other_programs(what, archive, tally, tmp_path):
    """Python's hash seed, the threads, and the locale decide nothing."""
    first = in_a_program(archive, tmp_path / "first", PYTHONHASHSEED="0")
    others = {"hash seed": [{"PYTHONHASHSEED": seed} for seed in ("1", "4294967295", "random")],
              "threads": [{"threads": threads} for threads in (2, 4)],
              "OMP_NUM_THREADS": [{"threads": 0, "OMP_NUM_THREADS": "2"}],
              "locale": [{"LC_ALL": "C"}, {"LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0"}, {"TZ": "Pacific/Kiritimati"}]}[what]
    for number, other in enumerate(others):
        same(in_a_program(archive, tmp_path / str(number), **other), first, tally, str(other))


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_start_methods(start, archive, tally, tmp_path, monkeypatch):
    """Workers bring the same batches however their processes are started."""
    if start != "fork" and not tally.whole: pytest.skip("in the whole form")
    monkeypatch.setenv("TEXT_RECOGNIZER_DATA", str(tmp_path))
    for streaming in (False, True):
        lines = EMNISTLines(source=archive, num_train=24, num_val=24, num_test=4, max_length=8, text_source="python",
                            streaming=streaming)
        lines.prepare_data()
        lines.setup()
        for data in (lines.data_train, lines.data_val, lines.emnist.data_train):
            rows = list(range(20))
            with tally.case(f"{type(data).__name__}, {start}"):
                loader = DataLoader(torch.utils.data.Subset(data, rows) if streaming else data, 10, num_workers=1,
                                    collate_fn=ready, multiprocessing_context=multiprocessing.get_context(start))
                found = [part for batch in list(loader)[:2] for part in batch]
                alone = data.__getitems__(rows)
                for got, right in zip((torch.cat(found[::2]), torch.cat(found[1::2])), alone): assert torch.equal(got, right)


def test_glyphs_by_chunks_and_order(tally):
    """A glyph depends on its label, its writer and the seed alone: not on what is drawn with it, nor in what pieces."""
    dice = np.random.default_rng(1)
    labels, writers = dice.integers(4, 66, 300), dice.permutation(300)
    whole = draw_glyphs(labels, writers, seed=9)
    for chunk in (1, 7, 64, 299, 1000):
        with tally.case(f"chunks of {chunk}"): assert torch.equal(draw_glyphs(labels, writers, seed=9, chunk=chunk), whole)
    order = dice.permutation(300)
    with tally.case("another order"): assert torch.equal(draw_glyphs(labels[order], writers[order], seed=9), whole[order])
    with tally.case("some of them"): assert torch.equal(draw_glyphs(labels[:17], writers[:17], seed=9), whole[:17])


IMPORTING = """
import random, sys, json, hashlib
import numpy, torch
def state():
    return [hashlib.sha256(repr(part).encode()).hexdigest() for part in (
        random.getstate(), [x.tolist() if hasattr(x, 'tolist') else x for x in numpy.random.get_state()],
        torch.get_rng_state().tolist())]
def settings(): return torch.get_num_threads(), str(torch.get_default_dtype())
before, set_before = state(), settings()
import importlib, pkgutil, text_recognizer
names = [found.name for found in pkgutil.walk_packages(text_recognizer.__path__, 'text_recognizer.')]
names = [name for name in names if '_modidx' not in name]
moved = []
for name in names:
    importlib.import_module(name)
    if state() != before: moved.append(name); before = state()
print(json.dumps({"names": names, "moved": moved, "same": settings() == set_before}))
"""


@pytest.mark.thorough
def test_importing_moves_nothing(tally, tmp_path):
    """Every module of the package, one after the other: random, NumPy and torch are as they were, and nothing is printed."""
    done = run_python("-c", IMPORTING, cwd=tmp_path, TEXT_RECOGNIZER_DATA=str(tmp_path), PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    for name in found["names"]:
        with tally.case(name): assert name not in found["moved"]
    assert found["same"] and not done.stderr.strip(), done.stderr
    assert len(found["names"]) > 30 and not [path for path in tmp_path.rglob("*") if path.is_file()]
