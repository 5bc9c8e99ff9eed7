"""The training step of `run_experiment` against the same network in the plainest Lightning loop, and against no loop at all.

plain  one image at a time from the dataset, collated by the loader; glibc's malloc as it is; tensors as they come;
       Lightning's Trainer with its own progress bar
ours   what `run_experiment` runs: `make_trainer` with its logger, checkpoints and progress line, the module with its
       metrics, the data module's own loader
bare   the same network, batches, memory settings and optimizer as ours in a `for` loop: no Lightning, no metrics, no logs

Same network, same images, same batch size, same optimizer. Each side runs in processes of its own, in turn, so that none
sets anything for the others. The loop's own cost is what ours takes longer than bare. With one thread (OMP_NUM_THREADS=1)
it is processor time that is compared, which a busy machine changes little; with more, the clock on the wall.

    python benchmarks/training_step.py [--steps 24] [--rounds 3] [--conv_dim 64] [--batch_size 128]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
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
from text_recognizer.training.allocator import keep_memory
from text_recognizer.training.trainer import make_trainer

WARM_UP = 4
SIDES = ["plain", "ours", "bare"]


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


def now() -> float:
    """Seconds: of this process alone where it has one thread, else on the wall."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


class Clock(pl.Callback):
    """Seconds from one step to the next."""

    def __init__(self): self.times, self.last = [], None

    def on_train_batch_start(self, *_):
        then, self.last = self.last, now()
        if then is not None: self.times.append(self.last - then)


def bare(model, data, steps: int) -> list[float]:
    """Seconds a step of a `for` loop in plain torch, with the memory settings of ours."""
    keep_memory()
    data.setup("fit")
    model.to(memory_format=torch.channels_last).train()
    optimizer, times = torch.optim.Adam(model.parameters(), lr=1e-3), []
    loader = iter(data.train_dataloader())
    for _ in range(steps):
        start = now()
        x, y = next(loader)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(now() - start)
    return times


def side(name: str, args: argparse.Namespace) -> float:
    """Train on one side; median seconds a step."""
    warnings.filterwarnings("ignore")
    pl.seed_everything(0, verbose=False)
    x, y = images((args.steps + WARM_UP + 1) * args.batch_size)
    model = CNN({"input_dims": (1, 28, 28), "output_dims": (1,), "mapping": MAPPING}, Namespace(conv_dim=args.conv_dim))
    data, clock = Ours(x, y, args.batch_size), Clock()
    common = dict(max_epochs=1, accelerator="cpu", limit_val_batches=0, num_sanity_val_steps=0, callbacks=[clock])
    if name == "bare": return statistics.median(bare(model, data, args.steps + WARM_UP)[WARM_UP:])
    if name == "plain":
        loader = DataLoader(OneByOne(x, y), batch_size=args.batch_size, shuffle=True)
        silent = dict(logger=False, enable_checkpointing=False, enable_model_summary=False)
        pl.Trainer(devices=1, **silent, **common).fit(Plain(model), loader)
    else:
        with tempfile.TemporaryDirectory() as folder:
            make_trainer(**common, default_root_dir=folder).fit(BaseLitModel(model), datamodule=data)
    return statistics.median(clock.times[WARM_UP:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--conv_dim", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side: return print(json.dumps(side(args.side, args)))
    found: dict[str, list[float]] = {name: [] for name in SIDES}
    for round_ in range(args.rounds):
        for name in SIDES if round_ % 2 == 0 else SIDES[::-1]:
            done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--side", name], capture_output=True, text=True)
            if done.returncode: sys.exit(f"training_step: {name} failed:\n{done.stderr[-2000:]}")
            found[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
        rates = {name: args.batch_size / seconds[-1] for name, seconds in found.items()}
        print(f"round {round_ + 1}: " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items()) + " images/s: "
              f"{rates['ours'] / rates['plain']:.2f} times plain", flush=True)
    cost = statistics.median(ours / least - 1 for ours, least in zip(found["ours"], found["bare"], strict=True))
    print(f"the loop's own cost: {cost:+.1%} of a bare step (median of rounds; best against best "
          f"{min(found['ours']) / min(found['bare']) - 1:+.1%})")
    ratio = statistics.median(plain / ours for plain, ours in zip(found["plain"], found["ours"], strict=True))
    print(f"ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
