"""Killed while it trains and while it writes checkpoints: the run that goes on ends with the same model, bit for bit."""

import io
import os
import shutil
import signal
from pathlib import Path

import torch

from robustness.test_kill import KIND, kill_often, train  # noqa: F401 (the tally asks for KIND)
from robustness.things import Ended, gzip_zip, run_child


def test_training(tally, tmp_path):
    """The command of the course with a checkpoint after each step; after the kill it goes on from the newest."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    kill_often(tally, tmp_path, tally.many(2, 60), ("data",), train, str(tmp_path / "gzip.zip"))


def train_to_half_a_file(archive: str, number: int) -> str:
    """`train`, killed when the first half of its checkpoint `number` is on the disk."""
    save, left = torch.save, [number]

    def half(content: object, path: "Path | str", *args: object, **kwargs: object) -> None:
        left[0] -= 1
        if left[0]: return save(content, path, *args, **kwargs)
        whole = io.BytesIO()
        save(content, whole)
        Path(path).write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    return train(archive)


def test_half_a_checkpoint(tally, tmp_path):
    """What is half written is not taken for a checkpoint, whichever it is."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    archive = str(tmp_path / "gzip.zip")
    whole = run_child(tmp_path / "whole", train, archive)[0]
    for number in range(1, tally.many(3, 9)):
        here = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole" / "data", here / "data")
        with tally.case(f"in the middle of checkpoint {number}"):
            try: run_child(here, train_to_half_a_file, archive, number)
            except Ended: pass
            else: raise AssertionError("it wrote no such checkpoint")
            assert run_child(here, train, archive)[0] == whole, "the result is another"
