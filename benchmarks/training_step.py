"""The training step of `run_experiment` against the same network in the plainest Lightning loop.

Plain: one image at a time from the dataset, collated by the loader; glibc's malloc as it is; tensors as they come;
Lightning's Trainer with its own progress bar. Ours: `make_trainer` on the data module's own loader. Same network, same
images, same batch size, same optimizer. Each side runs in processes of its own, in turn, so that neither sets anything
for the other.

    python benchmarks/training_step.py [--steps 24] [--rounds 3] [--conv_dim 64] [--batch_size 128]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from argparse import Namespace

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from text_recognizer.data.base_data_module import BaseDataModule
from text_recognizer.data.util import BaseDataset, to_image
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.metadata.emnist import MAPPING
from text_recognizer.models.cnn import CNN
from text_recognizer.training.trainer import make_trainer

WARM_UP = 4


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes with the look of characters (a fifth of them ink) and labels of the 62 classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=generator)
    return x * (torch.rand(x.shape, generator=generator) < 0.2), torch.randint(4, 66, (count,), generator=generator)


class OneByOne(Dataset):
    """The course's dataset: an item is converted when it is asked for."""

    def __init__(self, x, y): self.x, self.y = x, y

    def __len__(self): return len(self.x)

    def __getitem__(self, index): return self.x[index].unsqueeze(0).float() / 255, self.y[index]


class Plain(pl.LightningModule):
    """The plainest module: loss, accuracy by hand, Adam."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def training_step(self, batch, index):
        x, y = batch
        logits = self.model(x)
        loss = F.cross_entropy(logits, y)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/acc", (logits.argmax(1) == y).float().mean(), prog_bar=True)
        return loss

    def configure_optimizers(self): return torch.optim.Adam(self.parameters(), lr=1e-3)


class Ours(BaseDataModule):
    """The package's data module over the same images."""

    def __init__(self, x, y, batch_size):
        super().__init__(batch_size=batch_size)
        self.mapping, self.input_dims, self.output_dims = MAPPING, (1, 28, 28), (1,)
        self.data_train = BaseDataset(x, y, transform=to_image)


class Clock(pl.Callback):
    """Seconds from one step to the next, after a warm-up, and of those within forward, backward and optimizer."""

    def __init__(self): self.times, self.inside = [], []

    def on_train_batch_start(self, *_):
        now = time.perf_counter()
        if getattr(self, "last", None) is not None: self.times.append(now - self.last)
        self.last = now

    def on_train_batch_end(self, *_): self.inside.append(time.perf_counter() - self.last)


def side(name: str, args: argparse.Namespace) -> dict:
    """Train on one side; median seconds a step, and the share of the loop around it."""
    warnings.filterwarnings("ignore")
    pl.seed_everything(0, verbose=False)
    x, y = images((args.steps + WARM_UP + 1) * args.batch_size)
    model = CNN({"input_dims": (1, 28, 28), "output_dims": (1,), "mapping": MAPPING}, Namespace(conv_dim=args.conv_dim))
    clock = Clock()
    common = dict(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, limit_val_batches=0,
                  num_sanity_val_steps=0, enable_model_summary=False, callbacks=[clock])
    if name == "plain":
        loader = DataLoader(OneByOne(x, y), batch_size=args.batch_size, shuffle=True)
        pl.Trainer(devices=1, **common).fit(Plain(model), loader)
    else: make_trainer(**common).fit(BaseLitModel(model), datamodule=Ours(x, y, args.batch_size))
    step = statistics.median(clock.times[WARM_UP:])
    return {"step": step, "around": 1 - statistics.median(clock.inside[WARM_UP:-1]) / step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--conv_dim", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--side", choices=["plain", "ours"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side: return print(json.dumps(side(args.side, args)))
    found: dict[str, list] = {"plain": [], "ours": []}
    for round_ in range(args.rounds):
        for name in ("plain", "ours") if round_ % 2 == 0 else ("ours", "plain"):
            done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--side", name], capture_output=True, text=True)
            if done.returncode: sys.exit(f"training_step: {name} failed:\n{done.stderr[-2000:]}")
            found[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
        plain, ours = (found[name][-1]["step"] for name in ("plain", "ours"))
        rates = [args.batch_size / seconds for seconds in (plain, ours)]
        print(f"round {round_ + 1}: plain {rates[0]:6.0f} images/s, ours {rates[1]:6.0f}: {plain / ours:.2f} times", flush=True)
    around = {name: statistics.median(one["around"] for one in ones) for name, ones in found.items()}
    print(f"share of a step outside forward, backward and optimizer: plain {around['plain']:.1%}, ours {around['ours']:.1%}")
    ratio = statistics.median(p["step"] / o["step"] for p, o in zip(found["plain"], found["ours"], strict=True))
    print(f"ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
