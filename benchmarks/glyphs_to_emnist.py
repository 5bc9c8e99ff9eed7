"""What glyphs teach: a CNN that has seen nothing but glyphs, measured on real handwriting.

Trains `CNN` on `glyph_dataset()` for at most `--seconds` (180) of two cores, and measures it once on real EMNIST in
TEXT_RECOGNIZER_RAW: all 62 classes, and with case merged (36), where c and C are one. `--split train` measures on the
training images instead: that is what the glyphs were developed with. Nothing is chosen by the test images. The budget is
counted in processor time, 360 s for 180 s of two cores, so that a neighbour on the machine does not shorten the training.

`glyphs_to_emnist.py [--seconds 180] [--epochs 2] [--conv_dim 64] [--train_per_class 1000] [--split test] [--seed 0]
[--save PATH]`, or `--load PATH` to measure a network that was saved, without training it again.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a waiting thread must not spend the budget; read when torch is loaded

import torch

from text_recognizer.data.archives.emnist import find_emnist
from text_recognizer.data.glyphs.draw import GLYPHS_VERSION, glyph_dataset
from text_recognizer.metadata.emnist import CHARACTERS, MAPPING, NUM_SPECIAL_TOKENS
from text_recognizer.metadata.paths import raw_dirname
from text_recognizer.models.cnn import CNN, CNNArguments
from text_recognizer.training.allocator import keep_memory

WANTED = 0.70
THREADS = 2
BATCH = 128
PEAK_LR = 3e-3
MERGED = torch.tensor([CHARACTERS.index(character.upper()) for character in CHARACTERS])


def as_input(images: torch.Tensor) -> torch.Tensor:
    """Bytes (B, 28, 28) to floats (B, 1, 28, 28), in the order that convolutions on a CPU like."""
    return images[:, None].float().div_(255).to(memory_format=torch.channels_last)


def train(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: float, seconds: float) -> tuple[int, float]:
    """Adam with one cycle of its rate, over `epochs` or `seconds` of processor time; images seen and seconds taken."""
    optimizer = torch.optim.Adam(model.parameters(), PEAK_LR)
    total, step, start = int(epochs * len(x) / BATCH), 0, time.process_time()
    model.train()
    while True:
        for rows in torch.randperm(len(x)).split(BATCH):
            done = max(step / total, (time.process_time() - start) / seconds)
            if done >= 1:
                return step * BATCH, time.process_time() - start
            for group in optimizer.param_groups:  # up for a quarter of the way, then down to nothing
                group["lr"] = PEAK_LR * (0.04 + 0.96 * done / 0.25 if done < 0.25 else (1 - done) / 0.75)
            loss = torch.nn.functional.cross_entropy(model(as_input(x[rows])), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


def predict(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The most likely of the 62 classes for each of the images (N, 28, 28)."""
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(as_input(part)) for part in images.split(512)])
    first = NUM_SPECIAL_TOKENS
    return logits[:, first : first + len(CHARACTERS)].argmax(1)


def report(found: torch.Tensor, truth: torch.Tensor, name: str) -> float:
    """Print accuracy over 62 classes and with case merged; give the latter."""
    merged = (MERGED[found] == MERGED[truth]).float()
    print(f"{name}: 62 classes {(found == truth).float().mean():.1%}, case merged {merged.mean():.1%} of {len(truth):,} images")
    return merged.mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180, help="of two cores; training stops by then")
    parser.add_argument("--epochs", type=float, default=2, help="or after so many")
    parser.add_argument("--conv_dim", type=int, default=CNNArguments.conv_dim, help="the CNN's width")
    parser.add_argument("--train_per_class", type=int, default=1000, help="glyphs to train on")
    parser.add_argument("--split", choices=("train", "test"), default="test", help="of EMNIST, to measure on")
    parser.add_argument("--seed", type=int, default=0, help="of the network and the order of its batches")
    parser.add_argument("--save", metavar="PATH", help="keep the trained network there")
    parser.add_argument("--load", metavar="PATH", help="measure the network kept there; with its --conv_dim")
    args = parser.parse_args()
    keep_memory()
    torch.set_num_threads(THREADS)
    torch.manual_seed(args.seed)

    model = CNN({"input_dims": (1, 28, 28), "mapping": MAPPING}, argparse.Namespace(conv_dim=args.conv_dim))
    model = model.to(memory_format=torch.channels_last)
    if args.load:
        model.load_state_dict(torch.load(args.load, weights_only=True))
    else:
        start = time.perf_counter()
        x, y, x_unseen, y_unseen = glyph_dataset(args.train_per_class, show=False)
        print(f"glyphs version {GLYPHS_VERSION}: {len(x) + len(x_unseen):,} drawn in {time.perf_counter() - start:.0f} s")
        start = time.perf_counter()
        seen, taken = train(model, x, y, args.epochs, THREADS * args.seconds)
        print(f"CNN, conv_dim {args.conv_dim}: {seen:,} images seen in {taken / THREADS:.0f} s of {THREADS} cores "
              f"({seen / taken * THREADS:,.0f} a second); the clock says {time.perf_counter() - start:.0f} s")
        report(predict(model, x_unseen), y_unseen - NUM_SPECIAL_TOKENS, "glyphs by unseen writers")
    if args.save:
        torch.save(model.state_dict(), args.save)

    if raw_dirname() is None:
        return print("real EMNIST: not measured; set TEXT_RECOGNIZER_RAW to a folder that holds an official archive")
    archive = find_emnist(raw_dirname())
    images = torch.from_numpy(archive.images(args.split))
    truth = torch.from_numpy(archive.labels(args.split)).long()
    found = predict(model, images)
    merged = report(found, truth, f"real EMNIST, {archive.path.name}, {args.split} images")

    right = MERGED[found] == MERGED[truth]
    rows = []
    for label in truth.unique().tolist():
        of_class = truth == label
        wrong = found[of_class & ~right].bincount(minlength=len(CHARACTERS)).argsort(descending=True)[:3]
        taken_for = [CHARACTERS[k] for k in wrong.tolist() if (found[of_class & ~right] == k).any()]
        rows.append((int((of_class & ~right).sum()), int(of_class.sum()), CHARACTERS[label], " ".join(taken_for)))
    print("most errors, case merged:")
    for errors, count, character, taken_for in sorted(rows, reverse=True)[:12]:
        print(f"  {character}  {errors:3d} of {count:3d} wrong, taken for {taken_for}")
    print(f"case merged {merged:.1%}, wanted {WANTED:.0%}: {'reached' if merged >= WANTED else 'NOT reached'}")


if __name__ == "__main__":
    main()
