"""Train the line network that comes with the package, and write it with its record: `make weights`.

What it learns from: lines of `text_recognizer.data.lines.photographed`, new ones in each step, in drawn hands and, where
TEXT_RECOGNIZER_RAW holds them, with the training images of EMNIST and the phone's characters with an even number, but for every
seventh; and a stock of lines that were written, photographed and straightened as `read_line` does it. Test images and odd numbers
are not opened.

`make_line_weights.py [--seconds 600] [--clock INF] [--stock 1000] [--conv_dim 64] [--fc_dim 144] [--seed 0] [--output FOLDER]`;
seconds are of processor time, the clock's are not. A budget of time is spent differently on each machine, so the weights differ
from run to run.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a waiting thread must not spend the budget; read when torch is loaded

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))

from make_weights import HOLD_OUT, emnist_examples, phone_examples, random_text

from text_recognizer.data.lines.photographed import Hands, PhotographedLines, PhotographedWriter
from text_recognizer.data.sentence_generator import SentenceGenerator
from text_recognizer.decoding import greedy_decode
from text_recognizer.errors import UserError
from text_recognizer.files import checksum, replacing
from text_recognizer.lit_models.metrics import edits
from text_recognizer.metadata.emnist import CHARACTERS, INVERSE_MAPPING, MAPPING
from text_recognizer.metadata.paths import raw_dirname
from text_recognizer.models.line_cnn import LineCNN
from text_recognizer.progress import progress
from text_recognizer.reading.hands import PHONE
from text_recognizer.reading.ink import ink_of, without_edges
from text_recognizer.reading.line_network import line_of
from text_recognizer.reading.paper import photograph, write_line
from text_recognizer.reading.pretrained import weights_folder
from text_recognizer.reading.straighten import straighten
from text_recognizer.training.allocator import keep_memory

BATCH, PEAK_LR, LONGEST = 16, 4e-3, 32
PADDING = INVERSE_MAPPING["<P>"]
WRITERS, FIRST_HELD_WRITER = 400, 1 << 19
Lines = list[tuple[torch.Tensor, list[int]]]  # pictures (28, W), labels


def sources_of(raw: "Path | None", writers: int) -> "tuple[list[tuple[Hands, float]], dict[str, Hands]]":
    """Hands to learn from with their shares of a batch, and hands that are held out."""
    held = {"hands by unseen writers": Hands.drawn(30, FIRST_HELD_WRITER, each=2)}
    sources = [(Hands.drawn(writers, show=True), 1.0)]
    if raw is not None:
        (learned, rest) = emnist_examples(raw)
        sources = [(sources[0][0], 0.5), (Hands(*learned), 0.5)]
        held["EMNIST, training images held out"] = Hands(*rest)
        if (raw / PHONE).is_file():
            phone = Hands(*phone_examples(raw, lambda number: number % 2 == 0 and number // 2 % HOLD_OUT > 0))
            sources = [(sources[0][0], 0.42), (sources[1][0], 0.42), (phone, 0.16)]
            held["phone, even numbers held out"] = Hands(*phone_examples(raw, lambda number: number % (2 * HOLD_OUT) == 0))
    return sources, held


def shelf_of(hands: Hands) -> "tuple[list[dict[str, np.ndarray]], str]":
    """For each of a few writers, images by character; and the characters that there are."""
    known = "".join(name for name in CHARACTERS if name in hands.characters)
    images, shelves = hands.images.numpy(), []
    for writer in range(min(len(hands), 40)):
        shelves.append({name: images[hands.order[hands.first[writer, label] :][: hands.count[writer, label]]]
                        for name in known for label in [INVERSE_MAPPING[name]]})
    return shelves, known


def photographed_lines(hands: "list[Hands]", count: int, seed: int, **written) -> Lines:
    """Lines that were written, photographed and straightened, as `read_line` gets to see them."""
    chance, words, found = np.random.default_rng(seed), SentenceGenerator(source="python", seed=seed), []
    shelves = [shelf_of(each) for each in hands]
    for number in progress(range(count), "Photographing lines", unit=" lines"):
        per_writer, known = shelves[number % len(shelves)]
        shelf, text = per_writer[chance.integers(len(per_writer))], random_text(chance, words, known)
        gap = [(-2, 0), (0, 1), (1, 3), (2, 6)][chance.integers(4)]
        letters = [shelf[letter][chance.integers(len(shelf[letter]))] for letter in text if letter != " "]
        touching = chance.uniform(0, 0.5) if chance.random() < 0.4 else 0.0
        usual = {"gap": gap, "natural": chance.random() < 0.6, "touching": touching}
        line = write_line(text, letters, chance, **(usual | written))
        scale = float(np.exp(chance.uniform(np.log(0.6), np.log(2.5))))
        grey = photograph(line.ink, chance, scale, degrees=float(chance.normal(0, 1.5)), uneven=chance.random() < 0.5,
                          dark=chance.uniform(0.4, 0.9), noise=chance.uniform(0, 0.09) if chance.random() < 0.6 else 0)
        try:
            straight = straighten(without_edges(ink_of(grey.astype(np.float32) / 255)))
        except UserError:
            continue  # too faint to be found at all: nothing to learn from
        found.append((line_of(straight.ink)[0, 0], [INVERSE_MAPPING[letter] for letter in text]))
    return found


def joined(x: torch.Tensor, y: torch.Tensor, stock: Lines) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch (B, 1, 28, W), (B, L) of composed lines and lines of the stock."""
    wide = max([x.shape[3], *(picture.shape[1] for picture, _ in stock)])
    pictures = [F.pad(x, (0, wide - x.shape[3]))]
    pictures += [F.pad(picture, (0, wide - picture.shape[1]))[None, None] for picture, _ in stock]
    labels = [torch.tensor(text + [PADDING] * (y.shape[1] - len(text)))[None] for _, text in stock]
    return torch.cat(pictures), torch.cat([y, *labels])


def train(model: LineCNN, sources: "list[tuple[Hands, float]]", stock: Lines, seconds: float, clock: float, seed: int) -> int:
    """AdamW, its rate up and then down; three of four lines new ones, the fourth from the stock. How many lines were seen.

    It ends after `seconds` of processor time, or when the `clock` says so."""
    words, chance = SentenceGenerator(source="python"), np.random.default_rng(seed)
    streams = [PhotographedLines(PhotographedWriter(hands, words, LONGEST, seed + k), 1 << 40)
               for k, (hands, _) in enumerate(sources)]
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []  # batches that are seen once more: drawing takes as long as learning
    fresh = BATCH - BATCH // 4 if stock else BATCH
    counts = [round(fresh * share) for _, share in sources]
    counts[0] = fresh - sum(counts[1:])
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_LR, weight_decay=0.02)
    start, begun, step, done, running = time.process_time(), time.perf_counter(), 0, 0.0, 0.0
    model.train()
    with progress(desc="Training", total=int(seconds), unit=" s of processor time") as bar:
        while done < 1:
            bar.update(int(done * seconds) - bar.n)
            for group in optimizer.param_groups:  # up for a tenth of the way, then down to nothing
                group["lr"] = PEAK_LR * min(0.05 + done / 0.1, (1 - done) / 0.9 + 1e-3)
            if step % 2 == 0 or len(kept) < 50:
                batches = [stream.__getitems__(range(step * count, (step + 1) * count)) for stream, count in zip(streams, counts)]
                x, y = (torch.cat(part) for part in zip(*batches))
                x, y = joined(x, y, [stock[k] for k in chance.integers(len(stock), size=BATCH - fresh)] if stock else [])
                kept.append((x[..., : int(x.amax((0, 1, 2)).nonzero().max()) + 1], y))
            else:
                x, y = kept.pop(int(chance.integers(len(kept))))
            lengths = torch.where(y != PADDING, torch.arange(1, y.shape[1] + 1), 0).amax(1)
            log_probs = model(x).log_softmax(1).permute(2, 0, 1)
            loss = F.ctc_loss(log_probs, y, torch.full((len(y),), len(log_probs)), lengths, zero_infinity=True)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            step, running = step + 1, loss.item() if not step else 0.98 * running + 0.02 * loss.item()
            done = max((time.process_time() - start) / seconds, (time.perf_counter() - begun) / clock)
            if step % 250 == 0:
                print(f"step {step:,}, {done:.0%}: loss {running:.3f}", flush=True)
    return step * BATCH


def score(model: LineCNN, lines: Lines) -> float:
    """Character error rate of greedy decoding, case ignored."""
    model.eval()
    wrong = total = 0
    with torch.inference_mode():
        for picture, labels in lines:
            read = [MAPPING[label].lower() for label in greedy_decode(model(picture[None, None]))[0].tolist()]
            text = [MAPPING[label].lower() for label in labels]
            wrong, total = wrong + edits(read, text), total + len(text)
    return round(wrong / max(total, 1), 4)


def command_of(args: argparse.Namespace) -> str:
    """The command that makes the same network again, wherever it is written to."""
    options = [f"--{name} {value:g}" for name, value in vars(args).items() if name != "output" and value != float("inf")]
    return " ".join(["python tools/make_line_weights.py", *options])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="of processor time for the training proper")
    parser.add_argument("--clock", type=float, default=float("inf"), help="seconds after which it ends, however little was done")
    parser.add_argument("--stock", type=int, default=1000, help="lines that are photographed and straightened")
    parser.add_argument("--writers", type=int, default=WRITERS, help="drawn hands")
    parser.add_argument("--conv_dim", type=int, default=64)
    parser.add_argument("--fc_dim", type=int, default=144)
    parser.add_argument("--window_width", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=weights_folder())
    args = parser.parse_args()
    keep_memory()
    torch.manual_seed(args.seed)
    sources, held = sources_of(raw_dirname(), args.writers)
    started = time.process_time()
    stock = photographed_lines([hands for hands, _ in sources], args.stock, args.seed)
    photographed_in = time.process_time() - started
    print(f"{len(stock):,} lines photographed in {photographed_in:.0f} s", flush=True)
    settings = {"conv_dim": args.conv_dim, "fc_dim": args.fc_dim, "window_width": args.window_width}
    model = LineCNN({"input_dims": (1, 28, 28 * LONGEST), "mapping": MAPPING}, settings).to(memory_format=torch.channels_last)
    seen = train(model, sources, stock, args.seconds, args.clock, args.seed)

    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    conditions = {"plain": {"gap": (2, 5), "natural": True, "touching": 0.0},
                  "touching": {"gap": (2, 5), "natural": True, "touching": 0.3},
                  "overlapping": {"gap": (-2, 0), "natural": False, "touching": 0.0}}
    scores = {name: {condition: score(model, photographed_lines([hands], 60, args.seed + 1, **written))
                     for condition, written in conditions.items()} for name, hands in held.items()}
    for name, rates in scores.items():
        print(f"{name}: CER, case ignored, greedy: " + ", ".join(f"{condition} {rate:.3f}" for condition, rate in rates.items()))
    with replacing(args.output / "line.pt") as part:
        torch.save(weights, part)
    record = {
        "model": {"class": "LineCNN", "args": settings},
        "parameters": sum(value.numel() for value in weights.values()), "stored_as": "float16",
        "sha256": checksum(args.output / "line.pt"), "command": command_of(args),
        "data": {"drawn hands": args.writers, "EMNIST training images": len(sources[1][0].images) if len(sources) > 1 else 0,
                 "phone characters, even": len(sources[2][0].images) if len(sources) > 2 else 0,
                 "lines written, photographed and straightened": len(stock)},
        "lines_seen": seen, "processor_seconds": round(args.seconds + photographed_in), "torch": torch.__version__,
        "scores": scores,
    }
    with replacing(args.output / "line.json") as part:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
