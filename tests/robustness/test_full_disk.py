"""Disks that are full or may not be written to: one sentence with the path and the space, nothing half-written, and then on.

Real disks where we may mount them (a small tmpfs); everywhere else, and in addition, a limit on the size of a file.
"""

import contextlib
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robustness.test_kill import download, draw, process, served, train, write_lines
from robustness.things import chance, gzip_zip, run_child
from text_recognizer.data.sentence_generator import SentenceGenerator
from text_recognizer.errors import UserError

KIND = "full disks, read-only places"
SPACE = re.compile(r"[\d,.]+ [kM]?B\b")
BIG = "64m"


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own at `folder`; the test is skipped where we may not have one."""
    folder.mkdir(parents=True)
    try: done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True)
    except FileNotFoundError: pytest.skip("there is no mount command here")
    if done.returncode: pytest.skip(f"no disk of its own may be mounted here ({done.stderr.strip()})")
    try: yield folder
    finally: subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """The same disk with other options."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def words() -> str:
    """The words that sentences are cut from."""
    return SentenceGenerator(source="python").source_key


def command(archive: str) -> str:
    """The training command in its data folder; what it says when it ends with status 2 is raised."""
    os.chdir(os.environ["TEXT_RECOGNIZER_DATA"])
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said): return train(archive)
    except SystemExit as stop:
        lines = [line for line in said.getvalue().splitlines() if line.strip()]
        assert stop.code == 2 and len(lines) == 1, said.getvalue()
        raise UserError(lines[0]) from None


def limited(work: Callable, size: int, *args: object) -> object:
    """`work` where no file may be longer than `size`."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return work(*args)


def files(folder: Path) -> "dict[str, bytes]":
    """All files but locks, logs, and what is marked as unfinished download."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
            and path.suffix != ".lock" and ".partial" not in path.parts and "logs" not in path.parts}


def used(folder: Path) -> int:
    """Bytes of disk, in whole pages."""
    return sum(-(-path.stat().st_size // 4096) * 4096 + 4096 for path in folder.rglob("*"))


def works(archive: str, url: str) -> dict:
    """What writes to a disk: its name, and how it is called."""
    return {"download": (download, url, False), "download whole": (download, url, True), "process": (process, archive),
            "draw": (draw,), "lines": (write_lines, archive), "words": (words,), "train": (command, archive)}


NAMES = ["download", "download whole", "process", "draw", "lines", "words", "train"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> str:
    """An official archive, on another disk."""
    path = tmp_path_factory.mktemp("official") / "gzip.zip"
    path.write_bytes(gzip_zip())
    return str(path)


def says_where_and_how_much(error: UserError, folder: Path) -> None:
    """One sentence with the path and the space that is needed."""
    said = str(error)
    assert "\n" not in said and str(folder) in said, said
    assert SPACE.search(said), f"it does not say how much is needed: {said}"


def undisturbed(name: str, archive: str, url: str, folder: Path) -> tuple:
    """The work of that name, and what it gives where nothing is in its way; its data stays in `folder`."""
    work = works(archive, url)[name]
    (folder / "data").mkdir(parents=True)
    return work, run_child(folder, *work)[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk(name, archive, tally, tmp_path):
    """The disk is full somewhere on the way. With room again the next run ends as always."""
    with served(name == "download whole") as url:
        work, whole = undisturbed(name, archive, url, tmp_path / "whole")
        good, need = files(tmp_path / "whole" / "data"), used(tmp_path / "whole" / "data")
        dice = chance("disk", name)
        for at in range(tally.many(1, 8)):
            size = dice.randrange(8192, max(12288, int(0.9 * need)))
            with disk(tmp_path / str(at) / "data", str(size)) as data, tally.case(f"{name} on a disk of {size:,} bytes"):
                try: run_child(tmp_path / str(at), *work, data=data)
                except UserError as error: says_where_and_how_much(error, data)
                else: raise AssertionError(f"{need:,} bytes were written to a disk of {size:,}")
                left = files(data)
                assert left.keys() <= good.keys(), f"left: {left.keys() - good.keys()}"
                remount(data, f"size={BIG}")
                assert run_child(tmp_path / str(at), *work, data=data)[0] == whole


@pytest.mark.parametrize("name", NAMES)
def test_files_that_may_not_grow(name, archive, tally, tmp_path):
    """Likewise where a quota or the file system limits the size of a file."""
    with served(name == "download whole") as url:
        work, whole = undisturbed(name, archive, url, tmp_path / "whole")
        largest = max(path.stat().st_size for path in (tmp_path / "whole" / "data").rglob("*") if path.is_file())
        dice = chance("limit", name)
        for at in range(tally.many(1, 8)):
            # The first stops HDF5 in its second array, where it has crashed.
            size, folder = int(0.65 * largest) if not at else dice.randrange(4096, int(0.9 * largest)), tmp_path / str(at)
            (folder / "data").mkdir(parents=True)
            with tally.case(f"{name} with files of at most {size:,} bytes"):
                try: run_child(folder, limited, work[0], size, *work[1:])
                except UserError as error: says_where_and_how_much(error, folder)
                else: raise AssertionError(f"a file of {largest:,} bytes was written")
                assert run_child(folder, *work)[0] == whole


@pytest.mark.parametrize("name", NAMES)
def test_a_read_only_place(name, archive, tally, tmp_path):
    """What is there is read; what is not cannot be made, and the sentence says where."""
    with served(name == "download whole") as url:
        work = works(archive, url)[name]
        with disk(tmp_path / "empty" / "data", BIG) as data, tally.case(f"{name}: nothing is there"):
            remount(data, "ro")
            try: run_child(tmp_path / "empty", *work, data=data)
            except UserError as error: assert str(data) in str(error) and "\n" not in str(error), str(error)
            else: raise AssertionError("it was written?")
        if name == "train": return
        with disk(tmp_path / "there" / "data", BIG) as data, tally.case(f"{name}: all is there"):
            whole = run_child(tmp_path / "there", *work, data=data)[0]
            remount(data, "ro")
            assert run_child(tmp_path / "there", *work, data=data)[0] == whole


def test_the_space_is_asked_for_before_it_is_used(tally, tmp_path, archive, monkeypatch):
    """Processing says how much it needs before it has written a byte of it."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with tally.case("100 kB free"):
        try: run_child(tmp_path, process, archive)
        except UserError as error: assert re.search(r"emnist-nist-\w+\.h5: expected \d+ kB of free space, found", str(error))
        else: raise AssertionError("it did not ask")


if sys.platform == "win32": pytest.skip("no such limits on Windows", allow_module_level=True)
