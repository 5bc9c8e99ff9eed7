"""The square in a notebook's toolbar: it ends a training and Run All with it, and what it says to type goes on."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

TRAINING = '''
import os, signal
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.training.trainer import make_trainer

class Square(pl.Callback):
    """Sends what the square sends, in the fifth step, once."""
    pressed = False

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 5 and not Square.pressed:
            Square.pressed = True
            os.kill(os.getpid(), signal.SIGINT)

torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.rand(256, 1, 4, 4), torch.arange(256) % 4), batch_size=32)
lit_model = BaseLitModel(nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), {"lr": 0.05})
trainer = make_trainer(max_epochs=2, default_root_dir="logs", callbacks=[Square()], SETTINGS)
'''
STATE = "(trainer.global_step, signal.getsignal(signal.SIGINT) is not signal.SIG_IGN)"


@pytest.fixture
def shown(tmp_path):
    """A function that runs cells in a kernel, and returns what each shows, errors included."""
    def run(*cells: str, go_on: bool) -> list[str]:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        client = NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=go_on,
                                resources={"metadata": {"path": str(tmp_path)}})
        try: client.execute()
        except Exception:  # a cell's error, which ends the run as it ends Run All
            assert not go_on
        return ["".join(output.get("text", "") + "\n".join(output.get("traceback", [])) +
                        output.get("data", {}).get("text/plain", "") for output in cell.outputs) for cell in notebook.cells]
    return run


def test_the_square_ends_run_all_and_what_it_says_goes_on(shown):
    training = TRAINING.replace("SETTINGS", "enable_progress_bar=False") + "trainer.fit(lit_model, train_dataloaders=loader)"
    said, below = shown(training, "print('below')", go_on=False)
    assert below == "", "the cell below must not run"
    assert "Stopped after step 6; the network keeps what it has learned." in said and "Traceback" not in said, said
    call = re.search(r"To go on: (trainer\.fit\(lit_model, train_dataloaders=loader, ckpt_path='[^']+last\.state'\))", said)
    assert call, said
    _, state, gone_on, end = shown(training, STATE, "trainer.fit(lit_model, train_dataloaders=loader, ckpt_path="
                                   "str(trainer.stopped_at))", STATE, go_on=True)
    assert (state, end) == ("(6, True)", "(16, True)"), (state, gone_on, end)


def test_the_square_where_nothing_keeps_a_state(shown):
    training = TRAINING.replace("SETTINGS", "enable_checkpointing=False, logger=False, enable_progress_bar=False")
    said, state, again, end = shown(training + "trainer.fit(lit_model, loader)", STATE, "trainer.fit(lit_model, loader)", STATE,
                                    go_on=True)
    assert "with no state to go on from: run the cell again" in said and "SystemExit" not in said, said
    assert state.endswith("True)"), f"the square must work again: {state}"
    assert end.endswith("True)"), (again, end)


def test_the_square_leaves_the_picture_of_the_training(shown):
    training = TRAINING.replace("SETTINGS", "logger=False")
    said, = shown(training + "trainer.fit(lit_model, loader)", go_on=True)
    assert "Loss and accuracy of the run" in said, said
