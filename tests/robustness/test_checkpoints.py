"""Other people's checkpoints: a pickle that would run code is refused, in every door that lets a checkpoint in."""

import contextlib
import io
import os
import pickle
import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robustness.things import gzip_zip, run_child
from text_recognizer.data.emnist import EMNIST
from text_recognizer.errors import UserError
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.models.cnn import CNN
from text_recognizer.training.run_experiment import main
from text_recognizer.training.trainer import make_trainer
from text_recognizer.training.util import load_run

KIND = "untrusted checkpoints"
RAN = "ran.txt"  # what the evil ones write into the current folder


class Touches:
    """Unpickles by writing a file."""

    def __reduce__(self): return os.system, (f"touch {RAN}",)


class Executes:
    """Unpickles by running Python."""

    def __reduce__(self): return exec, (f"open('{RAN}', 'w').close()",)


class Imports:
    """Unpickles by way of a function that a list of forbidden names may have forgotten."""

    def __reduce__(self): return Path.touch, (Path(RAN),)


class Builds:
    """Unpickles by a state that is set."""

    def __reduce__(self): return torch.nn.Linear, (1, 1), {"forward": Touches()}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> "tuple[str, dict]":
    """An archive, and what a checkpoint of a run on it holds."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "gzip.zip").write_bytes(gzip_zip())
    best = run_child(folder, train, str(folder / "gzip.zip"))[0]
    return str(folder / "gzip.zip"), torch.load(best, weights_only=True)


def train(archive: str) -> str:
    """The best checkpoint of a short run."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        main(["--data_source", archive, "--conv_dim", "2", "--fc_dim", "4", "--gpus", "0", "--enable_progress_bar", "false"])
    return re.search(r"Best model saved at: (.*)", said.getvalue())[1]


def evil(good: dict) -> "dict[str, Callable[[Path], None]]":
    """Ways to write a checkpoint that runs code, each takes the path to write to."""
    def saved(**changes) -> Callable: return lambda path: torch.save({**good, **changes}, path)

    def old_format(path: Path) -> None: torch.save({**good, "more": Touches()}, path, _use_new_zipfile_serialization=False)

    def plain_pickle(path: Path) -> None: path.write_bytes(pickle.dumps({**good, "state_dict": {}, "more": Touches()}))

    def second_pickle(path: Path) -> None:
        torch.save(good, path)
        with zipfile.ZipFile(path) as archive: root = archive.namelist()[0].split("/")[0]
        with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
            warnings.simplefilter("ignore")
            archive.writestr(f"{root}/data.pkl", pickle.dumps({"state_dict": Touches()}))

    arguments = good["hyper_parameters"]
    return {"beside the weights": saved(more=Touches()), "in place of the weights": saved(state_dict=Executes()),
            "among the weights": saved(state_dict={**good["state_dict"], "more": Imports()}),
            "in the arguments": saved(hyper_parameters={**arguments, "args": {**arguments["args"], "lr": Touches()}}),
            "in a callback's state": saved(callbacks={"KeepLast": {"random": Executes()}}),
            "in a state that is set": saved(more=Builds()), "in torch's old format": old_format,
            "in a plain pickle": plain_pickle, "as a second pickle in the zip": second_pickle}


def build(archive: str) -> "tuple[EMNIST, BaseLitModel]":
    """Data and an untrained model."""
    data = EMNIST(source=archive, batch_size=64)
    return data, BaseLitModel(CNN(data.config(), Namespace(conv_dim=2, fc_dim=4)))


def said(*argv: str) -> str:
    """What the command says when it refuses."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed): main([*argv, "--gpus", "0"])
    except SystemExit as stop:
        assert stop.code == 2 and "Traceback" not in printed.getvalue()
        return printed.getvalue()
    raise AssertionError("it was taken")


def trainer(**kwargs): return make_trainer(accelerator="cpu", enable_progress_bar=False, max_epochs=2, **kwargs)


def refused(load: Callable, *args, **kwargs) -> str:
    """The message of the error that `load` raises."""
    try: load(*args, **kwargs)
    except (UserError, pickle.UnpicklingError, RuntimeError) as error: return str(error)
    raise AssertionError("it was taken")


def through_fit(archive: str, path: str) -> str:
    data, model = build(archive)
    return refused(trainer().fit, model, datamodule=data, ckpt_path=path)


def through_test(archive: str, path: str) -> str:
    data, model = build(archive)
    return refused(trainer().test, model, datamodule=data, ckpt_path=path, verbose=False)


DOORS = {
    "load_run": lambda archive, path: refused(load_run, path),
    "--load_checkpoint": lambda archive, path: said("--load_checkpoint", path),
    "--ckpt_path": lambda archive, path: said("--ckpt_path", path),
    "--ckpt_path of a folder": lambda archive, path: said("--ckpt_path", str(Path(path).parent)),
    "load_from_checkpoint": lambda archive, path: refused(BaseLitModel.load_from_checkpoint, path, model=build(archive)[1].model),
    "trainer.fit": through_fit,
    "trainer.test": through_test,
}


def knock(door: str, archive: str, path: str) -> str:
    """Go through a door with a checkpoint, and look whether its code ran; torch's older default is simulated."""
    message = DOORS[door](archive, path)
    assert not Path(RAN).exists(), "its code ran"
    return message


def with_an_older_torch(*args: str) -> str:
    """Likewise where torch.load unpickles everything unless it is told otherwise, as before torch 2.6."""
    load = torch.load

    def older(*args, weights_only=None, **kwargs): return load(*args, weights_only=bool(weights_only), **kwargs)

    torch.load = older
    return knock(*args)


@pytest.mark.parametrize("older", [False, True], ids=["this-torch", "torch-2.4"])
@pytest.mark.parametrize("door", DOORS)
def test_a_pickle_that_would_run_code(door, older, good, tally, tmp_path):
    """It is refused and does not run."""
    archive, content = good
    kinds = evil(content)
    for number, (name, write) in enumerate(kinds.items()):
        if not tally.whole and (number + len(door)) % 4: continue
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / "evil.ckpt")
        with tally.case(f"{door}: {name}"):
            run_child(folder, with_an_older_torch if older else knock, door, archive, str(folder / "evil.ckpt"))
            assert not (folder / RAN).exists(), "its code ran"


def test_the_evil_ones_are_evil(good, tally, tmp_path):
    """The test above proves something only if these would run where nobody looks."""
    for number, (name, write) in enumerate(evil(good[1]).items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / "evil.ckpt")
        with tally.case(name):
            def unpickle(path: str) -> str:
                with contextlib.suppress(Exception): torch.load(path, weights_only=False)
                return str(Path(RAN).exists())

            ran = run_child(folder, unpickle, str(folder / "evil.ckpt"))[0]
            assert ran == "True" or name == "as a second pickle in the zip", "it does nothing"


def test_damaged_checkpoints(good, tally, tmp_path):
    """Cut, emptied, flipped, a web page, another thing's weights: a sentence that names the file."""
    archive, content = good
    path = tmp_path / "good.ckpt"
    torch.save(content, path)
    whole = path.read_bytes()
    bad = {"empty": b"", "cut": whole[:-100], "half": whole[: len(whole) // 2], "a page": b"<html></html>",
           "a page of its size": b"<html>".ljust(len(whole)), "the first byte flipped": b"\0" + whole[1:]}
    def other_args(**changes) -> dict:
        return {**content, "hyper_parameters": {"args": {**content["hyper_parameters"]["args"], **changes}}}

    others = {"no dictionary": [1, 2], "no weights": {"epoch": 1}, "weights that are none": {**content, "state_dict": 3},
              "no arguments": {**content, "hyper_parameters": {}}, "a list of arguments": {**content, "hyper_parameters": [1]},
              "another class": other_args(model_class="os.system"), "words for a number": other_args(conv_dim="many")}
    for number, (name, made) in enumerate({**bad, **others}.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        other = folder / "other.ckpt"
        if isinstance(made, bytes): other.write_bytes(made)
        else: torch.save(made, other)
        with tally.case(name):
            message = run_child(folder, refused, load_run, other)[0]
            assert "\n" not in message.strip() and len(message) < 1000, message
            assert "other.ckpt" in message or "model_class" in message or "conv_dim" in message, message
