"""Lines without windows: the command with --loss ctc, what it refuses, runs that are resumed or shared, the forward algorithm."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_command_line import best_of, command, inside, test_score
from test_resuming import Fresh

from text_recognizer.data.lines.photographed import Hands, PhotographedLines, PhotographedWriter
from text_recognizer.data.sentence_generator import SentenceGenerator
from text_recognizer.decoding import LetterPrior, align, beam_search, collapse, decode_line, greedy_decode
from text_recognizer.errors import UserError
from text_recognizer.lit_models.ctc import CTCLitModel
from text_recognizer.metadata.emnist import INVERSE_MAPPING, MAPPING
from text_recognizer.models import LineCNN, LineCNNLSTM
from text_recognizer.training.resuming import LAST
from text_recognizer.training.trainer import make_trainer
from text_recognizer.training.util import load_run

SHORT = ["--model_class", "LineCNN", "--data_class", "EMNISTLines", "--data_source", "glyphs", "--text_source", "python",
         "--max_length", 8, "--num_train", 64, "--num_val", 32, "--num_test", 32, "--conv_dim", 8, "--fc_dim", 16,
         "--batch_size", 16, "--optimizer", "AdamW", "--accelerator", "cpu"]
PADDING = INVERSE_MAPPING["<P>"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("more", [["--streaming", "--augment", 1],
                                  ["--model_class", "LineCNNLSTM", "--loss", "ctc", "--lstm_dim", 8],
                                  ["--model_class", "LineCNNSimple", "--loss", "ctc", "--window_stride", 14]])
def test_the_command_trains_tests_and_is_loaded_again(tmp_path, capsys, monkeypatch, more):
    printed = inside(*SHORT, *more, cwd=tmp_path, capsys=capsys, monkeypatch=monkeypatch)
    cer, acc, loss = (test_score(printed, f"test/{name}") for name in ("cer", "acc", "loss"))
    assert 0 < cer and 0 <= acc <= 1 and 0 < loss
    best = tmp_path / best_of(printed)
    lit_model, data = load_run(best)
    assert isinstance(lit_model, CTCLitModel) and data.max_length == 8
    read = lit_model.predict(torch.rand(2, 1, 28, 224))
    assert read.shape[0] == 2 and read.dtype == torch.int64


def test_help_names_the_loss_that_a_reader_of_frames_is_trained_with(capsys):
    from text_recognizer.training.run_experiment import main
    for model, loss in (("LineCNN", "ctc"), ("CNN", "cross_entropy")):
        with pytest.raises(SystemExit): main(["--help", "--model_class", model, "--data_class", "EMNISTLines"])
        said = re.sub(r"\s+", " ", capsys.readouterr().out)
        assert re.search(rf"--loss NAME [^\[]*\[{loss}\]|--loss \{{{loss}\}} [^\[]*\[{loss}\]", said), said[-1500:]


@pytest.mark.parametrize(("args", "said"), [
    (["--window_stride", 5], "window_stride: expected 2, 4 or 8"), (["--loss", "crossentropy"], "loss: expected"),
    (["--max_length", 2, "--window_stride", 8, "--data_class", "EMNIST"], "CTC reads lines"),
    (["--conv_dim", 0], "conv_dim: expected a whole number of at least 1")])
def test_refusals_are_one_sentence(tmp_path, capsys, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    from text_recognizer.training.run_experiment import main
    settings = [word for word in map(str, SHORT)]
    if "EMNIST" in args: settings = settings[:2] + ["--data_source", "glyphs", "--data_fraction", "0.02", "--accelerator", "cpu"]
    if "EMNIST" in args: args = ["--data_class", "EMNIST"]
    with pytest.raises(SystemExit) as stop: main([*settings, *map(str, args)])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2 and said in error, error


def trained(folder, epochs, ckpt_path=None):
    """The weights after so many epochs on a stream of lines."""
    torch.manual_seed(3)
    data = Fresh(batch_size=16)
    lit_model = CTCLitModel(LineCNN(data.config(), {"conv_dim": 4, "fc_dim": 8}),
                            {"lr": 0.01, "one_cycle_max_lr": 0.02, "one_cycle_total_steps": 30, "augment": 1.0})
    trainer = make_trainer(max_epochs=epochs, default_root_dir=folder, accelerator="cpu", enable_progress_bar=False)
    trainer.fit(lit_model, datamodule=data, ckpt_path=ckpt_path)
    return lit_model.state_dict(), next(folder.rglob(LAST))


def test_resumed_equals_uninterrupted(tmp_path):
    for name in ("whole", "parts"): (tmp_path / name).mkdir()
    whole, _ = trained(tmp_path / "whole", 3)
    _, last = trained(tmp_path / "parts", 1)
    resumed, _ = trained(tmp_path / "parts", 3, last)
    for name, weight in whole.items(): assert torch.equal(weight, resumed[name]), name


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    curves = []
    for name, more in (("one", ["--batch_size", 16]), ("two", ["--batch_size", 8, "--devices", 2, "--strategy", "ddp"])):
        (tmp_path / name).mkdir()
        done = command(*SHORT, "--streaming", "--max_epochs", 2, *more, cwd=tmp_path / name)
        assert done.returncode == 0, done.stderr[-2000:]
        rows = [line.split(",") for line in (best_of(done.stdout).parent / "metrics.csv").read_text().splitlines()]
        place = rows[0].index("validation/loss")
        curves.append([float(row[place]) for row in rows[1:] if row[place]])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def lit(frames=12):
    """A module whose network is never asked."""
    return CTCLitModel(LineCNN({"input_dims": (1, 28, 4 * frames), "mapping": MAPPING}, {"conv_dim": 4, "fc_dim": 8}))


@pytest.mark.parametrize(("text", "said"), [("", "has no text"), ("<B>", "which is the blank"),
                                            ("aaaaaaa", "6 repeats for 12 frames")])
def test_texts_that_cannot_be_spelled(text, said):
    labels = [INVERSE_MAPPING[text]] if text in INVERSE_MAPPING else [INVERSE_MAPPING[letter] for letter in text]
    y = torch.tensor([labels + [PADDING] * (8 - len(labels))])
    with pytest.raises(UserError, match=said): lit().loss_of(torch.zeros(1, 83, 12), y)


@pytest.mark.parametrize("shape", [(1, 1, 27, 100), (1, 1, 28, 1), (1, 3, 28, 100), (28, 100)])
@pytest.mark.parametrize("network", [LineCNN, LineCNNLSTM])
def test_pictures_that_are_no_lines(network, shape):
    model = network({"input_dims": (1, 28, 112), "mapping": MAPPING}, {"conv_dim": 4, "fc_dim": 8})
    with pytest.raises(UserError, match="lines: expected a float batch"): model(torch.zeros(shape))


@pytest.mark.parametrize("seed", range(5))
def test_beam_search_with_room_enough_is_exact(seed):
    log_probs = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)).log_softmax(0)
    chances: dict[tuple, float] = {}
    for path in itertools.product(range(4), repeat=6):
        text = tuple(label for label in collapse(torch.tensor([path]), 0, 9)[0].tolist() if label != 9)
        chances[text] = chances.get(text, 0.0) + float(np.exp(sum(log_probs[label, t].item() for t, label in enumerate(path))))
    beams = beam_search(log_probs, width=5000, blank=0)
    assert {beam.labels for beam in beams} == set(chances)
    for beam in beams: assert np.exp(beam.log_chance) == pytest.approx(chances[beam.labels], rel=1e-4)
    best = max(chances, key=chances.get)
    assert beams[0].labels == best and align(log_probs.numpy(), best, blank=0).shape == (len(best), 2)


def test_a_prior_decides_between_letters_that_look_alike():
    chance = np.full((83, 9), 1e-4)
    chance[0, ::2] = 1
    for place, (first, second) in enumerate([("t", ""), ("b", "h"), ("e", "c"), (" ", "")]):
        chance[INVERSE_MAPPING[first], 2 * place + 1] = 1
        if second: chance[INVERSE_MAPPING[second], 2 * place + 1] = 0.9
    logs = np.log(chance / chance.sum(0))
    assert decode_line(logs).text == "tbe " and decode_line(logs, "letters").text == "the "
    with pytest.raises(UserError, match="three characters"): LetterPrior("")
    with pytest.raises(UserError, match="makes a batch|adds a batch"): greedy_decode(torch.zeros(83, 9))


def test_photographed_lines_follow_from_their_number_alone():
    writer = PhotographedWriter(Hands.drawn(3, each=1), SentenceGenerator(source="python"), seed=1)
    data = PhotographedLines(writer, 50, width=900)
    x, y = data.__getitems__([7, 3, 30])
    for k, number in enumerate((7, 3, 30)):
        picture, labels = data[number]
        assert torch.allclose(picture, x[k], atol=1e-5) and torch.equal(labels, y[k])
    assert 0 <= x.min() and x.max() <= 1 and len({tuple(row) for row in y.tolist()}) == 3


def test_the_shipped_weights_are_the_record_s():
    from text_recognizer.reading.pretrained import load_pretrained, weights_folder
    info = json.loads((weights_folder() / "line.json").read_text(encoding="utf-8"))
    assert sum(p.numel() for p in load_pretrained("line").parameters()) == info["parameters"]
    assert info["scores"] and info["command"].startswith("python tools/make_line_weights.py")


def test_forward_sums_agree_with_torch():
    """Beams of a short line against F.ctc_loss, repeats among the labels."""
    log_probs = torch.randn(3, 7, generator=torch.Generator().manual_seed(4)).log_softmax(0)
    for beam in beam_search(log_probs, width=3000, blank=0):
        if not beam.labels: continue
        loss = F.ctc_loss(log_probs.T, torch.tensor(beam.labels), [7], [len(beam.labels)], reduction="sum").item()
        assert beam.log_chance == pytest.approx(-loss, abs=1e-4)
