"""A cell of the table of results: one network trained on one source with one seed for so long, judged, and kept in a file."""

import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a waiting thread must not spend the budget; read when torch is loaded

import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from models import SMALL, accuracy, archive_split, batches, rate_at

import text_recognizer.data as data_classes
import text_recognizer.models as model_classes
from text_recognizer.data.archives.emnist import find_emnist
from text_recognizer.data.augment import augment
from text_recognizer.data.glyphs.draw import GLYPHS_VERSION
from text_recognizer.lit_models.base import BaseLitModel, Metrics
from text_recognizer.metadata.emnist import INVERSE_MAPPING
from text_recognizer.metadata.paths import data_dirname, raw_dirname
from text_recognizer.training.allocator import keep_memory
from text_recognizer.training.util import lit_model_class

VERSION = 2  # of the procedure; cells of another version are made anew
# name in the table: (class, its arguments, peak learning rate, strength of augmentation)
NETWORKS = {
    "MLP": ("MLP", {}, 1e-3, 0),
    "CNN": ("CNN", {}, 2e-3, 0),
    "CNN, augmented": ("CNN", {}, 2e-3, 1),
    "CNN, 32 channels": ("CNN", {"conv_dim": 32}, 2e-3, 0),
    "CNN, 32 channels, augmented": ("CNN", {"conv_dim": 32}, 2e-3, 1),
    "ResCNN": ("ResCNN", {}, 3e-3, 0),
    "ResCNN, augmented": ("ResCNN", {}, 3e-3, 1),
}
LINE_NETWORKS = {"LineCNNSimple": ("LineCNNSimple", {}, 2e-3, 0),
                 "LineCNNSimple, 32 channels": ("LineCNNSimple", {"conv_dim": 32}, 2e-3, 0),
                 "LineCNN": ("LineCNN", {}, 4e-3, 0)}
SOURCES = ("glyphs", "real", "mnist", "lines")
BATCH, LINE_BATCH = 128, 16


def networks(source: str) -> dict[str, tuple]:
    """What is trained on a source, by name."""
    if source == "lines": return LINE_NETWORKS
    # Drawn characters vary as it is, and there is plenty of MNIST: augmentation is measured where images are few.
    return {name: network for name, network in NETWORKS.items() if source == "real" or not network[3]}


@cache
def real_archive():
    """The archive in TEXT_RECOGNIZER_RAW, and how many training images it holds; None where there is none."""
    archive = find_emnist(raw_dirname()) if raw_dirname() else None
    return None if archive is None else (archive, len(archive.labels("train")))


@cache
def characters(source: str) -> tuple[list, dict, dict]:
    """(parts to train on, {column: (images, labels) to judge}, config of the data) of a source of single characters."""
    data = data_classes.MNIST() if source == "mnist" else data_classes.EMNIST(source="glyphs")
    data.prepare_data()
    data.setup()
    both = []
    for part in (data.data_train, data.data_test):
        rows = slice(None) if part.indices is None else part.indices
        both.append((part.data[rows], part.targets[rows]))
    parts, judged = [both[0]], {source: both[1]}
    archive = real_archive()[0] if real_archive() else None
    if source == "glyphs" and archive: judged["transfer"] = archive_split(archive, "test")
    if source == "real":
        own = archive_split(archive, "train")
        parts, judged = [own, both[0]] if len(own[0]) < SMALL else [own], {"real": archive_split(archive, "test")}
    return parts, judged, data.config()


def train(lit: BaseLitModel, stream, seconds: float, peak: float, strength: float) -> int:
    """Adam, its rate rising and falling once within `seconds` of processor time; the number of images it has seen."""
    lit.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(lit.parameters(), lr=peak)
    seen, start = 0, time.process_time()
    for x, y in stream:
        if (done := (time.process_time() - start) / seconds) >= 1: return seen
        optimizer.param_groups[0]["lr"] = peak * rate_at(done)
        if strength: x = augment(x, strength)
        loss = lit.loss_of(lit(x.to(memory_format=torch.channels_last)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(x)
    raise AssertionError("the stream has no end")


@cache
def line_data():
    """The lines that all line networks share."""
    data = data_classes.EMNISTLines(source="glyphs", text_source="python")
    data.prepare_data()
    data.setup()
    return data


def line_stream(seed: int):
    """Batches of lines without end."""
    data, generator = line_data(), torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(data.data_train), generator=generator).split(LINE_BATCH):
            yield data.data_train.__getitems__(rows.tolist())


@torch.no_grad()
def judge_lines(lit: BaseLitModel) -> dict[str, float]:
    """What a run logs, on the test lines and in percent; `acc_padding_only` is the reader that says <P> each time."""
    data = line_data()
    padding = INVERSE_MAPPING["<P>"]
    metrics = Metrics(len(data.mapping), padding)
    lit.eval()
    for rows in torch.arange(len(data.data_test)).split(50):
        x, y = data.data_test.__getitems__(rows.tolist())
        read = lit.labels_of(lit(x))
        used = metrics.update(F.pad(read, (0, y.shape[1] - read.shape[1]), value=padding), y)
    return {name: 100 * metric.compute().item() for name, metric in used.items()}


def cell(name: str, source: str, seed: int, seconds: float) -> dict:
    """Train and judge one network, on one thread."""
    torch.set_num_threads(1)
    keep_memory()
    kind, settings, peak, strength = networks(source)[name]
    torch.manual_seed(seed)
    if source == "lines": config, stream = line_data().config(), line_stream(seed)
    else:
        parts, judged, config = characters(source)
        stream = batches(parts, BATCH, seed)
    model = getattr(model_classes, kind)(config, Namespace(**settings))
    lit = lit_model_class(kind)(model)
    seen = train(lit, stream, seconds, peak, strength)
    scores = judge_lines(lit) if source == "lines" else \
        {column: 100 * accuracy(model, x, y, "cpu") for column, (x, y) in judged.items()}
    size = sum(parameter.numel() for parameter in model.parameters())
    return {"scores": scores, "images_a_second": seen / seconds, "parameters": size}


def path_of(name: str, source: str, seed: int, seconds: float) -> Path:
    """Where a cell is kept; settings and data that change change the name."""
    kind, settings, peak, strength = networks(source)[name]
    data = f"{source}{real_archive()[1]}" if source == "real" and real_archive() else source
    words = [f"v{VERSION}", f"glyphs{GLYPHS_VERSION}", data, kind, *(f"{k}{v}" for k, v in settings.items()), f"lr{peak:g}",
             f"augment{strength:g}", f"{seconds:g}s", f"seed{seed}"]
    return data_dirname() / "results" / ("-".join(words) + ".json")


@contextmanager
def claimed(path: Path, wait: bool) -> Iterator[bool]:
    """True while this process alone is at a cell; without `wait`, False when another one is. A killed one's claim is void."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try: lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try: yield not path.is_file()
    finally: lock.release()
