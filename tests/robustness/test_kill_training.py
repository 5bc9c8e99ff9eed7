"""Killed while it trains and while it writes checkpoints: the run that goes on ends with the same model, bit for bit."""

from robustness.test_kill import KIND, kill_often, train  # noqa: F401 (the tally asks for KIND)
from robustness.things import gzip_zip


def test_training(tally, tmp_path):
    """The command of the course with a checkpoint after each step; after the kill it goes on from the newest."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    kill_often(tally, tmp_path, tally.many(2, 60), ("data",), train, str(tmp_path / "gzip.zip"))
