"""Lines under hundreds of random settings: what is drawn is what is said, nothing wraps round, no glyph is in two parts.

Every glyph carries its identity in its ink: in the left column, which no other glyph of a line ever covers, stand its
label, its number and its part. So a line can be read back from its pixels alone, whatever the overlap.
"""

import multiprocessing
from argparse import Namespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import text_recognizer.metadata.emnist as metadata
from text_recognizer.data.base_data_module import ready
from text_recognizer.data.emnist_lines import EMNISTLines
from text_recognizer.data.sentence_generator import nltk_folders
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import UserError

PARTS = ("train", "val", "test")
TRIALS = 200


class MarkedCharacters:
    """An EMNIST whose glyphs say who they are: label + 1, number and part in rows 0 to 3 of the left column, and one dot.

    The rest of a glyph, when `full`, is as bright as a byte can be, in rows 10 and below: there ink meets ink.
    """

    def __init__(self, rng: np.random.Generator, full: bool):
        self.mapping, self.input_dims, self.source, self.source_key = metadata.MAPPING, (1, 28, 28), "marked", "marked"
        for number, part in enumerate(PARTS):
            characters = rng.permutation(62)[: int(rng.choice([62, 62, 50, 20]))] + 4
            labels = np.repeat(np.sort(characters), rng.integers(1, 12, len(characters)))
            images = np.zeros((len(labels), 28, 28), np.uint8)
            images[:, 0, 0], images[:, 1, 0], images[:, 2, 0] = labels + 1, np.arange(len(labels)) // 200 + 1, 0
            images[:, 2, 0], images[:, 3, 0] = np.arange(len(labels)) % 200 + 1, number + 1
            if full:
                images[:, 10:] = rng.integers(100, 256, (len(labels), 18, 28))
            setattr(self, f"data_{part}", BaseDataset(torch.from_numpy(images), torch.from_numpy(labels).long()))

    def prepare_data(self):
        return None

    def setup(self, stage=None):
        return None


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXT_RECOGNIZER_DATA", str(tmp_path))
    return tmp_path


def some_settings(rng: np.random.Generator) -> dict:
    low, high = np.sort(rng.choice([0, 0.1, 0.33, 0.5, 0.8, 0.97, rng.random() * 0.99], 2))
    tokens = bool(rng.random() < 0.3)
    return {"max_length": int(rng.choice([3 if tokens else 1, 4, 7, 16, 32, 45])), "min_overlap": float(low),
            "max_overlap": float(high), "num_train": int(rng.integers(1, 40)), "num_val": int(rng.integers(1, 12)),
            "num_test": int(rng.integers(1, 12)), "with_start_end_tokens": tokens, "seed": int(rng.integers(2**40)),
            "repeat_glyphs": bool(rng.random() < 0.3), "streaming": bool(rng.random() < 0.3), "text_source": "python"}


def made(settings: dict, emnist: MarkedCharacters) -> EMNISTLines:
    lines = EMNISTLines(source="glyphs", **settings)
    lines.emnist = emnist
    lines.prepare_data()
    lines.setup()
    return lines


def read_back(picture: torch.Tensor, step: int) -> list:
    """(label, number, part) of each glyph in a picture uint8 (28, W), by place; None where there is none."""
    found = []
    for x in range(0, picture.shape[1] - 27, step):
        label, high, low, part = picture[:4, x].tolist()
        found.append((label - 1, (high - 1) * 200 + low - 1, part - 1) if label else None)
    return found


def check_line(lines: EMNISTLines, part: str, line: int, x: torch.Tensor, y: torch.Tensor, used: list):
    """Read a line's picture and compare it with its labels."""
    data, mapping = getattr(lines, f"data_{part}"), lines.mapping
    picture, step = (x[0] * 255).round().to(torch.uint8), int(data.recipe.steps[line])
    assert 28 - int(lines.max_overlap * 28) <= step <= 28 - int(lines.min_overlap * 28)
    said = [mapping[label] for label in y]
    text = said[1 : said.index("<E>")] if lines.with_start_end_tokens else said[: (said + ["<P>"]).index("<P>")]
    rest = said[len(text) + 2 * lines.with_start_end_tokens :]
    assert set(rest) <= {"<P>"} and text and text[0] != " " != text[-1], said
    glyphs = read_back(picture, step)
    read = [" " if glyph is None else mapping[glyph[0]] for glyph in glyphs]
    assert "".join(read).rstrip() == "".join(text), (read, text)
    drawn = [glyph for glyph in glyphs if glyph is not None]
    assert all(glyph[2] == PARTS.index(part) for glyph in drawn), "a glyph of another part"
    for label, number, _ in drawn:
        assert int(getattr(lines.emnist, f"data_{part}").targets[number]) == label
    for label in {glyph[0] for glyph in drawn}:
        numbers = [number for other, number, _ in drawn if other == label]
        stock = int((getattr(lines.emnist, f"data_{part}").targets == label).sum())
        if lines.repeat_glyphs:
            assert len(set(numbers)) == 1
        elif stock >= len(numbers):
            assert len(set(numbers)) == len(numbers), "a glyph came twice in a line though there were enough"
    used += drawn


@pytest.mark.parametrize("chunk", range(4))
def test_what_is_drawn_is_what_is_said(chunk, data_dir):
    """Labels, glyphs and parts, read back from the pixels of every line under 200 random settings."""
    written = 0
    for trial in range(chunk, TRIALS, 4):
        rng = np.random.default_rng(trial)
        settings = some_settings(rng)
        lines, used = made(settings, MarkedCharacters(rng, full=False)), []
        for part in PARTS:
            data = getattr(lines, f"data_{part}")
            assert len(data) == settings[f"num_{part}"]
            x, y = data.__getitems__(range(len(data)))
            assert x.shape[1:] == (1, 28, 28 * lines.max_length) and y.shape[1:] == (lines.max_length,)
            for line in range(len(data)):
                check_line(lines, part, line, x[line], y[line], used)
                written += 1
    assert written > 1000


def test_no_ink_wraps_round(data_dir):
    """Every pixel is the sum of its glyphs' ink, up to full, under 60 random settings with the brightest glyphs."""
    saturated = 0
    for trial in range(60):
        rng = np.random.default_rng(1000 + trial)
        lines = made(some_settings(rng), MarkedCharacters(rng, full=True))
        for part in PARTS:
            data = getattr(lines, f"data_{part}")
            images, recipe = data.images.astype(int), data.recipe
            for picture, rows, step in zip(data.data.numpy(), recipe.rows, recipe.steps.astype(int)):
                total = np.zeros((28, lines.input_dims[-1] + 28), int)
                for place, row in enumerate(rows):
                    if row >= 0:
                        total[:, place * step : place * step + 28] += images[row]
                assert (picture == total[:, :-28].clip(0, 255)).all()
                saturated += (total > 255).sum()
    assert saturated > 10_000, "the test must meet ink that would have wrapped round"


@pytest.mark.parametrize("given,said", [
    ({"max_overlap": 1.0}, "max_overlap: expected a number in [0, 1)"), ({"min_overlap": -0.1}, "min_overlap"),
    ({"min_overlap": 0.4}, "min_overlap: expected at most max_overlap"), ({"max_length": 0}, "max_length"),
    ({"num_train": 0}, "num_train"), ({"num_val": -1}, "num_val"), ({"num_test": 2.5}, "num_test"), ({"seed": -1}, "seed"),
    ({"max_length": 2, "with_start_end_tokens": True}, "at least 3, got 2"), ({"max_overlap": float("nan")}, "max_overlap"),
    ({"text_source": "no/such/text.txt"}, "text file")])
def test_bad_settings_are_refused(given, said, data_dir):
    """In one sentence that names the setting, when the settings are given or at the latest when lines are made."""
    with pytest.raises(UserError) as error:
        made(given, MarkedCharacters(np.random.default_rng(0), full=False))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_streams_never_repeat_and_do_not_depend_on_workers(data_dir):
    """Three epochs of a stream, with 0 and 2 workers and with workers that are started afresh: the same lines, all new."""
    rng = np.random.default_rng(5)
    settings = {"max_length": 32, "num_train": 48, "num_val": 2, "num_test": 2, "streaming": True, "text_source": "python"}
    emnist, seen = MarkedCharacters(rng, full=False), {}
    for workers in (0, 2):
        lines = made({**settings, "batch_size": 16, "num_workers": workers}, emnist)
        loader = lines.train_dataloader()
        seen[workers] = [torch.cat([x for x, _ in loader]) for _ in range(3)]
    for alone, together in zip(seen[0], seen[2]):
        assert torch.equal(alone, together)
    long = [x for epoch in seen[0] for x in epoch if (x[0, 0] > 0).sum() > 5]
    assert len({x.numpy().tobytes() for x in long}) == len(long) > 100


def test_a_stream_travels_to_spawned_workers(data_dir):
    """Where processes are spawned (macOS, Windows, Python 3.14), the dataset is pickled on its way."""
    emnist = MarkedCharacters(np.random.default_rng(5), full=False)
    lines = made({"max_length": 8, "num_train": 8, "num_val": 2, "num_test": 2, "streaming": True, "text_source": "python"},
                 emnist)
    loader = DataLoader(lines.data_train, 4, collate_fn=ready, num_workers=1,
                        multiprocessing_context=multiprocessing.get_context("spawn"))
    x = torch.cat([x for x, _ in loader])
    assert torch.equal(x, lines.data_train.__getitems__(range(8))[0])


def test_arguments_of_others_are_no_trouble(data_dir):
    """One Namespace for all classes, as the course hands it on."""
    lines = EMNISTLines(Namespace(max_length=16, lr=0.1, window_width=28, batch_size=8, data_source="glyphs",
                                  streaming=True))
    assert (lines.max_length, lines.batch_size, lines.streaming, lines.emnist.data_source) == (16, 8, True, "glyphs")
    assert (lines.input_dims, lines.output_dims) == ((1, 28, 448), (16, 1))


def test_nltk_forgets_an_earlier_raw_folder(monkeypatch, tmp_path):
    """TEXT_RECOGNIZER_RAW may change within a process; a corpus that lies where it pointed before is not read."""
    for name in ("earlier", "later"):
        monkeypatch.setenv("TEXT_RECOGNIZER_RAW", str(tmp_path / name))
        folders = nltk_folders()
    assert str(tmp_path / "later") in folders and str(tmp_path / "earlier") not in folders
