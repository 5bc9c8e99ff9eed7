"""What posts and videos about the course's Lab 02 print, typed in order into a notebook at the root under `make lab`.

Runs are cut to a few batches; nothing else is changed. Two lines cannot hold any more, and say what to write now:
`pl.Trainer(gpus=1)`, which Lightning 2 has dropped, and Colab's bootstrap of the course's own repository.
"""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from lab import Kernel, served

SHORT = "--limit_train_batches 3 --limit_val_batches 2 --limit_test_batches 2"
# What each cell prints: a regular expression, searched for in what it shows.
CELLS = {
    "the data set, configured": ("""
import text_recognizer.data
emnist = text_recognizer.data.EMNIST()
print(emnist.__doc__)""", r"NIST Special Database 19(.|\n)*28x28(.|\n)*814,255(.|\n)*62 "),
    "the data set, ready": ("""
emnist.prepare_data()
emnist.setup()
emnist""", r"EMNIST Dataset\nNum classes: 83\nMapping: \[(.|\n)*Dims: \(1, 28, 28\)(.|\n)*"
               r"Batch x stats: \(torch.Size\(\[128, 1, 28, 28"),
    "a random image": ("""
import random
import wandb

idx = random.randint(0, len(emnist.data_train) - 1)
image, label = emnist.data_train[idx]
print(emnist.mapping[label], image.shape)
wandb.Image(image).image""", r"^. torch.Size\(\[1, 28, 28\]\)\n<PIL\."),
    "the network": ("""
import text_recognizer.models
data_config = emnist.config()
cnn = text_recognizer.models.CNN(data_config)
cnn""", r"CNN\((.|\n)*conv1(.|\n)*conv2(.|\n)*dropout(.|\n)*max_pool(.|\n)*fc1(.|\n)*fc2"),
    "an untrained answer": ("""
import torch
x, y = next(iter(emnist.train_dataloader()))
print(cnn(x).shape, [p.numel() for p in cnn.parameters()])""",
                            r"\[128, 83\]\) \[576, 64, 36864, 64, 1605632, 128, 10624, 83\]"),
    "the lit model": ("""
import text_recognizer.lit_models
lit_cnn = text_recognizer.lit_models.BaseLitModel(model=cnn)
print(type(lit_cnn).__mro__[1].__name__)""", "LightningModule"),
    "training with Lightning": ("""
import pytorch_lightning as pl
trainer = pl.Trainer(max_epochs=1, limit_train_batches=3, limit_val_batches=2, logger=False, enable_checkpointing=False)
trainer.fit(lit_cnn, datamodule=emnist)
print(lit_cnn.predict(x[:2]).shape)""", r"torch.Size\(\[2\]\)"),
    "the command, documented": ("""
import training.run_experiment
print(training.run_experiment.main.__doc__)""", r"--model_class(.|\n)*--data_class"),
    "the command's help": ("""
%run training/run_experiment.py --help --model_class CNN --data_class EMNIST""",
                           r"Data Args(.|\n)*Model Args(.|\n)*LitModel Args(.|\n)*$"),
    "the help's last lines": ("""
!python training/run_experiment.py --help --model_class CNN --data_class EMNIST | tail -n 25""",
                              r"Data Args(.|\n)*Model Args(.|\n)*LitModel Args"),
    "the command, run": (f"""
%run training/run_experiment.py --max_epochs 1 --model_class CNN --data_class EMNIST --gpus 0 {SHORT}""",
                         r"test/acc(.|\n)*test/loss(.|\n)*Best model saved at: .*epoch=0000-validation.loss=[\d.]+\.ckpt"),
    "the best checkpoint, found": ("""
# if we change around model/data args in the command above, add them here
latest, = !find training/logs/lightning_logs | grep \\.ckpt$ | sort -Vr | head -n 1
latest""", r"epoch=0000-validation\.loss=[\d.]+\.ckpt"),
    "the best checkpoint, loaded": ("""
cnn_model = text_recognizer.models.CNN(emnist.config())
reloaded = text_recognizer.lit_models.BaseLitModel.load_from_checkpoint(latest, args=None, model=cnn_model)
reloaded.predict(x[:1]).shape""", r"torch.Size\(\[1\]\)"),
    "going on from it": (f"""
%run training/run_experiment.py --max_epochs 1 --load_checkpoint {{latest}} --batch_size 64 --num_workers 0 {SHORT}""",
                         r"Best model saved at: "),
    "overfitting on purpose": ("""
%run training/run_experiment.py --model_class CNN --data_class EMNIST --overfit_batches 2 --max_epochs 2""",
                               r"Best model saved at: "),
    "data and model from arguments": ("""
from argparse import Namespace
import training.util
args = Namespace(model_class="CNN", data_class="EMNIST", batch_size=32)
data, model = training.util.setup_data_and_model_from_args(args)
print(type(data).__name__, type(model).__name__)""", "EMNIST CNN"),
    "sentences": ("""
from text_recognizer.data.sentence_generator import SentenceGenerator
sentence_generator = SentenceGenerator()
print(SentenceGenerator.__doc__)
print("\\n".join(sentence_generator.generate(max_length=16) for _ in range(4)))""", r"\w"),
    "lines": ("""
emnist_lines = text_recognizer.data.EMNISTLines(args=Namespace(num_train=200, num_val=50, num_test=50))
emnist_lines.prepare_data()
emnist_lines.setup()
print(emnist_lines.__doc__)
emnist_lines""", r"EMNIST Lines Dataset(.|\n)*Dims: \(1, 28, 896\)\nOutput dims: \(32, 1\)(.|\n)*"
                 r"Batch x stats: \(torch.Size\(\[128, 1, 28, 896\]\), torch.float32, 0.0, 0\.\d+, 0\.\d+, 1\.0\)"),
    "a line": ("""
def read_line_labels(labels):
    return [emnist_lines.mapping[label] for label in labels]

line, labels = emnist_lines.data_train[0]
print("-".join(read_line_labels(labels)))
wandb.Image(line).image""", r"<P>\n<PIL\."),
    "the line's network, trained": (f"""
%run training/run_experiment.py --model_class LineCNNSimple --data_class EMNISTLines --batch_size 32 --gpus 0 \\
  --num_train 200 --num_val 50 --num_test 50 --max_epochs 1 {SHORT}""", r"test/acc(.|\n)*Best model saved at: "),
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> dict[str, str]:
    """What each cell shows, in order, in one kernel; what a cell fails with, in its place."""
    shown = {}
    with served(tmp_path_factory.mktemp("lab") / "printed.txt") as address:
        kernel = Kernel(address, "mine.ipynb")
        for name, (code, _) in CELLS.items():
            try: shown[name] = kernel.run(code)
            except AssertionError as error: shown[name] = f"FAILED: {error}"
    return shown


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_as_posted(shown, name):
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown[name]).replace("\r", "\n")
    assert not plain.startswith("FAILED"), plain[-3000:]
    assert re.search(CELLS[name][1], plain, re.MULTILINE), plain[-3000:]


def test_what_has_changed_in_lightning_is_told():
    lesson = (ROOT / "nbs" / "04_training.ipynb").read_text(encoding="utf-8")
    assert "gpus=1" in lesson and "devices=1" in lesson, "the lesson says what to write in place of pl.Trainer(gpus=1)"
    assert not Path(ROOT / "mine.ipynb").exists()
