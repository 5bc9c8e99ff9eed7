"""A run that is killed and goes on ends with the weights of one that was not: same bits, wherever the kill fell."""

import multiprocessing
import os
import random
import signal
import time
from argparse import Namespace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from text_recognizer.data.base_data_module import BaseDataModule
from text_recognizer.data.emnist_lines import EMNISTLines
from text_recognizer.data.lines.dataset import LineDataset
from text_recognizer.data.lines.store import line_writers
from text_recognizer.data.util import BaseDataset, to_image
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.models.cnn import CNN
from text_recognizer.models.line_cnn_simple import LineCNNSimple
from text_recognizer.training.resuming import KeepLast
from text_recognizer.training.trainer import make_trainer

EPOCHS, BATCHES = 3, 7  # 21 steps, the last batch of an epoch a short one
draw = random.Random(1804)
# In which step, how many seconds into it (in the middle of writing a checkpoint too), and how many steps between two of them.
KILLS = [(step, 0.03 * draw.random(), draw.choice([1, 1, 2, 5])) for step in sorted(draw.sample(range(EPOCHS * BATCHES), 10))]
fork = multiprocessing.get_context("fork")  # a child has torch imported already


class Noise(BaseDataModule):
    """Random images with random labels: every batch matters, and nothing is read from disk."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mapping, self.input_dims, self.output_dims = list("0123456789"), (1, 28, 28), (1,)

    def setup(self, stage=None):
        generator = torch.Generator().manual_seed(5)
        images = torch.randint(0, 256, (BATCHES * 16 - 5, 28, 28), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, 10, (len(images),), generator=generator)
        self.data_train = self.data_val = self.data_test = BaseDataset(images, labels, transform=to_image)


class Fresh(EMNISTLines):
    """A stream of lines of this file's words, written with noise for glyphs; nothing is written to disk."""

    def __init__(self, **kwargs):
        super().__init__(source="glyphs", text_source=__file__, streaming=True, max_length=4, num_train=BATCHES * 16 - 5,
                         **kwargs)

    def prepare_data(self, **kwargs):
        generator, characters = torch.Generator().manual_seed(5), torch.arange(4, 66).repeat(3)
        images = torch.randint(0, 256, (len(characters), 28, 28), dtype=torch.uint8, generator=generator)
        self.emnist.data_train = self.emnist.data_val = self.emnist.data_test = BaseDataset(images, characters)
        for part, writer in line_writers(self.emnist, self.settings).items():
            length = self.num_train if part == "train" else 16
            self._parts[part] = LineDataset(writer.shelf.images, writer.recipe, length, self.input_dims[-1], part == "train")


class Count(pl.Callback):
    """Tells the parent process how far the run is."""

    def __init__(self, step): self.step = step

    def on_train_batch_start(self, trainer, *_): self.step.value = trainer.global_step


def train(folder: Path, ckpt_path, every: int, step, doomed: bool, workers: int = 0, streaming: bool = False,
          max_epochs: int = EPOCHS, total_steps: "int | None" = None, **kwargs) -> None:
    """A run of epochs with dropout, augmentation, Adam and a schedule; leaves what it ends with in final.pt.

    A process that is `doomed` waits for its end, should it be done before.
    """
    torch.set_num_threads(1)
    pl.seed_everything(3, verbose=False)
    data_class, model_class = (Fresh, LineCNNSimple) if streaming else (Noise, CNN)
    data = data_class(batch_size=16, num_workers=workers)
    model = model_class(data.config(), Namespace(conv_dim=2, fc_dim=8))
    lit_model = BaseLitModel(model, {"lr": 0.01, "one_cycle_max_lr": 0.02, "one_cycle_total_steps": total_steps, "augment": 1.0})
    trainer = make_trainer(max_epochs=max_epochs, default_root_dir=folder, accelerator="cpu", enable_progress_bar=False,
                           callbacks=[KeepLast(every=every), Count(step)], **kwargs)
    trainer.fit(lit_model, datamodule=data, ckpt_path=ckpt_path)
    step.value = trainer.global_step
    torch.save({"weights": lit_model.state_dict(), "optimizer": trainer.optimizers[0].state_dict(),
                "losses": {name: float(value) for name, value in trainer.callback_metrics.items()}}, folder / "final.pt")
    if doomed: time.sleep(60)


def run(folder: Path, ckpt_path=None, every=1, kill=None, after=0.01, **kwargs):
    """`train` in a process of its own; killed `after` seconds of step `kill`; the steps that it began."""
    step = fork.Value("i", -1)
    child = fork.Process(target=train, args=(folder, ckpt_path, every, step, kill is not None), kwargs=kwargs)
    child.start()
    if kill is not None:
        while step.value < kill and child.is_alive(): time.sleep(0.0005)
        time.sleep(after)
        os.kill(child.pid, signal.SIGKILL)
    child.join(120)
    assert child.exitcode == (0 if kill is None else -signal.SIGKILL), f"exit code {child.exitcode}"
    return step.value


def newest(folder: Path):
    """The last.state of the latest run in the folder; None if none was written yet."""
    found = sorted(folder.glob("lightning_logs/version_*/last.state"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def same(a, b) -> bool:
    """True when two nests of dicts, lists, numbers and tensors are equal bit for bit."""
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run(folder) == EPOCHS * BATCHES
    return torch.load(folder / "final.pt", weights_only=True)


def check_end(folder, uninterrupted):
    final = torch.load(folder / "final.pt", weights_only=True)
    for part in ("weights", "optimizer"): assert same(final[part], uninterrupted[part]), f"{part} differ"
    # A run that was killed behind its last validation has nothing left to validate.
    for name in {"validation/loss", "validation/acc"} & final["losses"].keys():
        assert final["losses"][name] == uninterrupted["losses"][name]


@pytest.mark.parametrize(("kill", "after", "every"), KILLS)
def test_killed_and_resumed_equals_uninterrupted(tmp_path, uninterrupted, kill, after, every):
    run(tmp_path, every=every, kill=kill, after=after)
    checkpoint = newest(tmp_path)
    if checkpoint is not None: torch.load(checkpoint, weights_only=True)  # whole, whenever the kill came
    run(tmp_path, ckpt_path=checkpoint, every=every)
    check_end(tmp_path, uninterrupted)


def test_ten_kills_are_ten():
    """Spread over the run: in each epoch, and in the first and the last step of one."""
    steps = [step for step, _, _ in KILLS]
    assert len(set(steps)) == 10 and {step // BATCHES for step in steps} == {0, 1, 2}
    assert {0, BATCHES - 1} <= {step % BATCHES for step in steps}


def test_from_a_checkpoint_of_some_steps_ago(tmp_path, uninterrupted):
    run(tmp_path, every=4, kill=11)
    saved = torch.load(newest(tmp_path), weights_only=True)["global_step"]
    assert saved in (8, 12)  # the kill comes at some moment of step 11 or just after it
    run(tmp_path, ckpt_path=newest(tmp_path), every=4)
    check_end(tmp_path, uninterrupted)


def test_from_the_best_checkpoint_of_an_epoch(tmp_path, uninterrupted):
    run(tmp_path, every=0, kill=10)
    best = next(path for path in tmp_path.rglob("epoch=0000*.ckpt") if not path.name.startswith("."))
    run(tmp_path, ckpt_path=best)
    check_end(tmp_path, uninterrupted)


@pytest.mark.parametrize("limit", [3, None])
@pytest.mark.parametrize("workers", [0, 1])
def test_more_epochs_than_were_asked_for_at_first(tmp_path, limit, workers):
    """Two epochs, then a third, are three, also when each ends after three batches of seven: none is left out of another."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts): folder.mkdir()
    long = {"workers": workers, "limit_train_batches": limit, "total_steps": EPOCHS * BATCHES}
    run(whole, **long)
    run(parts, max_epochs=EPOCHS - 1, **long)
    run(parts, ckpt_path=newest(parts), **long)
    check_end(parts, torch.load(whole / "final.pt", weights_only=True))


@pytest.mark.parametrize("kill", [1, 2, 3, 4])
def test_killed_in_epochs_that_end_before_their_last_batch(tmp_path, kill):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts): folder.mkdir()
    run(whole, limit_train_batches=3)
    run(parts, kill=kill, limit_train_batches=3)
    run(parts, ckpt_path=newest(parts), limit_train_batches=3)
    check_end(parts, torch.load(whole / "final.pt", weights_only=True))


def test_twice_and_with_worker_processes(tmp_path, uninterrupted):
    run(tmp_path, kill=5, workers=1)
    run(tmp_path, ckpt_path=newest(tmp_path), kill=12, workers=1)
    run(tmp_path, ckpt_path=newest(tmp_path), workers=1)
    check_end(tmp_path, uninterrupted)


@pytest.fixture(scope="module")
def uninterrupted_stream(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted_stream")
    run(folder, streaming=True)
    return torch.load(folder / "final.pt", weights_only=True)


@pytest.mark.parametrize(("number", "streaming"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)])
def test_ctrl_c_and_sigterm_finish_the_batch_and_can_go_on(tmp_path, uninterrupted, uninterrupted_stream, number, streaming):
    """The state is that of the step in which the signal came, or of the one after it, however far apart states are written."""
    step = fork.Value("i", -1)
    rare = {"streaming": streaming, "check_val_every_n_epoch": EPOCHS}
    child = fork.Process(target=train, args=(tmp_path, None, 0, step, False), kwargs=rare)
    child.start()
    while step.value < 9 and child.is_alive(): time.sleep(0.0005)
    os.kill(child.pid, number)
    child.join(60)
    assert child.exitcode == 0 and step.value < EPOCHS * BATCHES, "it stops cleanly, before its end"
    (tmp_path / "final.pt").unlink()
    saved = torch.load(newest(tmp_path), weights_only=True)["global_step"]
    assert 9 <= saved <= 12 and saved == step.value
    run(tmp_path, ckpt_path=newest(tmp_path), **rare)
    check_end(tmp_path, uninterrupted_stream if streaming else uninterrupted)


@pytest.mark.parametrize(("kill", "workers"), [(2, 0), (BATCHES, 0), (BATCHES + 3, 2)])
def test_a_stream_goes_on_with_the_line_that_comes_next(tmp_path, uninterrupted_stream, kill, workers):
    """Killed in the middle of the first epoch, at the start of the second and in its middle: none is missed or seen twice."""
    run(tmp_path, kill=kill, workers=workers, streaming=True)
    run(tmp_path, ckpt_path=newest(tmp_path), workers=workers, streaming=True)
    check_end(tmp_path, uninterrupted_stream)
