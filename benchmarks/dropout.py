"""The training step of a `CNN` with `nn.Dropout` and with the package's `Dropout`, both sides in one run, on the CPU.

The two sides are one class with the same weights, images and optimizer, channels last, and the allocator told to keep its
memory; only the dropout layer differs. Steps are taken in turn, so that a busy machine is busy for both.

    python benchmarks/dropout.py [--steps 20] [--conv_dim 64] [--batch_size 128]
"""

import argparse
import statistics
import time
from argparse import Namespace

import torch
import torch.nn.functional as F
from torch import nn

from text_recognizer.metadata.emnist import MAPPING
from text_recognizer.models.cnn import CNN
from text_recognizer.models.dropout import Dropout
from text_recognizer.training.allocator import keep_memory

WARM_UP = 4


def network(kind: type, conv_dim: int) -> nn.Module:
    """A CNN, channels last, whose dropout is of that kind."""
    torch.manual_seed(0)
    model = CNN({"input_dims": (1, 28, 28), "output_dims": (1,), "mapping": MAPPING}, Namespace(conv_dim=conv_dim))
    model.dropout = kind(model.dropout.p)
    return model.to(memory_format=torch.channels_last).train()


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> float:
    """One training step; its seconds."""
    start = time.perf_counter()
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--conv_dim", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=128)
    args = parser.parse_args()
    keep_memory()
    x, y = torch.rand(args.batch_size, 1, 28, 28), torch.randint(4, 66, (args.batch_size,))
    sides = {kind: network(kind, args.conv_dim) for kind in (nn.Dropout, Dropout)}
    optimizers = {kind: torch.optim.Adam(model.parameters(), lr=1e-3) for kind, model in sides.items()}
    times: dict[type, list[float]] = {kind: [] for kind in sides}
    for _ in range(args.steps + WARM_UP):
        for kind, model in sides.items(): times[kind].append(step(model, optimizers[kind], x, y))
    plain, ours = (statistics.median(seconds[WARM_UP:]) for seconds in times.values())
    print(f"nn.Dropout {plain * 1e3:.1f} ms a step, ours {ours * 1e3:.1f} ms; {torch.get_num_threads()} threads")
    ratio = statistics.median(a / b for a, b in zip(times[nn.Dropout][WARM_UP:], times[Dropout][WARM_UP:], strict=True))
    print(f"ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
