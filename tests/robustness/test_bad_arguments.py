"""Every argument of the command line and of the constructors, given what nobody would: a sentence, or it works."""

import contextlib
import functools
import io
import math
import os
import re
import warnings
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustness.things import chance, gzip_zip, run_child
from text_recognizer.errors import UserError
from text_recognizer.training import run_experiment, trainer_arguments
from text_recognizer.training.command_line import build_parser, parse
from text_recognizer.training.run_experiment import main

KIND = "bad arguments"
PAIRS = [("CNN", "EMNIST"), ("LineCNNSimple", "EMNISTLines"), ("MLP", "EMNIST"), ("ResCNN", "EMNIST")]
# With these the program reads other files or other people's classes; they have tests of their own.
ELSEWHERE = {"help", "config", "load_checkpoint", "ckpt_path", "print_config", "model_class", "data_class"}
WHOLE = ["0", "1", "-1", "2", "7", "-7", "999999999999", "9" * 30, "1.0", "2.5", "1e3", "٣", " 3", "0x10", "1_0", "+1"]
REAL = ["0", "1", "0.5", "-0.5", "1.5", "-1", "nan", "inf", "-inf", "1e-320", "1e308", "1e999", "0,5", "٠.٥", "½"]
WORDS = ["", " ", "auto", "true", "False", "none", "None", "null", "é", "日本", "a" * 5000, "../..", "/", "~", "-", "--", "%s",
         "{}", "\t", "a\nb", "\udcff", "cpu", "gpu", "tpu", "mps", "cuda", "ddp", "fsdp", "simple", "norm", "value", "warn",
         "00:00:00:05", "1:2", "16-mixed", "bf16-mixed", "64-true", "16-true", "32", "0,1", "[0]", "[]", ","]
EVERYTHING = WHOLE + REAL + WORDS
ENOUGH_STEPS = 3


class Enough(BaseException):
    """The run has shown that it works."""


class StopSoon(pl.Callback):
    """Ends a run after a few steps."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step >= ENOUGH_STEPS: raise Enough


def start_with(model: str, data: str, archive: Path) -> "list[str]":
    """The arguments of a short run."""
    found = ["--model_class", model, "--data_class", data, "--data_source", str(archive), "--accelerator", "cpu",
             "--batch_size", "64", "--enable_progress_bar", "false", "--enable_model_summary", "false",
             "--limit_test_batches", "1", "--limit_val_batches", "1", "--num_sanity_val_steps", "0"]
    if model in ("CNN", "LineCNNSimple"): found += ["--conv_dim", "2", "--fc_dim", "4"]
    if model == "ResCNN": found += ["--res_dim", "2"]
    if data == "EMNISTLines":
        found += ["--num_train", "16", "--num_val", "4", "--num_test", "4", "--max_length", "4", "--text_source", "python",
                  "--batch_size", "8"]
    return found


def flags_of(model: str, data: str) -> dict:
    """All arguments of the command, by name."""
    return {action.dest: action for action in build_parser(model, data)._actions
            if action.option_strings and action.dest not in ELSEWHERE}


def one_sentence(said: str) -> None:
    """What the program says when it refuses: one line, its own; a search for a rate that found none has drawn its bar before."""
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("Finding best initial lr:")]
    assert len(lines) == 1 and lines[0].startswith("run_experiment: error: "), f"expected one line, got {said[-700:]!r}"
    assert len(lines[0]) < 6000 and "Traceback" not in said


def refused(work, *args) -> "tuple[object, str | None]":
    """What `work` returns and None, or None and what it said when it ended with status 2."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said): return work(*args), None
    except SystemExit as stop:
        assert stop.code in (2, 130), f"exit status {stop.code}"
        if stop.code == 2: one_sentence(said.getvalue())
        return None, said.getvalue()
    except UserError as error:  # from `parse`; `main` prints it
        assert "\n" not in str(error).strip()
        return None, str(error)


def trained(argv: "list[str]") -> "str | None":
    """Run the command for a few steps: None when it works, what it said when it refused; anything else is raised."""
    def soon(fit):
        def wrapped(self, *args, **kwargs):
            self.callbacks.append(StopSoon())
            return fit(self, *args, **kwargs)
        return wrapped

    def enough(*args, **kwargs): raise Enough

    from pytorch_lightning.strategies.launchers import multiprocessing, subprocess_script
    subprocess_script._SubprocessScriptLauncher._call_children_scripts = enough  # it would start this test anew
    multiprocessing._MultiProcessingLauncher.launch = enough
    torch.distributed.init_process_group = enough  # where it waits for other machines, it works
    run_experiment.make_trainer.__globals__["Trainer"].fit = soon(run_experiment.make_trainer.__globals__["Trainer"].fit)
    os.environ["WANDB_MODE"] = "disabled"
    warnings.simplefilter("ignore")
    try:
        with contextlib.redirect_stdout(io.StringIO()): return refused(main, argv)[1]
    except Enough: return None


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """gzip.zip with a few hundred images."""
    path = tmp_path_factory.mktemp("official") / "gzip.zip"
    path.write_bytes(gzip_zip())
    return path


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_each_argument_is_taken_as_it_is_or_refused(pair, archive, tally):
    """Reading the command line alone: every argument with every odd value."""
    start, dice = start_with(*pair, archive), chance("parse", pair)
    shared = set() if pair == PAIRS[0] or tally.whole else set(flags_of(*PAIRS[0]))
    for name, action in flags_of(*pair).items():
        if name in shared: continue
        for value in EVERYTHING if tally.whole else dice.sample(EVERYTHING, 4):
            with tally.case(f"--{name}={value!r}"):
                argv = [*start, f"--{name}={value}"] if action.nargs != 0 else [*start, f"--{name}", value]
                found, said = refused(parse, argv)
                if said is not None or action.nargs == 0: continue
                kept = getattr(found, name)
                if action.type in (None, str): assert kept == value
                elif action.type is int: assert type(kept) is int and kept == int(value)
                elif action.type is float: assert kept == float(value) or math.isnan(kept) and math.isnan(float(value))
                else: assert kept is not None and (kept or not value.strip(" [],0.-+_nNefalsEF")), f"{value!r} became {kept!r}"


def runs_of(dice, pair, number: int) -> "list[list[tuple[str, str]]]":
    """`number` draws of one to three arguments and an odd value for each, of those that can be read at all."""
    flags, found = flags_of(*pair), []
    while len(found) < number:
        some = []
        for name in dice.sample(sorted(flags), dice.choice([1, 1, 1, 2, 3])):
            kind = flags[name].type
            values = WHOLE if kind is int else REAL + WHOLE if kind in (float, trainer_arguments.number) else EVERYTHING
            some.append((name, None if flags[name].nargs == 0 else dice.choice(values)))
        found.append(some)
    return found


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_run_works_or_says_why_not(pair, archive, tally, tmp_path):
    """The whole command, data and all, in a child that has 3 GB and 60 seconds: it trains, or one sentence and status 2."""
    for number, some in enumerate(runs_of(chance("run", pair), pair, tally.many(3, 100))):
        argv = [f"--{name}" if value is None else f"--{name}={value}" for name, value in some]
        with tally.case(" ".join(map(repr, argv))):
            run_child(tmp_path / str(number), trained, start_with(*pair, archive) + argv, limit=240, memory=3 << 30)


@pytest.mark.thorough
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_argument_in_a_run(pair, archive, tally, tmp_path):
    """Each argument by itself with five of the values that the command line lets pass."""
    start, dice = start_with(*pair, archive), chance("every", pair)
    first = set() if pair == PAIRS[0] else set(flags_of(*PAIRS[0]))  # what all pairs share is tried once
    for name, action in flags_of(*pair).items():
        if name in first: continue
        values = [None] if action.nargs == 0 else dice.sample(EVERYTHING, len(EVERYTHING))
        typed = [f"--{name}" if value is None else f"--{name}={value}" for value in values]
        passed = [word for word in typed if refused(parse, [*start, word])[1] is None]
        for at, word in enumerate(passed[:5]):
            argv = [*start, word]
            with tally.case(argv[-1]):
                run_child(tmp_path / f"{name}{at}", trained, argv, limit=240, memory=3 << 30)


# --- constructors and functions -----------------------------------------------------------------------------------------------
ODD = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-3, 40), st.floats(), st.floats(-1, 2), st.text(max_size=20),
                st.binary(max_size=5), st.lists(st.integers(-2, 70), max_size=4), st.just({}), st.just(object()),
                st.sampled_from([10**30, -(10**30), 2**31, 2**63, float("nan"), float("inf"), "glyphs", "auto", "python", "\0",
                                 "\udcff", np.float64(0.3), np.int64(3), np.array([1, 2]), torch.tensor(3), torch.tensor(0.5),
                                 Path("nowhere"), len]))


@functools.cache
def callables() -> dict:
    """What a reader calls in Python, each with the names of its arguments and arguments that are right."""
    from text_recognizer.data.emnist import EMNIST
    from text_recognizer.data.emnist_lines import EMNISTLines, construct_image_from_string
    from text_recognizer.data.glyphs.draw import draw_glyphs
    from text_recognizer.data.mnist import MNIST
    from text_recognizer.data.sentence_generator import SentenceGenerator
    from text_recognizer.lit_models.base import BaseLitModel
    from text_recognizer.models.cnn import CNN
    from text_recognizer.models.line_cnn_simple import LineCNNSimple
    from text_recognizer.models.mlp import MLP
    from text_recognizer.models.res_cnn import ResCNN
    from text_recognizer.reading.form import Form
    from text_recognizer.reading.lines import read_line

    config = {"input_dims": (1, 28, 28), "output_dims": (1,), "mapping": list("abc")}
    lines = {**config, "input_dims": (1, 28, 112), "output_dims": (4, 1)}
    narrow = CNN(config, Namespace(conv_dim=1, fc_dim=1))
    letters = {letter: torch.full((3, 28, 28), 9, dtype=torch.uint8) for letter in "abc"}
    page = np.full((40, 90), 255, np.uint8)
    page[10:30, 20:24] = page[10:30, 50:54] = 0

    def by_args(make, data_config) -> object: return lambda **given: make(data_config, Namespace(**given))

    def by_dict(**given) -> object: return BaseLitModel(narrow, given)

    def write(text="l", **given) -> object: return Form(**given).write_text(text)

    def one_line(string="abc", **given) -> object: return construct_image_from_string(string, letters, **given)

    def generate(**given) -> object: return SentenceGenerator(source="python").generate(**given)

    loaders = {"batch_size": 8, "num_workers": 0}
    return {
        "EMNIST": (EMNIST, {"source": "glyphs", "fraction": 0.5, **loaders}),
        "EMNIST(args)": (lambda **given: EMNIST(Namespace(**given)), {"data_source": "glyphs", "data_fraction": 1, **loaders}),
        "MNIST": (MNIST, {"fraction": 0.5, **loaders}),
        "EMNISTLines": (EMNISTLines, {"source": "glyphs", "max_length": 8, "min_overlap": 0, "max_overlap": 0.3, "num_train": 4,
                                      "num_val": 4, "num_test": 4, "with_start_end_tokens": True, "repeat_glyphs": False,
                                      "streaming": False, "seed": 1, "text_source": "python", **loaders}),
        "SentenceGenerator": (SentenceGenerator, {"max_length": 8, "source": "python", "seed": 1}),
        "generate": (generate, {"max_length": 8}),
        "draw_glyphs": (draw_glyphs, {"labels": [4, 5], "writers": [0, 1], "seed": 0, "chunk": 2}),
        "construct_image_from_string": (one_line, {"string": "abc", "min_overlap": 0.1, "max_overlap": 0.3, "width": 90,
                                                   "repeat_glyphs": False}),
        "read_line": (read_line, {"image": page, "prior": "none"}),
        "Form": (write, {"text": "l", "boxes": 8, "pen": 3.0, "prior": "none"}),
        "CNN": (by_args(CNN, config), {"conv_dim": 2, "fc_dim": 2, "fc_dropout": 0.1}),
        "MLP": (by_args(MLP, config), {"fc1": 2, "fc2": 2, "fc_dropout": 0.1}),
        "ResCNN": (by_args(ResCNN, config), {"res_dim": 2, "num_stages": 1, "num_blocks": 1, "stem_stride": 1, "fc_dropout": 0.1,
                                             "downsampling": "pool"}),
        "LineCNNSimple": (by_args(LineCNNSimple, lines), {"window_width": 28, "window_stride": 28, "limit_output_length": True,
                                                          "conv_dim": 2, "fc_dim": 2, "fc_dropout": 0.1}),
        "BaseLitModel": (by_dict, {"optimizer": "Adam", "lr": 0.1, "loss": "cross_entropy", "one_cycle_max_lr": 0.1,
                                   "one_cycle_total_steps": 10}),
    }


def call(name: str, given: dict) -> None:
    """Call it; a sentence is as good as a result, and torch's own word that a network does not fit into memory will do."""
    try: callables()[name][0](**given)
    except UserError as error: assert "\n" not in str(error), str(error)
    except MemoryError: return
    except RuntimeError as error:
        if not re.search("can't allocate memory|overflow|Storage size calculation", str(error)): raise


@pytest.mark.parametrize("name", [
    "EMNIST", "EMNIST(args)", "MNIST", "EMNISTLines", "SentenceGenerator", "generate", "draw_glyphs",
    "construct_image_from_string", "read_line", "Form", "CNN", "MLP", "ResCNN", "LineCNNSimple", "BaseLitModel"])
def test_constructors(name, tally, tmp_path):
    """Each argument by itself replaced by something odd."""
    right = callables()[name][1]

    def all_at_once(number: int) -> "tuple[int, list[str]]":
        wrong, counted = {}, []

        @settings(max_examples=number, database=None, deadline=None, derandomize=True,
                  suppress_health_check=list(HealthCheck))
        @given(st.sampled_from(sorted(right)), ODD)
        def one(argument, odd):
            if isinstance(right[argument], bool) and isinstance(odd, np.ndarray): return  # neither true nor false
            counted.append(1)
            try: call(name, {**right, argument: odd})
            except Exception as error:
                kind = type(error).__name__
                wrong.setdefault((argument, kind), f"{name}({argument}={odd!r:.60}): {kind}: {error!s:.200}")

        one()
        return len(counted), list(wrong.values())

    tried, wrong = run_child(tmp_path, all_at_once, tally.many(20, 300), memory=256 << 20, limit=300)[0]
    for at in range(max(tried, len(wrong))):
        with tally.case(name): assert at >= len(wrong), wrong[at]
