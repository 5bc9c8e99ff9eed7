"""Every row of the course's contract, typed as a reader would type it."""

import argparse
import csv
import gzip
import hashlib
import os
import re
import struct
from argparse import Namespace

import numpy as np
import pytest
import torch
from conftest import ROOT, run_python

import text_recognizer.data
import text_recognizer.lit_models
import text_recognizer.models
from text_recognizer.data import mnist

LENGTHS = Namespace(batch_size=16, num_train=64, num_val=32, num_test=32, data_source="glyphs", lr=0.1, max_epochs=3)


@pytest.fixture(scope="module")
def emnist():
    data = text_recognizer.data.EMNIST(source="glyphs")
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def lines():
    data = text_recognizer.data.EMNISTLines(LENGTHS)
    data.prepare_data()
    data.setup()
    return data


def test_importing_says_nothing_and_moves_nothing():
    program = ("import random, numpy, torch; s = random.getstate(), numpy.random.get_state()[1].sum(), torch.initial_seed();"
               "import text_recognizer.data, text_recognizer.models, text_recognizer.lit_models;"
               "assert s == (random.getstate(), numpy.random.get_state()[1].sum(), torch.initial_seed())")
    done = run_python("-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stdout + done.stderr


@pytest.mark.parametrize("args", [None, Namespace(batch_size=64, num_workers=0), Namespace(window_width=28, lr=1e-3)])
def test_emnist_only_configures(args, data_folder):
    data = text_recognizer.data.EMNIST(args=args) if args else text_recognizer.data.EMNIST()
    assert data.batch_size == getattr(args, "batch_size", 128)
    assert not data_folder.exists(), "the constructor must not prepare data"


def test_emnist_items(emnist):
    for part in (emnist.data_train, emnist.data_val, emnist.data_test):
        assert isinstance(part, torch.utils.data.Dataset)
        image, label = part[0]
        assert (image.shape, image.dtype) == ((1, 28, 28), torch.float32)
        assert 0 <= image.min() and 0.5 < image.max() <= 1
        assert image.mean() < 0.5, "ink is bright on dark"
        assert 4 <= int(label) < 66


def test_emnist_stages():
    data = text_recognizer.data.EMNIST(source="glyphs")
    data.prepare_data()
    data.setup("fit")
    assert len(data.data_train) and len(data.data_val)
    data.setup("test")
    assert len(data.data_test)


def test_emnist_repr(emnist):
    text = repr(emnist)
    for line in ("EMNIST Dataset", "Num classes: 83", r"Mapping: \['<B>', .*\]", r"Dims: \(1, 28, 28\)", "Source: .+",
                 r"Train/val/test sizes: \d+, \d+, \d+",
                 r"Batch x stats: \(torch.Size\(\[128, 1, 28, 28\]\), torch.float32, .*",
                 r"Batch y stats: \(torch.Size\(\[128\]\), torch.int64, .*"):
        assert re.search(f"^{line}$", text, re.MULTILINE), f"{line!r} is not in\n{text}"
    assert str(emnist) == text
    unset = repr(text_recognizer.data.EMNIST(source="glyphs"))
    assert "Dims: (1, 28, 28)" in unset and "sizes" not in unset


def test_emnist_attributes(emnist):
    assert len(emnist.mapping) == 83
    assert emnist.mapping[:4] == ["<B>", "<S>", "<E>", "<P>"]
    assert "".join(emnist.mapping[4:66]) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert "".join(emnist.mapping[66:]) == " !\"#&'()*+,-./:;?"
    assert [emnist.inverse_mapping[c] for c in emnist.mapping] == list(range(83))
    assert (tuple(emnist.input_dims), tuple(emnist.output_dims)) == ((1, 28, 28), (1,))
    assert set(emnist.config()) == {"input_dims", "output_dims", "mapping"}
    assert emnist.data_dirname()
    for loader in (emnist.train_dataloader(), emnist.val_dataloader(), emnist.test_dataloader()):
        x, y = next(iter(loader))
        assert (x.shape[1:], x.dtype, y.dtype) == ((1, 28, 28), torch.float32, torch.int64)


def test_importable_from_modules():
    from text_recognizer.data.base_data_module import BaseDataModule
    from text_recognizer.data.emnist import EMNIST
    from text_recognizer.data.emnist_lines import EMNISTLines, construct_image_from_string, get_samples_by_char
    from text_recognizer.data.mnist import MNIST
    from text_recognizer.data.sentence_generator import SentenceGenerator
    from text_recognizer.data.util import BaseDataset, split_dataset

    assert all(issubclass(cls, BaseDataModule) for cls in (EMNIST, MNIST, EMNISTLines))
    functions = (construct_image_from_string, get_samples_by_char, SentenceGenerator, BaseDataset, split_dataset)
    assert all(map(callable, functions))


def idx(array):
    """An idx file of unsigned bytes, as MNIST's are before they are packed."""
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist_folder(tmp_path, monkeypatch):
    """MNIST's four files: the real ones where they are at hand, else as many blank digits in the same format."""
    if "TEXT_RECOGNIZER_RAW" in os.environ: return
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        arrays = {f"{part}-images-idx3-ubyte": np.zeros((count, 28, 28), np.uint8),
                  f"{part}-labels-idx1-ubyte": (np.arange(count) % 10).astype(np.uint8)}
        for name, array in arrays.items():
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array), compresslevel=1))
            monkeypatch.setitem(mnist.CONTENT, name, hashlib.sha256(idx(array)).hexdigest())
    monkeypatch.setenv("TEXT_RECOGNIZER_RAW", str(tmp_path))


def test_mnist(mnist_folder):
    data = text_recognizer.data.MNIST(Namespace(batch_size=128))
    data.prepare_data()
    data.setup()
    assert (len(data.data_train), len(data.data_val), len(data.data_test)) == (55_000, 5_000, 10_000)
    assert data.data_train[0][0].shape == (1, 28, 28)


def test_sentence_generator():
    sentences = text_recognizer.data.SentenceGenerator()
    for _ in range(50):
        text = sentences.generate(max_length=16)
        assert 1 <= len(text) <= 16 and text.strip() == text
        assert not set(text) & set("!\"#&'()*+,-./:;?")
    with pytest.raises(ValueError):
        sentences.generate()


def test_lines_defaults():
    data = text_recognizer.data.EMNISTLines()
    assert (data.max_length, data.min_overlap, data.max_overlap) == (32, 0, 0.33)
    assert (data.num_train, data.num_val, data.num_test) == (10_000, 2_000, 2_000)
    assert data.with_start_end_tokens is False
    assert isinstance(data.emnist, text_recognizer.data.EMNIST)


def test_lines(lines):
    image, label = lines.data_train[0]
    assert (image.shape, image.dtype, label.shape, label.dtype) == ((1, 28, 896), torch.float32, (32,), torch.int64)
    for line in ("EMNIST Lines Dataset", "Min overlap: 0", "Max overlap: 0.33", "Num classes: 83", r"Dims: \(1, 28, 896\)",
                 r"Output dims: \(32, 1\)", "Train/val/test sizes: 64, 32, 32",
                 r"Batch x stats: \(torch.Size\(\[16, 1, 28, 896\]\), torch.float32, .*",
                 r"Batch y stats: \(torch.Size\(\[16, 32\]\), torch.int64, .*"):
        assert re.search(f"^{line}", repr(lines), re.MULTILINE), f"{line!r} is not in\n{lines!r}"


CONFIG = {"input_dims": (1, 28, 28), "output_dims": (1,), "mapping": list(range(83))}


def test_cnn():
    model = text_recognizer.models.CNN(CONFIG)
    assert [p.numel() for p in model.parameters()] == [576, 64, 36864, 64, 1605632, 128, 10624, 83]
    assert [name for name, _ in model.named_children()] == ["conv1", "conv2", "dropout", "max_pool", "fc1", "fc2"]
    assert isinstance(model.conv1.conv, torch.nn.Conv2d) and isinstance(model.conv2.relu, torch.nn.ReLU)
    assert (model.dropout.p, model.max_pool.kernel_size, model.fc_input_dim) == (0.25, 2, 12544)
    assert (model.fc1.out_features, model.fc2.out_features) == (128, 83)
    for args in (Namespace(conv_dim=8, fc_dim=16, fc_dropout=None, batch_size=3), {"conv_dim": 8, "fc_dim": 16}):
        small = text_recognizer.models.CNN(CONFIG, args)
        assert (small.conv1.conv.out_channels, small.fc1.out_features, small.dropout.p) == (8, 16, 0.25)


def test_mlp():
    model = text_recognizer.models.MLP(CONFIG)
    assert (model.fc1.out_features, model.fc2.out_features, model.dropout.p) == (1024, 128, 0.5)
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 83)


def test_line_cnn_simple(lines):
    model = text_recognizer.models.LineCNNSimple(lines.config())
    assert isinstance(model.cnn, text_recognizer.models.CNN)
    assert model(torch.rand(2, 1, 28, 896)).shape == (2, 83, 32)
    narrow = text_recognizer.models.LineCNNSimple(lines.config(), Namespace(window_width=28, window_stride=14,
                                                                            limit_output_length=True))
    assert narrow(torch.rand(2, 1, 28, 896)).shape == (2, 83, 32)
    assert next(iter(model.state_dict())) == "cnn.conv1.conv.weight"


def test_lit_model(tmp_path, emnist):
    import pytorch_lightning as pl

    args = Namespace(conv_dim=4, optimizer="Adam", lr=1e-3, one_cycle_max_lr=None, one_cycle_total_steps=100,
                     loss="cross_entropy")
    model = text_recognizer.models.CNN(emnist.config(), args)
    lit_model = text_recognizer.lit_models.BaseLitModel(model=model, args=args)
    trainer = pl.Trainer(max_epochs=1, limit_train_batches=3, limit_val_batches=1, limit_test_batches=1, logger=False,
                         default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    trainer.fit(lit_model, datamodule=emnist)
    logged = set(trainer.callback_metrics)
    (tested,) = trainer.test(lit_model, datamodule=emnist, verbose=False)
    assert {"train/loss", "validation/loss", "validation/acc"} <= logged
    assert {"test/loss", "test/acc"} <= set(tested)
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    fresh = text_recognizer.models.CNN(emnist.config(), args)
    loaded = text_recognizer.lit_models.BaseLitModel.load_from_checkpoint(path, args=args, model=fresh)
    x, _ = next(iter(emnist.test_dataloader()))
    loaded.eval()
    lit_model.eval()
    assert torch.equal(loaded.predict(x), lit_model.predict(x)) and loaded.predict(x).shape == (len(x),)


def test_course_scripts_import():
    program = ("import training.run_experiment, training.util; from argparse import Namespace;"
               "args = Namespace(data_class='EMNIST', model_class='CNN');"
               "data, model = training.util.setup_data_and_model_from_args(args);"
               "print(type(data).__name__, type(model).__name__)")
    done = run_python("-c", program, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["EMNIST", "CNN"]
    import text_recognizer.training.run_experiment
    assert callable(text_recognizer.training.run_experiment.main)


# How often each of the 62 characters stands in the official EMNIST ByClass, in NIST's order.
TRAIN_COUNTS = [
    34585, 38374, 34203, 35143, 33535, 31416, 34232, 35754, 33946, 33847, 6407, 3878, 10094, 4562, 4934, 9182, 2517,
    3152, 11946, 3762, 2468, 5076, 9002, 8237, 24983, 8347, 2605, 5073, 20764, 9820, 12602, 4637, 4695, 2771, 4743,
    2701, 10033, 5159, 2854, 10177, 24631, 2561, 3687, 8738, 2725, 1896, 2491, 15318, 2645, 11418, 2749, 2448, 2994,
    14105, 2699, 18262, 2830, 2910, 2697, 2822, 2365, 2725,
]
TEST_COUNTS = [
    5778, 6330, 5869, 5969, 5619, 5190, 5705, 6139, 5633, 5686, 1062, 648, 1739, 779, 851, 1440, 447, 521, 2048, 626,
    382, 810, 1485, 1351, 4156, 1397, 413, 809, 3508, 1576, 2002, 796, 806, 432, 798, 464, 1644, 853, 432, 1683, 4092,
    400, 589, 1479, 427, 317, 466, 2535, 464, 1898, 466, 368, 505, 2320, 437, 2965, 482, 468, 467, 470, 381, 451,
]


def test_the_counts_are_the_official_ones(raw):
    from text_recognizer.metadata import emnist as metadata

    with open(raw / "emnist" / "byclass_counts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["character"] for row in rows] == metadata.MAPPING[4:66], "labels count in the order of the official mapping"
    assert [int(row["train"]) for row in rows] == TRAIN_COUNTS
    assert [int(row["test"]) for row in rows] == TEST_COUNTS


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_labs_split(shuffled):
    from text_recognizer.data.emnist import sample_to_balance

    assert (sum(TRAIN_COUNTS), sum(TEST_COUNTS), len(TRAIN_COUNTS)) == (697_932, 116_323, 62)
    kept = []
    for counts in (TRAIN_COUNTS, TEST_COUNTS):
        labels = np.repeat(np.arange(62) + 4, counts)
        if shuffled: np.random.default_rng(0).shuffle(labels)
        kept.append(len(sample_to_balance(labels)))
    assert (int(0.8 * kept[0]), kept[0] - int(0.8 * kept[0]), kept[1]) == (260_212, 65_054, 53_988)


def test_the_labs_multiplications():
    from torch.utils.flop_counter import FlopCounterMode

    cnn, counter = text_recognizer.models.CNN(CONFIG), FlopCounterMode(display=False)
    with counter, torch.no_grad(): cnn(torch.zeros(1, 1, 28, 28))
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    convolution, fc1 = flops["CNN.conv2"] // 2, flops["CNN.fc1"] // 2   # a multiplication and an addition are two
    assert (convolution, fc1) == (28_901_376, 1_605_632)
    assert (1_594_884_096 // fc1, convolution // fc1) == (993, 18)


def test_every_class_adds_its_arguments():
    data, models = text_recognizer.data, text_recognizer.models
    for cls in (data.EMNIST, data.EMNISTLines, data.MNIST, models.CNN, models.MLP, models.LineCNNSimple, models.ResCNN,
                text_recognizer.lit_models.BaseLitModel):
        parser = argparse.ArgumentParser()
        cls.add_to_argparse(parser)
        assert all(action.help for action in parser._actions), f"{cls.__name__}: an argument has no help"
