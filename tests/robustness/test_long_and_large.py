"""Long runs hold their memory, and large data stays within bounds that are stated here."""

import gc
import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from conftest import ROOT, run_python

from robustness.things import gzip_zip, matlab_zip
from text_recognizer.data.archives.byclass import OFFICIAL_SIZES
from text_recognizer.data.emnist import EMNIST
from text_recognizer.data.emnist_lines import EMNISTLines
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.models.cnn import CNN
from text_recognizer.models.line_cnn_simple import LineCNNSimple
from text_recognizer.training.trainer import make_trainer

KIND = "long and large"
MB = 1 << 20
SLOPE = 24 * MB          # the second half of a long run may hold so much more than the first
LINES_GB = 0.35          # 100,000 lines of 32: recipes, no pictures
EMNIST_GB = {"gzip.zip": 0.5, "matlab.zip": 1.05}  # all of EMNIST from either archive, beside 0.45 to import (CUDA's torch: 0.8)
if not Path("/proc/self/statm").exists(): pytest.skip("memory is read from /proc", allow_module_level=True)


def resident() -> int:
    """Bytes of this process that are in memory and its own: pages of mapped files are the system's."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * 4096


def peak() -> int:
    """The most that it has ever been, mapped files included."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


# A program of its own: a child that is forked would find room in what its parent has freed, and use no more for long.
PROGRAM = """
import sys; sys.path.insert(0, {tests!r})
import json
from robustness import test_long_and_large as here
print(json.dumps(here.{work}(*{args!r})))
"""


def alone(folder: Path, work: str, *args: object) -> list:
    """What the function `work` of this file returns in a process of its own that runs in `folder`."""
    folder.mkdir(exist_ok=True)
    text = PROGRAM.format(tests=str(ROOT / "tests"), work=work, args=args)
    done = run_python("-c", text, cwd=folder, timeout=900, TEXT_RECOGNIZER_DATA=str(folder / "data"), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


class Watch(pl.Callback):
    """Notes the memory after each epoch."""

    def __init__(self): self.sizes = []

    def on_train_epoch_end(self, *_):
        gc.collect()
        self.sizes.append(resident())


def train_long(archive: str, epochs: int, streaming: bool) -> "list[int]":
    """Memory after each epoch of a long run with everything that a run does: logs, checkpoints, metrics, validation."""
    watch, small = Watch(), Namespace(conv_dim=2, fc_dim=4)
    if streaming:
        data = EMNISTLines(source=archive, num_train=64, num_val=16, num_test=16, max_length=8, text_source="python",
                           batch_size=16, streaming=True)
        network = LineCNNSimple(data.config(), small)
    else:
        data = EMNIST(source=archive, batch_size=64)
        network = CNN(data.config(), small)
    make_trainer(max_epochs=epochs, accelerator="cpu", enable_progress_bar=False, callbacks=[watch],
                 log_every_n_steps=1).fit(BaseLitModel(network), datamodule=data)
    return watch.sizes


def draw(sizes: "dict[str, list[int]]", path: Path) -> None:
    """The memory of the runs by epoch, as a picture."""
    from matplotlib.figure import Figure

    from text_recognizer.plotting import PALETTE

    figure = Figure(figsize=(7, 2.8), dpi=150, layout="constrained")
    axes = figure.subplots()
    for (name, values), color in zip(sizes.items(), (PALETTE.blue, PALETTE.vermilion)):
        axes.plot(range(1, len(values) + 1), [value / MB for value in values], label=name, color=color)
    top = max(max(values) for values in sizes.values()) / MB
    axes.set(title="Memory stays flat over a long run", xlabel="epoch", ylabel="MB of the process", ylim=(0, 1.25 * top))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def test_memory_is_flat(tally, tmp_path):
    """Many epochs, and many epochs of a stream: the second half holds no more than the first."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    sizes = {}
    for name, streaming in (("CNN on characters", False), ("LineCNNSimple on a stream of new lines", True)):
        with tally.case(name):
            epochs, archive = tally.many(4, 400), str(tmp_path / "gzip.zip")
            found = alone(tmp_path / name, "train_long", archive, epochs, streaming)
            half = len(found) // 2
            sizes[name] = found
            grown = np.median(found[half:]) - np.median(found[half // 2 : half])
            assert grown < SLOPE, f"grew by {grown / MB:.1f} MB from {found[half] / MB:.0f} MB"
    if tally.whole: draw(sizes, ROOT / "docs" / "_build" / "memory.png")  # for docs/images, when it has changed


def write_many(archive: str) -> "tuple[int, int]":
    """Lines written, and bytes that it took."""
    emnist = EMNIST(source=archive)
    emnist.prepare_data()
    before = peak()
    lines = EMNISTLines(source=archive, num_train=100_000, num_val=100, num_test=100, max_length=32, text_source="python")
    lines.prepare_data()
    lines.setup()
    total = 0
    for x, _ in lines.train_dataloader():
        total += len(x)
        if total >= 2000: break
    return len(lines.data_train), peak() - before


@pytest.mark.thorough
def test_a_hundred_thousand_lines(tally, tmp_path):
    """Their recipes are kept, not their pictures, which would be 2.5 GB."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    with tally.case("100,000 lines"):
        number, more = alone(tmp_path, "write_many", str(tmp_path / "gzip.zip"))
        assert number == 100_000 and more < LINES_GB * 2**30, f"{more / 2**30:.2f} GB"


def full_size(name: str) -> bytes:
    """An archive with as many images as the official one: one image over and over, so that it packs well."""
    image, data = np.zeros((28, 28), np.uint8), {}
    image[4:24, 10:18] = 200
    for split, number in OFFICIAL_SIZES.items():
        data[split] = (np.arange(number) % 62).astype(np.uint8), np.broadcast_to(image, (number, 28, 28))
    return gzip_zip(data) if name == "gzip.zip" else matlab_zip(data)


def process_all(archive: str) -> "tuple[list[int], int]":
    """Sizes of the parts, and the most memory that it took beside what the process had."""
    before = peak()
    emnist = EMNIST(source=archive)
    emnist.prepare_data()
    emnist.setup()
    return [len(emnist.data_train), len(emnist.data_val), len(emnist.data_test)], peak() - before


@pytest.mark.thorough
@pytest.mark.parametrize("name", EMNIST_GB)
def test_all_of_emnist(name, tally, tmp_path):
    """814,255 images: read, sampled, turned, written and read back."""
    (tmp_path / name).write_bytes(full_size(name))
    with tally.case(f"814,255 images in {name}"):
        sizes, most = alone(tmp_path, "process_all", str(tmp_path / name))
        assert sum(sizes) > 300_000 and most < EMNIST_GB[name] * 1e9, f"{sizes}, {most / 1e9:.2f} GB"
