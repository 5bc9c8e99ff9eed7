"""MLP, CNN and ResCNN after the same time of training: `python benchmarks/models.py --seconds 120 --seeds 3`.

For trying out settings (results.py makes the table of the site). On a processor, time is that of its cores, so that a busy
machine does not shorten it: 120 s of training on two threads are 240 s of processor time.

Three tasks, as far as there is data for them:

glyphs    trained on the drawn glyphs, judged on glyphs of writers that no one trained on
transfer  the same networks, judged on real characters of an EMNIST archive
real      trained on four fifths of the archive's training characters (and on glyphs too, half and half, where the archive
          is a small one), judged on the last fifth, another one for each seed

An archive is read from TEXT_RECOGNIZER_RAW, or from --archive; its test images stay untouched unless --test is given.
Every network gets the same batches, Adam, and a learning rate that rises and falls once over its time. The clock stops
while a network is judged. The seeds' mean and spread are printed, and last by how much ResCNN is ahead of CNN.
"""

import argparse
import statistics
import time
from collections import defaultdict

import numpy as np
import torch
import torch.nn.functional as F

from text_recognizer.data.archives.emnist import find_emnist
from text_recognizer.data.augment import augment
from text_recognizer.data.emnist import EMNIST
from text_recognizer.data.util import to_image
from text_recognizer.metadata.emnist import NUM_SPECIAL_TOKENS
from text_recognizer.metadata.paths import raw_dirname
from text_recognizer.models.cnn import CNN
from text_recognizer.models.mlp import MLP
from text_recognizer.models.res_cnn import ResCNN
from text_recognizer.training.allocator import keep_memory

MODELS = {"MLP": MLP, "CNN": CNN, "ResCNN": ResCNN}
SMALL = 50_000  # an archive with fewer training images is helped out with glyphs


def batches(parts, batch_size, seed):
    """Batches without end, an equal share from each of `parts`, every part reshuffled when it is used up."""
    generator, share, queues = torch.Generator().manual_seed(seed), batch_size // len(parts), [torch.empty(0)] * len(parts)
    while True:
        taken = []
        for i, (x, y) in enumerate(parts):
            if len(queues[i]) < share:
                queues[i] = torch.randperm(len(x), generator=generator)
            rows, queues[i] = queues[i][:share], queues[i][share:]
            taken.append((x[rows], y[rows]))
        yield to_image(torch.cat([x for x, _ in taken])), torch.cat([y for _, y in taken])


def rate_at(done):
    """The learning rate as a share of its peak when so much of the time is over: up for a fifth of it, then down."""
    return max(0.01, min(done / 0.2, (1 - done) / 0.8))


def clock(device):
    """Seconds: on a processor those that its cores have worked, over the number of threads."""
    return time.perf_counter() if device == "cuda" else time.process_time() / torch.get_num_threads()


def train(model, parts, seconds, args, seed, device):
    """Train for `seconds`; the number of images it has seen."""
    model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    seen, start = 0, clock(device)
    for x, y in batches(parts, args.batch_size, seed):
        done = (clock(device) - start) / seconds
        if done >= 1:
            return seen
        optimizer.param_groups[0]["lr"] = args.lr * rate_at(done)
        if args.augment:
            x = augment(x, args.augment)
        loss = F.cross_entropy(model(x.to(device, memory_format=torch.channels_last)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # waits for a GPU, so that the clock is right
        seen += len(x)


@torch.no_grad()
def accuracy(model, x, y, device):
    """The share of images read right."""
    model.eval()
    read = torch.cat([model(to_image(part).to(device)).argmax(1).cpu() for part in x.split(500)])
    return (read == y).float().mean().item()


def archive_split(archive, split):
    """All images (N, 28, 28) and labels (N,) of one split of an archive."""
    x = torch.from_numpy(archive.images(split))
    return x, torch.from_numpy(archive.labels(split).astype(np.int64)) + NUM_SPECIAL_TOKENS


def held_out(x, y, seed):
    """Four fifths to train on, one fifth to judge."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    cut = len(x) * 4 // 5
    return (x[order[:cut]], y[order[:cut]]), (x[order[cut:]], y[order[cut:]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="training time of each network")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--tasks", nargs="+", default=["glyphs", "real"], choices=["glyphs", "real"])
    parser.add_argument("--archive", default=raw_dirname(), help="an EMNIST archive; default: TEXT_RECOGNIZER_RAW")
    parser.add_argument("--test", action="store_true", help="judge `real` and `transfer` on the archive's test images")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--augment", type=float, default=0, help="turn, slant, stretch and shift training images this much")
    parser.add_argument("--threads", type=int, default=None)
    for model_class in MODELS.values():  # the first to name a flag (fc_dropout) names it for all; unset, each has its own
        known = argparse.ArgumentParser()
        model_class.add_to_argparse(known)
        for action in known._actions[1:]:
            if action.option_strings[0] not in parser._option_string_actions:
                parser.add_argument(*action.option_strings, type=action.type, default=argparse.SUPPRESS, help=action.help)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    keep_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"

    emnist = EMNIST(source="glyphs")
    emnist.prepare_data()
    emnist.setup()
    glyphs = emnist.data_train.data, emnist.data_train.targets
    archive = find_emnist(args.archive) if args.archive else None
    real = archive_split(archive, "train") if archive else None
    print(f"{args.seconds:g} s of training each, seeds 0 to {args.seeds - 1}, batches of {args.batch_size}, "
          f"{device}, {torch.get_num_threads()} threads")
    print(f"glyphs: {len(glyphs[0]):,} to train on; archive: "
          + (f"{archive.path.name}, {len(real[0]):,} training images" if archive else "none"))

    found, rates, sizes = defaultdict(list), defaultdict(list), {}
    for seed in range(args.seeds):
        for task in args.tasks:
            if task == "real" and archive is None:
                continue
            if task == "glyphs":
                parts, judged = [glyphs], {"glyphs": (emnist.data_test.data, emnist.data_test.targets)}
                if archive:
                    judged["transfer"] = archive_split(archive, "test") if args.test else real
            else:
                own, rest = held_out(*real, seed)
                parts = [own] if len(real[0]) >= SMALL else [own, glyphs]
                judged = {"real": archive_split(archive, "test") if args.test else rest}
            for name in args.models:
                torch.manual_seed(seed)
                model = MODELS[name](emnist.config(), args)
                sizes[name] = sum(parameter.numel() for parameter in model.parameters())
                rates[name].append(train(model, parts, args.seconds, args, seed, device) / args.seconds)
                for where, (x, y) in judged.items():
                    found[name, where].append(100 * accuracy(model, x, y, device))
                    print(f"  seed {seed}  {where:9} {name:7} {found[name, where][-1]:5.1f}%  "
                          f"{rates[name][-1]:,.0f} images/s", flush=True)

    places = [where for where in ("glyphs", "transfer", "real") if (args.models[0], where) in found]
    print(f"\n{'':8} {'parameters':>11} {'images/s':>9}  " + "  ".join(f"{where:>14}" for where in places))
    for name in args.models:
        cells = []
        for where in places:
            values = found[name, where]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):5.1f}% ± {spread:3.1f}".rjust(14))
        print(f"{name:8} {sizes[name]:11,} {statistics.mean(rates[name]):9,.0f}  " + "  ".join(cells))
    if {"CNN", "ResCNN"} <= set(args.models):
        for where in places:
            ahead = [a - b for a, b in zip(found["ResCNN", where], found["CNN", where])]
            spread = f"{min(ahead):+.1f} to {max(ahead):+.1f}"
            print(f"ResCNN ahead of CNN, {where}: {statistics.mean(ahead):+.1f} points ({spread})")


if __name__ == "__main__":
    main()
