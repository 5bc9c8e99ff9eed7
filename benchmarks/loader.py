"""Batches of ours against the plain loader that turns one image at a time, both sides in one run.

Both read the same images, in shuffled batches of the same size, in the main process, and hand out the same floats:

- plain: a dataset as most tutorials write it (one uint8 image through PIL to a float tensor, torch's default collate);
- ours: `EMNIST.train_dataloader()`, which gathers a batch by its indices and turns it into floats in one go.

`loader.py [--source glyphs] [--batch_size 128] [--rounds 7]`
"""

import argparse
import statistics
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from text_recognizer.data.emnist import EMNIST

WANTED = 20.0


class PlainDataset(Dataset):
    """Images one by one, through PIL, as torchvision's datasets and `ToTensor` do it."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        picture = Image.fromarray(self.images[index].numpy())
        pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True)).view(picture.size[1], picture.size[0], 1)
        return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255), self.labels[index]


def epoch(loader) -> tuple[float, int]:
    """Seconds for all batches of an epoch, and how many images came."""
    start = time.perf_counter()
    images = sum(len(x) for x, _ in loader)
    return time.perf_counter() - start, images


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="glyphs")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    emnist = EMNIST(source=args.source, batch_size=args.batch_size)
    emnist.prepare_data()
    emnist.setup("fit")
    data = emnist.data_train
    plain = PlainDataset(data.data, data.targets)
    for index in (0, len(plain) // 2, len(plain) - 1):
        assert torch.equal(plain[index][0], data[index][0]) and plain[index][1] == data[index][1], "the sides must agree"
    sides = {"plain": DataLoader(plain, args.batch_size, shuffle=True), "ours": emnist.train_dataloader()}
    seconds = {name: [] for name in sides}
    for number in range(args.rounds + 1):  # the first round warms up, and does not count
        for name, loader in sides.items():
            taken, images = epoch(loader)
            assert images == len(data), f"{name}: expected {len(data):,} images, got {images:,}"
            if number:
                seconds[name].append(taken)
    for name, times in seconds.items():
        print(f"{name:6} {len(data) / statistics.median(times):12,.0f} images/s, median of {args.rounds} epochs of {len(data):,}")
    ratio = statistics.median(a / b for a, b in zip(seconds["plain"], seconds["ours"]))
    print(f"{'met' if ratio >= WANTED else 'MISSED'}: {ratio:.1f} times the plain loader (at least {WANTED:g})")
    return 0 if ratio >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
