"""Small archives in the official formats, children that can be killed, and sums of what they make."""

import ctypes
import gzip
import hashlib
import io
import multiprocessing
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
import torch

from text_recognizer.metadata.emnist import CHARACTERS

fork = multiprocessing.get_context("fork")  # a child has everything imported already
SPLITS = {"train": 420, "test": 140}
MAPPING = np.array([[label, ord(character)] for label, character in enumerate(CHARACTERS)], np.uint8)


# --- archives -----------------------------------------------------------------------------------------------------------
def arrays(counts: "dict[str, int] | None" = None, seed: int = 0) -> dict:
    """Labels of all 62 classes and images of noise, as they are stored: on their sides."""
    rng = np.random.default_rng(seed)
    return {split: (rng.permutation(np.arange(n) % 62).astype(np.uint8), rng.integers(0, 256, (n, 28, 28), dtype=np.uint8))
            for split, n in (counts or SPLITS).items()}


def idx(array: np.ndarray) -> bytes:
    """A gzipped idx file of bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), 1, mtime=0)


def idx_files(data: dict) -> "dict[str, bytes]":
    """The four files of ByClass by their names."""
    return {f"emnist-byclass-{split}-{part}-idx{array.ndim}-ubyte.gz": idx(array)
            for split, pair in data.items() for part, array in zip(("labels", "images"), pair)}


def zipped(files: "dict[str, bytes]") -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items(): archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def gzip_zip(data: "dict | None" = None, more: "dict[str, bytes] | None" = None) -> bytes:
    """gzip.zip, and `more` in it."""
    return zipped({**{f"gzip/{name}": content for name, content in idx_files(data or arrays()).items()}, **(more or {})})


def mat_file(data: "dict | None" = None, compress: bool = True, mapping: np.ndarray = MAPPING) -> bytes:
    """emnist-byclass.mat."""
    splits = {split: {"images": images.reshape(-1, 784), "labels": labels[:, None]}
              for split, (labels, images) in (data or arrays()).items()}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"dataset": {**splits, "mapping": mapping}}, do_compression=compress)
    return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]  # scipy writes the time of day into it


def matlab_zip(data: "dict | None" = None, more: "dict[str, bytes] | None" = None) -> bytes:
    """matlab.zip, and `more` in it."""
    return zipped({"matlab/emnist-byclass.mat": mat_file(data), **(more or {})})


# --- sums ---------------------------------------------------------------------------------------------------------------
def sum_of(*parts: object) -> str:
    """A sum over tensors, arrays, bytes, and what else has a repr."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor): part = part.detach().cpu().contiguous().numpy()
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            part = np.ascontiguousarray(part).tobytes()
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()[:16]


def sum_of_data(module: object) -> str:
    """Of all images and labels that a data module serves."""
    sets = [getattr(module, f"data_{part}") for part in ("train", "val", "test")]
    return sum_of(module.source, *(part for data in sets for part in data.__getitems__(list(range(len(data))))))


def weights_of(checkpoint: Path) -> str:
    """Of the weights in a checkpoint."""
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    return sum_of(*(part for name in sorted(state) for part in (name, state[name])))


# --- children -----------------------------------------------------------------------------------------------------------
TOUCHING = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.rmdir", "os.truncate", "shutil.rmtree",
            "tempfile.mkstemp", "os.listdir", "os.scandir"}


class Touches:
    """An audit hook that counts how often this process touches files below a folder, and can kill it at one of them."""

    def __init__(self, folder: Path, kill_at: "int | None"):
        self.folder, self.kill_at, self.count = str(folder), kill_at, 0

    def __call__(self, event: str, args: tuple) -> None:
        if event not in TOUCHING or not any(isinstance(arg, (str, Path)) and self.folder in str(arg) for arg in args): return
        if self.count == self.kill_at: os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


class Ended(Exception):
    """How a child ended that brought no result."""


def _child(pipe, begun, folder: Path, data: Path, kill_at: "int | None", memory: int, work: Callable, args: tuple) -> None:
    os.setsid()  # so that it can be killed together with its workers
    if sys.platform == "linux": ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it does not outlive the test
    os.environ["TEXT_RECOGNIZER_DATA"] = str(data)
    os.chdir(folder)
    torch.set_num_threads(1)
    if memory and Path("/proc/self/statm").exists():
        have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (have + memory, have + memory))
    touches = Touches(folder, kill_at)
    with open(folder / "printed.txt", "a", encoding="utf-8", errors="backslashreplace") as file:
        sys.stdout = sys.stderr = file
        sys.addaudithook(touches)
        begun.value = 1
        try: result = work(*args), touches.count
        except BaseException as error:
            traceback.print_exc()
            result = error
        file.flush()
        try: pipe.send(result)
        except Exception: pipe.send(Ended(f"{type(result).__name__}: {result}"))  # an error that cannot be pickled
    pipe.close()


def run_child(folder: Path, work: Callable, *args: object, kill_after: "float | None" = None,
              kill_at: "int | None" = None, limit: float = 120, memory: int = 0,
              data: "Path | None" = None) -> "tuple[object, int, float]":
    """What `work(*args)` returns in a child that runs in `folder`, how often it touched files there, and its seconds.

    `kill_after` seconds, or when it touches files for the `kill_at`-th time, it is killed; then `Ended` is raised, unless it
    was done before. An exception of the child is raised here. With `memory` it cannot have more bytes than that in addition.
    Its data folder is `data`, or the folder of that name in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours, theirs = fork.Pipe(duplex=False)
    begun = fork.Value("i", 0)
    child = fork.Process(target=_child,
                         args=(theirs, begun, folder, data or folder / "data", kill_at, memory, work, args), daemon=False)
    child.start()
    theirs.close()
    try:
        start = time.monotonic()
        while not begun.value and child.is_alive() and time.monotonic() - start < limit: time.sleep(0.0005)
        start = time.monotonic()
        there = ours.poll(limit if kill_after is None else kill_after)
        try: result = ours.recv() if there else None
        except EOFError: result = None
        seconds = time.monotonic() - start
    finally:
        try: os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError: child.kill()
        child.join(30)
        ours.close()
    if result is None: raise Ended("it was killed" if there or kill_after is not None else f"it hung for {limit} s")
    if isinstance(result, BaseException): raise result
    return (*result, seconds)


def leftovers(folder: Path) -> "list[str]":
    """What unfinished writing has left below `folder`."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if ".part" in path.name and path.is_file())


def chance(*numbers: object) -> random.Random:
    """Dice that fall the same for the same arguments."""
    return random.Random(repr(numbers))
