"""Train the network that comes with the package, and write it with its record: `make weights`.

What it learns from: drawn glyphs, fresh ones each round; and where TEXT_RECOGNIZER_RAW holds them, the training images of
EMNIST and the phone's characters with an even number, of both but for every seventh. All of them as they are, and as they
come out of `read_line`'s own segmentation of lines that are composed of them: whole characters under their label, and what is
no whole character (a half, two that were joined) under `<B>`. Test images and odd numbers are not opened.

`make_weights.py [--seconds 780] [--lines 2400] [--seed 0] [--output FOLDER]` and the arguments of `ResCNN`; seconds are of
one core's time. A budget of time is spent differently on each machine, so the weights differ from run to run.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from text_recognizer.data.archives.emnist import find_emnist
from text_recognizer.data.glyphs.draw import FIRST_TEST_WRITER, draw_glyphs
from text_recognizer.data.sentence_generator import SentenceGenerator
from text_recognizer.errors import UserError
from text_recognizer.files import checksum, replacing
from text_recognizer.metadata.emnist import CHARACTERS, DIMS, INVERSE_MAPPING, MAPPING, NUM_SPECIAL_TOKENS
from text_recognizer.metadata.paths import raw_dirname
from text_recognizer.models.res_cnn import ResCNN
from text_recognizer.progress import progress
from text_recognizer.reading.characters import normalise_one
from text_recognizer.reading.hands import PHONE, phone_pictures
from text_recognizer.reading.ink import ink_of, without_edges
from text_recognizer.reading.lines import pictures_of, spans_of
from text_recognizer.reading.paper import Written, photograph, write_line
from text_recognizer.reading.parts import Pieces, pieces_of
from text_recognizer.reading.pretrained import weights_folder
from text_recognizer.reading.straighten import LINE_HEIGHT, Straight, straighten
from text_recognizer.training.allocator import keep_memory

BATCH, PEAK_LR = 128, 2.5e-3
HOLD_OUT = 7                    # every seventh of what could be learned from is kept for development
MARGIN = 14                     # of `photograph`
JUNK = INVERSE_MAPPING["<B>"]
DRAWN = [label for label in range(NUM_SPECIAL_TOKENS, len(MAPPING)) if MAPPING[label] != " "]
UPPER = torch.tensor([INVERSE_MAPPING.get(name.upper(), label) for label, name in enumerate(MAPPING)])
Examples = tuple[np.ndarray, np.ndarray]  # uint8 (N, 28, 28), labels into the mapping (N,)


def emnist_examples(raw: Path) -> tuple[Examples, Examples]:
    """EMNIST's training images: to learn from, and held out."""
    archive = find_emnist(raw)
    images = archive.images("train")
    labels = archive.labels("train").astype(np.int64) + NUM_SPECIAL_TOKENS
    held = np.arange(len(labels)) % HOLD_OUT == 0
    return (images[~held], labels[~held]), (images[held], labels[held])


def phone_examples(raw: Path, wanted: "Callable[[int], bool]") -> Examples:
    """The phone's characters whose number is wanted, as `read_line` would cut them out."""
    images, labels = [], []
    for grey, label in phone_pictures(raw, wanted):
        try:
            ink = without_edges(ink_of(grey.astype(np.float32) / 255))
        except UserError:
            continue  # too faint to be found: nothing to learn from
        images.append((normalise_one(np.where(ink > 0.2, ink, 0)) * 255).round().astype(np.uint8))
        labels.append(label)
    return np.stack(images), np.array(labels)


def glyph_examples(per_class: int, first_writer: int, seed: int) -> Examples:
    """Drawn characters, all classes alike, by writers that were not there before."""
    labels = torch.tensor(DRAWN).repeat(per_class)
    writers = torch.arange(first_writer, first_writer + per_class).repeat_interleave(len(DRAWN))
    return draw_glyphs(labels, writers, seed).numpy(), labels.numpy()


def owners_of(written: Written, straight: Straight, scale: float) -> np.ndarray:
    """(H, W): for each pixel of the straight line the place of the character whose ink it is, -1 for paper."""
    y, x = np.mgrid[0 : straight.ink.shape[0], 0 : straight.ink.shape[1]]
    there_x, there_y = x / straight.scale + straight.corner[0], y / straight.scale + straight.corner[1]
    there_y = there_y + np.tan(np.radians(straight.degrees)) * there_x
    column, row = (np.floor((at + 0.5) / scale - MARGIN).astype(int) for at in (there_x, there_y))
    inside = (row >= 0) & (row < written.owner.shape[0]) & (column >= 0) & (column < written.owner.shape[1])
    return np.where(inside, written.owner[row * inside, column * inside], -1)


def label_spans(written: Written, pieces: Pieces, spans: "list[tuple[int, int]]", owners: np.ndarray) -> np.ndarray:
    """For each span the label of the character that it is, `<B>` if it is none, -1 if one cannot say."""
    inked = (pieces.owner >= 0) & (owners >= 0)
    counts = np.zeros((len(pieces.boxes), len(written.text)), np.int64)  # ink of each character in each piece
    np.add.at(counts, (pieces.owner[inked], owners[inked]), 1)
    of_character, labels = np.maximum(counts.sum(0), 1), []
    for first, last in spans:
        held = counts[first:last].sum(0)
        who = int(held.argmax())
        pure, whole = held[who] / max(int(held.sum()), 1), held[who] / of_character[who]
        labels.append(INVERSE_MAPPING[written.text[who]] if pure > 0.9 and whole > 0.9
                      else JUNK if pure < 0.8 or whole < 0.8 else -1)
    return np.array(labels)


def random_text(chance: np.random.Generator, words: SentenceGenerator, known: str) -> str:
    """Words as they come, now and then in capitals, or characters that make no word."""
    kind = chance.random()
    text = words.generate(24, chance)
    if kind < 0.25:
        text = "".join(chance.choice(list(known)) if letter != " " else " " for letter in text)
    elif kind < 0.45:
        text = text.upper()
    return "".join(letter for letter in text if letter in known or letter == " ").strip() or "U"


def line_examples(sources: "list[Examples]", count: int, seed: int) -> Examples:
    """What the segmentation makes of `count` lines, each written with the characters of one of the sources."""
    chance, words = np.random.default_rng(seed), SentenceGenerator(source="python", seed=seed)
    shelves = [{MAPPING[label]: images[labels == label] for label in np.unique(labels)} for images, labels in sources]
    images, labels = [], []
    for number in progress(range(count), "Cutting lines", unit=" lines"):
        shelf = shelves[number % len(shelves)]
        known = "".join(name for name in CHARACTERS if name in shelf)
        text = random_text(chance, words, known)
        gap = (0, 1) if chance.random() < 0.25 else (1, 3) if chance.random() < 0.3 else (2, 6)
        letters = [shelf[letter][chance.integers(len(shelf[letter]))] for letter in text if letter != " "]
        touching = 0.3 if chance.random() < 0.25 else 0.0
        written = write_line(text, letters, chance, gap=gap, natural=chance.random() < 0.6, touching=touching)
        scale = float(np.exp(chance.uniform(np.log(0.65), np.log(2.5))))
        grey = photograph(written.ink, chance, scale, uneven=chance.random() < 0.5, dark=chance.uniform(0.4, 0.9),
                          noise=chance.uniform(0, 0.09) if chance.random() < 0.6 else 0)
        try:
            straight = straighten(ink_of(grey.astype(np.float32) / 255))
        except UserError:
            continue  # one thin letter in much noise: no line for anybody
        pieces = pieces_of(straight.ink, LINE_HEIGHT)
        spans = spans_of(pieces)
        if not spans:
            continue
        found = label_spans(written, pieces, spans, owners_of(written, straight, scale))
        pictures = (pictures_of(pieces, spans).numpy() * 255).round().astype(np.uint8)
        images.append(pictures[found >= 0])
        labels.append(found[found >= 0])
    return np.concatenate(images), np.concatenate(labels)


def bend(count: int, generator: torch.Generator) -> torch.Tensor:
    """Where each pixel of (count, 28, 28) is taken from: a small affine map, and a smooth stray from it."""
    n = torch.randn(count, 6, generator=generator)
    turn, slant, wide, high = 0.09 * n[:, 0], 0.16 * n[:, 1], (0.10 * n[:, 2]).exp(), (0.08 * n[:, 3]).exp()
    cos, sin = turn.cos(), turn.sin()
    rows = [torch.stack([wide * cos, slant - sin, 0.05 * n[:, 4]], 1), torch.stack([sin, high * cos, 0.05 * n[:, 5]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), [count, 1, 28, 28], align_corners=False)
    stray = 0.055 * torch.randn(count, 2, 5, 5, generator=generator)
    return grid + F.interpolate(stray, (28, 28), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Floats (B, 1, 28, 28): bent, with a thinner or thicker pen, softer, paler, on grainy paper."""
    count = len(images)
    x = F.grid_sample(images, bend(count, generator), align_corners=False)
    chance = torch.rand(count, 5, generator=generator)[:, :, None, None, None]
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    thick, thin = F.max_pool2d(x, 3, 1, 1), -F.max_pool2d(-x, 3, 1, 1)
    much = 0.8 * chance[:, 1]
    x = torch.where(chance[:, 0] < 0.2, torch.lerp(x, thick, much), x)
    x = torch.where(chance[:, 0] > 0.85, torch.lerp(x, thin, 0.6 * much), x)
    x = torch.where(chance[:, 2] < 0.25, torch.lerp(x, soft, chance[:, 3]), x)
    x = x * (1 - 0.25 * chance[:, 4] ** 2)
    grain = torch.randn(x.shape, generator=generator) * 0.08 * (chance[:, 3] - 0.7).clamp(min=0) / 0.3
    return (x + grain).clamp(0, 1)


def balanced(labels: np.ndarray, junk: float = 0.4) -> torch.Tensor:
    """How often to take each example: classes by the root of their number, `<B>` a share `junk` of all."""
    counts = np.bincount(labels, minlength=len(MAPPING)).astype(float)
    weight = np.where(counts > 0, 1 / np.sqrt(np.maximum(counts, 1)), 0)[labels]
    of_junk = labels == JUNK
    if of_junk.any():
        weight[of_junk] *= junk / (1 - junk) * weight[~of_junk].sum() / weight[of_junk].sum()
    return torch.from_numpy(weight)


def train(model: torch.nn.Module, sources: "list[tuple[Examples, float]]", seconds: float, seed: int) -> int:
    """AdamW with one cycle of its rate over `seconds` of one core; of each batch a share from each source. Images seen."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_LR, weight_decay=0.02)
    stock = [(torch.from_numpy(x), torch.from_numpy(y), balanced(y), share) for (x, y), share in sources]
    start, seen, writer, done = time.process_time(), 0, 0, 0.0
    model.train()
    with progress(desc="Training", total=int(seconds), unit=" s of processor time") as bar:
        while done < 1:
            bar.update(int(done * seconds) - bar.n)
            batches, glyph_share = 200, 1 - sum(share for *_, share in stock)
            x, y = glyph_examples(-(-int(batches * BATCH * glyph_share) // len(DRAWN)), writer, seed)
            writer += len(y) // len(DRAWN)
            parts = [(torch.from_numpy(x), torch.from_numpy(y))]
            for images, labels, weights, share in stock:
                rows = torch.multinomial(weights, int(batches * BATCH * share), replacement=True, generator=generator)
                parts.append((images[rows], labels[rows]))
            images, labels = (torch.cat(part) for part in zip(*parts))
            for rows in torch.randperm(len(images), generator=generator).split(BATCH):
                done = (time.process_time() - start) / seconds
                if done >= 1:
                    break
                for group in optimizer.param_groups:  # up for a tenth of the way, then down to nothing
                    group["lr"] = PEAK_LR * min(0.05 + done / 0.1, (1 - done) / 0.9 + 1e-3)
                batch = augment(images[rows, None].float().div_(255), generator).to(memory_format=torch.channels_last)
                loss = F.cross_entropy(model(batch), labels[rows], label_smoothing=0.03)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                seen += len(rows)
    return seen


def score(model: torch.nn.Module, examples: Examples) -> dict[str, float]:
    """Shares of the images read right, case kept and case merged; a special token is never an answer."""
    images, labels = torch.from_numpy(examples[0]), torch.from_numpy(examples[1])
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(part[:, None].float().div(255)) for part in images.split(512)])
    found = torch.tensor(DRAWN)[logits[:, DRAWN].argmax(1)]
    return {"images": len(labels), "case kept": round((found == labels).float().mean().item(), 4),
            "case merged": round((UPPER[found] == UPPER[labels]).float().mean().item(), 4)}


def command_of(arguments: dict) -> str:
    """The command that makes the same network again, wherever it is written to."""
    options = [f"--{name} {value}" for name, value in arguments.items() if name != "output"]
    return " ".join(["python tools/make_weights.py", *options])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=780, help="of one core for the training proper")
    parser.add_argument("--lines", type=int, default=2400, help="to cut characters from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=weights_folder())
    given = vars(ResCNN.add_to_argparse(parser).parse_args())
    args = argparse.Namespace(**{name: given.pop(name) for name in ("seconds", "lines", "seed", "output")})
    keep_memory()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    raw, held, sources = raw_dirname(), {}, []
    if raw is not None:
        emnist, held["EMNIST, training images held out"] = emnist_examples(raw)
        sources.append((emnist, 0.27))
        if (raw / PHONE).is_file():
            sources.append((phone_examples(raw, lambda number: number % 2 == 0 and number // 2 % HOLD_OUT > 0), 0.13))
            held["phone, even numbers held out"] = phone_examples(raw, lambda number: number % (2 * HOLD_OUT) == 0)
    held["glyphs by unseen writers"] = glyph_examples(20, FIRST_TEST_WRITER, args.seed)
    writers = glyph_examples(100, FIRST_TEST_WRITER // 2, args.seed)
    started = time.process_time()
    lines = line_examples([part for part, _ in sources] + [writers], args.lines, args.seed)
    cut_in = time.process_time() - started
    junk = (lines[1] == JUNK).mean()
    print(f"{args.lines:,} lines cut into {len(lines[1]):,} images in {cut_in:.0f} s, {junk:.0%} no character", flush=True)
    model = ResCNN({"input_dims": DIMS, "mapping": MAPPING}, argparse.Namespace(**given))
    model = model.to(memory_format=torch.channels_last)
    seen = train(model, [*sources, (lines, 0.3)], args.seconds, args.seed)

    full = {name: score(model, examples) for name, examples in held.items()}
    weights = {name: value.half().contiguous() if value.is_floating_point() else value
               for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    scores = {name: score(model, examples) for name, examples in held.items()}
    for name in held:
        print(f"{name}: {scores[name]['case kept']:.2%} right, {scores[name]['case merged']:.2%} with case merged "
              f"(before rounding to 16 bits {full[name]['case kept']:.2%} and {full[name]['case merged']:.2%})")
    with replacing(args.output / "characters.pt") as part:
        torch.save(weights, part)
    record = {
        "model": {"class": "ResCNN", "args": given},
        "parameters": sum(weight.numel() for weight in model.parameters()), "stored_as": "float16",
        "sha256": checksum(args.output / "characters.pt"),
        "command": command_of(vars(args) | given),
        "data": {"glyphs": "drawn anew for each round, all 78 characters",
                 **{name: len(labels) for ((_, labels), _), name in zip(sources, ("EMNIST training images", "phone characters"))},
                 "images cut from composed lines": len(lines[1])},
        "images_seen": seen, "processor_seconds": round(args.seconds + cut_in), "torch": torch.__version__, "scores": scores,
    }
    with replacing(args.output / "characters.json") as part:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
