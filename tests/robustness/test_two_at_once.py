"""Two notebooks, several ranks, a notebook beside a command: the same data is prepared once, and all get it right."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from robustness.test_bad_files import few_glyphs
from robustness.test_full_disk import words
from robustness.test_kill import download, process, served, write_lines
from robustness.things import Ended, chance, fork, gzip_zip, leftovers, run_child, sum_of_data
from text_recognizer.data.emnist import EMNIST
from text_recognizer.data.glyphs import draw as glyphs
from text_recognizer.training.run_experiment import main
from text_recognizer.training.trainer import RunLogger

KIND = "two at once"


def draw_and_count() -> str:
    """Draw glyphs, and leave a mark for each time that they were drawn."""
    def counted(*args, **kwargs):
        (Path.cwd() / f"drawn-{os.getpid()}").write_text("")
        time.sleep(0.05)
        return few_glyphs(*args, **kwargs)

    glyphs.glyph_dataset = counted
    emnist = EMNIST(source="glyphs")
    emnist.prepare_data()
    emnist.setup()
    return sum_of_data(emnist)


def together(folder: Path, works: "list[tuple]", delays: "list[float]") -> list:
    """What each of these returns; all run at the same time in one folder, each after its delay."""
    def run(pipe, work, delay):
        time.sleep(delay)
        try: result = run_child(folder, *work)[0]
        except Exception as error: result = Ended(f"{type(error).__name__}: {error}")
        pipe.send(result)

    pipes, processes = zip(*(fork.Pipe(duplex=False) for _ in works)), []
    ours, theirs = pipes
    for pipe, work, delay in zip(theirs, works, delays): processes.append(fork.Process(target=run, args=(pipe, work, delay)))
    for one in processes: one.start()
    results = [pipe.recv() if pipe.poll(120) else Ended("it hung") for pipe in ours]
    for one in processes: one.join()
    for result in results:
        if isinstance(result, Exception): raise result
    return results


def kinds(archive: str, url: str) -> "dict[str, Callable]":
    """What can be prepared by several at once."""
    return {"download": (download, url, False), "process": (process, archive), "draw": (draw_and_count,),
            "lines": (write_lines, archive), "words": (words,)}


@pytest.mark.parametrize("name", ["download", "process", "draw", "lines", "words"])
def test_several_prepare_the_same(name, tally, tmp_path):
    """Two to four processes that begin a moment apart: equal results, one file, nothing left over."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    with served(False) as url:
        work, dice = kinds(str(tmp_path / "gzip.zip"), url)[name], chance("several", name)
        whole, _, seconds = run_child(tmp_path / "whole", *work)
        for at in range(tally.many(1, 12)):
            folder, number = tmp_path / str(at), dice.choice([2, 2, 3, 4])
            delays = [dice.uniform(0, seconds) for _ in range(number)]
            with tally.case(f"{name}: {number} after {delays}"):
                assert together(folder, [work] * number, delays) == [whole] * number
                assert not leftovers(folder / "data")
                if name == "draw": assert len(list(folder.glob("drawn-*"))) == 1, "drawn more than once"


def test_one_is_killed_while_another_waits(tally, tmp_path):
    """The lock of a process that is killed is free: the one that waited does the work."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    work, dice = (process, str(tmp_path / "gzip.zip")), chance("killed while another waits")
    whole, _, seconds = run_child(tmp_path / "whole", *work)
    for at in range(tally.many(1, 12)):
        folder, when = tmp_path / str(at), dice.uniform(0, seconds)
        with tally.case(f"killed after {when}"):
            victim = fork.Process(target=_end, args=(folder, work, when))
            victim.start()
            assert together(folder, [work] * 2, [0.01, 0.02]) == [whole] * 2
            victim.join()
            assert not leftovers(folder / "data")


def _end(folder: Path, work: tuple, when: float) -> None:
    with contextlib.suppress(Ended): run_child(folder, *work, kill_after=when)


def command(archive: str) -> str:
    """The training command, in a folder of its own beside the others."""
    folder = Path.cwd() / f"run-{os.getpid()}"
    folder.mkdir()
    os.chdir(folder)
    main(["--data_source", archive, "--conv_dim", "2", "--fc_dim", "4", "--gpus", "0", "--enable_progress_bar", "false"])
    emnist = EMNIST(source=archive)
    emnist.setup()
    return sum_of_data(emnist)


def test_a_notebook_beside_a_command(tally, tmp_path):
    """Both need the characters, and both get them."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    archive = str(tmp_path / "gzip.zip")
    whole = run_child(tmp_path / "whole", process, archive)[0]
    for at in range(tally.many(1, 6)):
        with tally.case("a notebook and a command"):
            assert together(tmp_path / str(at), [(process, archive), (command, archive)], [0, 0]) == [whole] * 2


def test_two_logs_in_one_folder(tally, tmp_path):
    """A run's folder is its own from the moment at which it is named, long before anything is written into it."""
    with tally.case("two logs"): assert [RunLogger(tmp_path).version for _ in range(3)] == [0, 1, 2]


def runs_in_one_folder(archive: str) -> str:
    """Two commands in the same folder: each has a log folder of its own."""
    main(["--data_source", archive, "--conv_dim", "2", "--fc_dim", "4", "--gpus", "0", "--enable_progress_bar", "false"])
    return ""


def test_two_commands_in_one_folder(tally, tmp_path):
    """No run writes into the folder of another."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    for at in range(tally.many(1, 6)):
        with tally.case("two commands"):
            together(tmp_path / str(at), [(runs_in_one_folder, str(tmp_path / "gzip.zip"))] * 2, [0, 0])
            found = sorted((tmp_path / str(at) / "training/logs/lightning_logs").iterdir())
            assert [path.name for path in found] == ["version_0", "version_1"]
            for path in found:
                for kind in ("config.yaml", "metrics.csv", "last.state", "epoch=0000*.ckpt"):
                    assert len(list(path.glob(kind))) == 1
