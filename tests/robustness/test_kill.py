"""Killed at any instant: the next run needs no cleaning up, and ends with what a run that nobody disturbed ends with.

Half of the kills come at a random moment, half right before the process touches a file for the n-th time, where the
moments are that matter most.
"""

import contextlib
import hashlib
import io
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fault_server import FaultServer

from robustness.test_bad_files import few_glyphs
from robustness.things import (
    Ended,
    chance,
    fork,
    gzip_zip,
    leftovers,
    matlab_zip,
    run_child,
    sum_of,
    sum_of_data,
    weights_of,
)
from text_recognizer.data.download import http, sources
from text_recognizer.data.download.sources import Expected, Source, fetch_emnist
from text_recognizer.data.emnist import EMNIST
from text_recognizer.data.emnist_lines import EMNISTLines
from text_recognizer.data.glyphs import draw as glyphs
from text_recognizer.files import locked, replacing
from text_recognizer.metadata.paths import data_dirname
from text_recognizer.progress import Bar, progress
from text_recognizer.training.run_experiment import main

KIND = "killed at any instant"


# --- what is killed: each does its work in the data folder of its process, and returns a sum of the result ------------------
def download(url: str, whole: bool) -> str:
    """Fetch EMNIST from a server, members alone or the whole archive."""
    os.environ |= {"TEXT_RECOGNIZER_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    http.PAUSE = 0.005
    content = matlab_zip() if whole else gzip_zip()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = tuple(Expected(info.filename, info.file_size, "sha256:" + hashlib.sha256(archive.read(info)).hexdigest())
                        for info in archive.infolist())
    name = "matlab.zip" if whole else "gzip.zip"
    sources.EMNIST_SOURCES = [Source(f"{url}/{name}", Expected(name, None, "md5:" + hashlib.md5(content).hexdigest()), members)]
    path = fetch_emnist(data_dirname() / "downloaded" / "emnist", show=False)
    files = sorted(file for file in path.rglob("*") if file.suffix in (".gz", ".zip"))
    return sum_of(*(part for file in files for part in (file.name, file.read_bytes())))


def process(archive: str) -> str:
    """Process an official archive."""
    emnist = EMNIST(source=archive)
    emnist.prepare_data()
    emnist.setup()
    return sum_of_data(emnist)


def draw() -> str:
    """Draw glyphs."""
    glyphs.glyph_dataset = few_glyphs
    return process("glyphs")


def write_lines(archive: str) -> str:
    """Write lines of text."""
    lines = EMNISTLines(source=archive, num_train=60, num_val=20, num_test=20, max_length=8, text_source="python")
    lines.prepare_data()
    lines.setup()
    return sum_of_data(lines)


ARGV = ["--model_class", "CNN", "--data_class", "EMNIST", "--conv_dim", "2", "--fc_dim", "8", "--batch_size", "64", "--gpus", "0",
        "--max_epochs", "2", "--lr", "0.01", "--checkpoint_every", "1", "--enable_progress_bar", "false",
        "--one_cycle_max_lr", "0.02"]


def train(archive: str) -> str:
    """Train with the command as it is typed, going on from the last checkpoint where there is one."""
    runs = sorted(Path.cwd().glob("training/logs/lightning_logs/version_*/last.state"), key=lambda path: path.stat().st_mtime)
    printed = io.StringIO()
    argv = ["--ckpt_path", str(runs[-1])] if runs else [*ARGV, "--data_source", archive]
    with contextlib.redirect_stdout(printed): main(argv)
    print(printed.getvalue())
    best = Path(re.search(r"Best model saved at: (.*)", printed.getvalue())[1])
    results = re.findall(r"test/\w+ +│? *([\d.e-]+)", printed.getvalue())
    assert len(results) == 2, printed.getvalue()
    assert torch.load(best, weights_only=True)["state_dict"]
    return f"{sum_of(best.name)} {weights_of(best)} {results}"


# --- killing ---------------------------------------------------------------------------------------------------------------
def kill_often(tally, folder: Path, number: int, keep: "tuple[str, ...]", work: Callable, *args: object) -> None:
    """Kill `work` `number` times, each time at another moment and in an empty folder, and run it again."""
    whole, touched, seconds = run_child(folder / "whole", work, *args)
    dice = chance(work.__name__, args[1:])
    for at in range(number):
        here = folder / str(at)
        when = {"kill_after": dice.uniform(0, 1.1 * seconds)} if at % 2 else {"kill_at": dice.randrange(touched)}
        for name in keep: shutil.copytree(folder / "whole" / name, here / name)
        with tally.case(f"{work.__name__} {when}"):
            with contextlib.suppress(Ended): run_child(here, work, *args, **when)
            assert run_child(here, work, *args)[0] == whole, "the result is another"
            assert not leftovers(here / "data"), leftovers(here / "data")
        shutil.rmtree(here)


def serve(files: dict, ranges: bool, address) -> None:
    """A server in a process of its own, so that no thread is there when children are made."""
    with FaultServer(files) as server:
        for path in files: server.always[path] = lambda handler: handler.serve(pause=0.0005, ranges=ranges)
        address.send(server.url(""))
        time.sleep(3600)


@contextlib.contextmanager
def served(whole: bool) -> Iterator[str]:
    """The address of a server that has both archives and takes its time; it sends ranges, or `whole` archives only."""
    ours, theirs = fork.Pipe()
    files = {"/gzip.zip": gzip_zip(), "/matlab.zip": matlab_zip()}
    process = fork.Process(target=serve, args=(files, not whole, theirs), daemon=True)
    process.start()
    try: yield ours.recv()
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("whole", [False, True], ids=["members", "whole"])
def test_downloading(whole, tally, tmp_path):
    with served(whole) as url: kill_often(tally, tmp_path, tally.many(1, 20), (), download, url, whole)


def begin(path: Path) -> None:
    """Have written half of a file, for longer than anybody waits."""
    with locked(path), replacing(path) as part:
        part.write_bytes(b"half")
        path.with_name("begun").touch()
        time.sleep(600)


def test_what_it_had_begun(tally, tmp_path):
    """The next process that locks the same file removes what a killed one has left of it, and nothing else."""
    path = tmp_path / "data" / "whole.h5"
    with tally.case("half a file"):
        with contextlib.suppress(Ended): run_child(tmp_path, begin, path, kill_after=0.5)
        assert path.with_name("begun").exists() and len(leftovers(path.parent)) == 1
        with locked(path.with_name("other.h5")): assert len(leftovers(path.parent)) == 1
        with locked(path): assert not leftovers(path.parent)


def test_processing(tally, tmp_path):
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    kill_often(tally, tmp_path, tally.many(2, 40), (), process, str(tmp_path / "gzip.zip"))


def test_drawing(tally, tmp_path): kill_often(tally, tmp_path, tally.many(1, 30), (), draw)


def test_writing_lines(tally, tmp_path):
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    kill_often(tally, tmp_path, tally.many(1, 30), (), write_lines, str(tmp_path / "gzip.zip"))


def hold_a_bar() -> None:
    """Be in the middle of drawing a bar, for longer than anybody waits."""
    with Bar.get_lock(): time.sleep(600)


def draw_a_bar() -> int:
    """A whole bar, drawn; what it counted."""
    with progress(range(3), "three") as bar: return sum(1 for _ in bar)


def test_a_bar_in_the_middle_of_a_line(tally, tmp_path):
    """A process that is killed while it draws a bar keeps none of its neighbours, forked from the same one, from drawing."""
    Bar.get_lock()  # made before they are forked, as by any bar that this process has drawn
    with tally.case("killed while it draws"):
        with contextlib.suppress(Ended): run_child(tmp_path, hold_a_bar, kill_after=0.2)
        assert run_child(tmp_path, draw_a_bar, limit=20)[0] == 3
