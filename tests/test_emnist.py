"""EMNIST's choice of images and its arguments: what lesson 3 states, kept true where the page has no room to prove it."""

import argparse
import gzip
import struct

import numpy as np
import pytest
import torch

from text_recognizer.data.emnist import EMNIST, divide, sample_to_balance
from text_recognizer.data.glyphs.draw import draw_glyphs
from text_recognizer.errors import UserError
from text_recognizer.metadata.emnist import TEST_COUNTS, TRAIN_COUNTS

EVERY_CLASS = torch.arange(4, 66)


def write_idx(path, array: np.ndarray) -> None:
    """As NIST writes it: two zeros, an 8 for bytes, the number of axes; their lengths; the numbers."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A small archive like NIST's: glyphs by twenty writers a split, rows and columns exchanged, labels from 0."""
    monkeypatch.setenv("TEXT_RECOGNIZER_DATA", str(tmp_path / "data"))
    folder = tmp_path / "a small stand-in"
    folder.mkdir()
    for split, first in {"train": 103, "test": 203}.items():
        drawn = draw_glyphs(EVERY_CLASS.repeat(20), torch.arange(first, first + 20).repeat_interleave(62))
        write_idx(folder / f"emnist-byclass-{split}-images-idx3-ubyte.gz", drawn.transpose(1, 2).numpy())
        write_idx(folder / f"emnist-byclass-{split}-labels-idx1-ubyte.gz", (EVERY_CLASS.repeat(20) - 4).byte().numpy())
    return folder


def test_sizes_are_the_course_s():
    y_train, y_test = (np.repeat(EVERY_CLASS.numpy(), counts) for counts in (TRAIN_COUNTS, TEST_COUNTS))
    sampled = sample_to_balance(y_train)
    train, val = divide(len(sampled))
    assert (len(train), len(val), len(sample_to_balance(y_test))) == (260_212, 65_054, 53_988)
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(len(sampled)))
    assert len(np.unique(sampled)) == len(sampled)


def test_a_class_of_exactly_the_mean_loses_a_third():
    exactly = np.repeat(np.arange(66), 10_000)
    assert len(sample_to_balance(exactly)) / len(exactly) == pytest.approx(1 - 1 / np.e, abs=0.002)


def test_an_archive_is_read_upright(archive):
    emnist = EMNIST(source=archive)
    emnist.prepare_data()
    emnist.setup()
    assert "a sample of 2,480 of the 814,255 images" in emnist.source
    drawn = draw_glyphs(EVERY_CLASS.repeat(20), torch.arange(103, 123).repeat_interleave(62))
    assert (drawn == emnist.data_train.data[0]).flatten(1).all(1).any(), "the first training image is one of the drawn ones"


def test_a_fraction_is_of_each_class(archive):
    whole, half = EMNIST(source=archive), EMNIST(source=archive, fraction=0.5)
    for emnist in (whole, half):
        emnist.prepare_data()
        emnist.setup()
    counts, halved = (each.data_train.targets.bincount(minlength=66) for each in (whole, half))
    assert (halved - counts / 2).abs().max() <= 0.5
    assert half.source.endswith(", 0.5 of each class") and half.source_key != whole.source_key


def test_a_keyword_counts_more_than_a_flag():
    parser = EMNIST.add_to_argparse(argparse.ArgumentParser())
    args = parser.parse_args(["--data_source", "glyphs", "--data_fraction", "0.25", "--batch_size", "64"])
    quarter = EMNIST(args, batch_size=32)
    assert (quarter.data_source, quarter.data_fraction, quarter.batch_size) == ("glyphs", 0.25, 32)


@pytest.mark.parametrize("settings, said", [
    ({"source": "ninst"}, "expected auto, nist, glyphs or a path that exists"),
    ({"source": "glyphs", "fraction": 0}, "above 0 and at most 1"),
    ({"source": "glyphs", "fraction": 1.5}, "data_fraction"),
])
def test_wrong_arguments_get_one_line(settings, said):
    with pytest.raises(UserError, match=said): EMNIST(**settings)
