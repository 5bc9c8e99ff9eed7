"""How well `read_line` reads lines that nobody trained on: `python benchmarks/read_line.py [--lines 60] [--seed 0]`.

A line is 8 to 32 characters of running text: the last fifth of the Brown corpus, or of the text inside every Python where
Brown is not at hand. (What is read with a lexicon takes it from the first four fifths.) Each letter is an image of its class,
drawn at random: for every other line one of the real sample's TEST images, for the rest one of the phone's characters with
an odd number. Small letters are lower than capitals, 2 to 5 pixels of paper lie between two letters of 24 pixels, 12 to 18
pixels are a space. The line is printed on paper of brightness 0.92 that full ink darkens by 75%, with a margin of 14 pixels.

`--choose` measures on training images that no network was shown and on even numbers instead: everything is chosen with those.
`--tesseract` and `--rapidocr` read the same pictures with Tesseract (`tesseract --psm 7`, of the system) and with the
recognition of RapidOCR (PyPI `rapidocr` and `onnxruntime`; its weights are in its wheel).

Character error rates are edits per true character, spaces included, over all lines of a condition: with case ignored; with
twins merged too, for no network can tell 0 from O and 1 from l and I without their neighbours; and as it stands. A line that
is refused counts as not read at all. "noted" is the share of lines under which `read_line` has a note. Last of all, what a
note means: the error rate, case ignored, of lines with one and of lines without.
"""

import argparse
import io
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))  # for how the training set was divided

from make_weights import HOLD_OUT, UPPER, emnist_examples

from text_recognizer.data.archives.emnist import find_emnist
from text_recognizer.data.sentence_generator import PLAIN_CHARACTERS, find_text
from text_recognizer.errors import UserError
from text_recognizer.lit_models.metrics import edits
from text_recognizer.metadata.emnist import CHARACTERS, INVERSE_MAPPING, MAPPING, NUM_SPECIAL_TOKENS
from text_recognizer.metadata.paths import raw_dirname
from text_recognizer.progress import progress
from text_recognizer.reading.characters import best_guesses, normalise_one, probabilities
from text_recognizer.reading.decoding import Lexicon
from text_recognizer.reading.hands import phone_pictures
from text_recognizer.reading.lines import read_line
from text_recognizer.reading.paper import photograph, write_line
from text_recognizer.reading.pretrained import load_pretrained, pretrained_info

TWINS = str.maketrans("0ilI", "o111")  # after lower()
NAMES = """Adele Agnieszka Ahmed Akira Amélie Andersson Antonia Baker Beatrix Bianchi Bruno Carmen Chandra Charlotte Clarke
Dimitri Dubois Edward Elif Emeka Fatima Fernandez Fischer Florence Garcia George Giulia Gupta Hannah Haruto Hughes Ibrahim
Ingrid Isabel Ivanov Jakob Johansson Joseph Kamala Khan Kowalski Laila Leonard Lindqvist Lopez Magnus Marguerite Martin Mbeki
Meyer Miguel Mohamed Murphy Nadia Nakamura Nguyen Niels Novak Okafor Olivia Oscar Patel Pedro Petrov Philippa Quentin Rahman
Rebecca Rossi Ruth Santos Schneider Sigrid Silva Smith Sofia Takahashi Thomas Ursula Valentin Vikram Walker Wolfgang Xavier
Yasmin Yusuf Zhang Zoe""".replace("é", "e").split()
Shelf = dict[str, np.ndarray]  # of each character its images, uint8 (N, 28, 28)


def falling(page: np.ndarray, chance: np.random.Generator, least: float, most: float) -> np.ndarray:
    """Less light from the top to the bottom, where a share from `least` to `most` is left out."""
    return page * np.linspace(1, 1 - chance.uniform(least, most), len(page))[:, None]


def on_desk(page: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """The sheet with a dark desk around it, of brightness 70 of 255 and a little grain."""
    sides = (chance.uniform(0.2, 1.2, 4) * len(page)).astype(int)
    desk = 70 + 4 * chance.standard_normal((len(page) + sides[:2].sum(), page.shape[1] + sides[2:].sum()))
    desk[sides[0] : sides[0] + len(page), sides[2] : sides[2] + page.shape[1]] = page
    return desk


def cropped(page: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Cut exactly to its ink."""
    rows, columns = (np.flatnonzero((page < 190).any(axis)) for axis in (1, 0))
    return page[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def as_it_is(page: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    return page


BAD, NATURAL = {"uneven": True, "noise": 0.06, "degrees": 3.0}, {"natural": True}
CONDITIONS = {  # how it is written, how it is photographed, and what happens then
    "plain": (NATURAL, {}), "16 px": (NATURAL, {"scale": 2 / 3}), "tight": (NATURAL | {"gap": (1, 3)}, {}),
    "touching": (NATURAL | {"touching": 0.3}, {}),
    "light along height": (NATURAL, {"scale": 2, "margin": 2}, partial(falling, least=0.5, most=0.6)),
    "falling by 70%": (NATURAL, {"scale": 2, "margin": 2}, partial(falling, least=0.7, most=0.7)),
    "close-up": (NATURAL | {"pen": 3}, {"scale": 10, "margin": 4}), "dark desk": (NATURAL, {"scale": 2}, on_desk),
    "tight crop": (NATURAL, {"scale": 2}, cropped), "names": (NATURAL, {}), "numbers": (NATURAL, {}),
    "all, scale 2": (NATURAL, BAD | {"scale": 2.0}),
    "EMNIST's heights": ({}, {}), "uneven light": ({}, {"uneven": True}), "noise": ({}, {"noise": 0.06}),
    "tilt": ({}, {"degrees": 3.0}), "scale 4": ({}, {"scale": 4.0}), "all, scale 0.7": ({}, BAD | {"scale": 0.7}),
    "all, scale 1": ({}, BAD), "all, scale 4": ({}, BAD | {"scale": 4.0}), "no gap": ({"gap": (0, 1)}, {}),
    "overlapping": ({"gap": (-2, 0)}, {}), "boxes": ({"boxes": True}, {}), "light on dark": ({}, {}, lambda page, _: 255 - page),
}
WANTED = {"plain": 0.05, "tight": 0.08, "touching": 0.12, "light along height": 0.08}


def texts(condition: str, count: int, seed: int) -> list[str]:
    """What is written: snippets of 8 to 32 characters, names, numbers, or for the close-up a word."""
    chance, found = np.random.default_rng(seed), []
    words = text_parts()[1].split()
    while len(found) < count:
        if condition == "names":
            text = " ".join(chance.choice(NAMES, 2, replace=False))
        elif condition == "numbers":
            text = " ".join("".join(chance.choice(list("0123456789"), chance.integers(1, 7))) for _ in range(3))
        else:
            at, length = int(chance.integers(len(words) - 12)), chance.integers(8, 33) if condition != "close-up" else 8
            text = words[at] if condition == "close-up" else " ".join(words[at : at + 12])[:length].rsplit(" ", 1)[0]
        if len(text) >= (8 if condition != "close-up" else 3):
            found.append(text[:32])
    return found


def text_parts() -> tuple[str, str]:
    """The first four fifths of the text at hand, for a lexicon, and the rest, to be written."""
    words = bytes(find_text().words).decode("ascii")
    cut = words.index(" ", 4 * len(words) // 5)
    return words[:cut], words[cut + 1 :]


def phone_shelf(raw: Path, numbers: "Callable[[int], bool]") -> tuple[np.ndarray, np.ndarray]:
    """The phone's characters with certain numbers, uint8 (N, 28, 28), with their labels: paper a plane, the darkest ink full."""
    images, labels = [], []
    for picture, label in phone_pictures(raw, numbers):
        grey = picture.astype(float)
        y, x = np.mgrid[0 : grey.shape[0], 0 : grey.shape[1]]
        plane, paper = np.stack([np.ones(grey.size), x.ravel(), y.ravel()], 1), grey.ravel() > np.median(grey)
        away = 1 - grey / (plane @ np.linalg.lstsq(plane[paper], grey.ravel()[paper], rcond=None)[0]).reshape(grey.shape)
        ink = (away / np.quantile(away, 0.98)).clip(0, 1)
        images.append((normalise_one(np.where(ink > 0.3, ink, 0)) * 255).round().astype(np.uint8))
        labels.append(label)
    return np.stack(images), np.array(labels)


def shelves(choose: bool) -> list[Shelf]:
    """EMNIST's characters and the phone's, to be written with."""
    raw = raw_dirname()
    if choose:
        emnist = emnist_examples(raw)[1]
        phone = phone_shelf(raw, lambda number: number % 2 == 0 and number // 2 % HOLD_OUT == 0)
    else:
        archive = find_emnist(raw)
        emnist = archive.images("test"), archive.labels("test").astype(np.int64) + NUM_SPECIAL_TOKENS
        phone = phone_shelf(raw, lambda number: number % 2 == 1)
    return [{letter: images[labels == INVERSE_MAPPING[letter]] for letter in CHARACTERS} for images, labels in (emnist, phone)]


def picture(text: str, shelf: Shelf, chance: np.random.Generator, written: dict, photographed: dict,
            then: Callable = as_it_is) -> np.ndarray:
    """The photograph, uint8 (H, W), of a text written with images of the shelf."""
    from scipy.ndimage import grey_dilation
    options, written = dict(photographed), dict(written)
    images = [shelf[letter][chance.integers(len(shelf[letter]))] for letter in text if letter != " "]
    if pen := written.pop("pen", 0):
        images = [grey_dilation(image, (pen, pen)) for image in images]
    if "degrees" in options:
        options["degrees"] *= chance.choice([-1, 1])
    page = photograph(write_line(text, images, chance, **written).ink, chance, **options)
    return then(page, chance).clip(0, 255).round().astype(np.uint8)


def ours(**options: object) -> "Callable[[np.ndarray], tuple[str, list[str]]]":
    """Our reader: what it reads, and its notes."""
    def read(image: np.ndarray) -> tuple[str, list[str]]:
        reading = read_line(image, **options)
        return reading.text, reading.notes

    return read


def tesseract(image: np.ndarray) -> tuple[str, list[str]]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    done = subprocess.run(["tesseract", "--psm", "7", "stdin", "stdout"], input=file.getvalue(), capture_output=True, check=True)
    return " ".join(done.stdout.decode().split()), []


def rapidocr() -> "Callable[[np.ndarray], tuple[str, list[str]]]":
    from rapidocr import RapidOCR
    logging.disable(logging.INFO)
    engine = RapidOCR()

    def read(image: np.ndarray) -> tuple[str, list[str]]:
        found = engine(np.repeat(image[..., None], 3, 2), use_det=False, use_cls=False, use_rec=True)
        return " ".join(found.txts or []), []

    return read


def plain(text: str) -> str:
    """Letters, digits and spaces alone: what was written had nothing else."""
    return "".join(character for character in text if character in PLAIN_CHARACTERS + " ").strip()


def measure(readers: dict[str, Callable], wanted: list[str], shelf: list[Shelf], lines: int, seed: int) -> dict:
    """For each condition and reader int (lines, 6): edits with case ignored, twins merged, as it stands; characters; refused;
    noted. And for each reader its seconds."""
    results, seconds = {}, dict.fromkeys(readers, 0.0)
    for condition in progress(wanted, "Reading", unit=" conditions"):
        results[condition] = {name: [] for name in readers}
        for number, text in enumerate(texts(condition, lines, seed)):
            image = picture(text, shelf[number % 2], np.random.default_rng((seed, number)), *CONDITIONS[condition])
            for name, read in readers.items():
                start = time.perf_counter()
                try:
                    found, notes, refused = *read(image), 0
                except UserError:
                    found, notes, refused = "", [], 1
                seconds[name] += time.perf_counter() - start
                found = plain(found)
                merged = [(a.lower(), a.lower().translate(TWINS), a) for a in (found, text)]
                results[condition][name].append([*map(edits, *merged), len(text), refused, bool(notes)])
    return {condition: {name: np.array(rows) for name, rows in found.items()} for condition, found in results.items()}, seconds


def report(results: dict, seconds: dict[str, float]) -> None:
    """A table for each reader, and what was wanted of the first."""
    for name in seconds:
        lines = sum(len(found[name]) for found in results.values())
        print(f"\n{name} ({seconds[name] / lines:.2f} s a line)")
        heads = ("case ignored", "twins merged", "as it stands", "EMNIST", "phone", "refused", "noted")
        print(" " * 20 + "".join(f"{head:>14s}" for head in heads))
        for condition, found in results.items():
            rows = found[name]
            rates = rows[:, :3].sum(0) / rows[:, 3].sum()
            halves = [rows[k::2, 0].sum() / rows[k::2, 3].sum() for k in (0, 1)]
            print(f"{condition:20s}" + "".join(f"{rate:14.3f}" for rate in rates) + f"{halves[0]:14.3f}{halves[1]:14.3f}"
                  f"{rows[:, 4].sum():14d}{rows[:, 5].mean():14.2f}")
    name = next(iter(seconds))
    for condition, found in results.items():
        rows = found[name]
        noted, silent = (rows[rows[:, 5] == k] for k in (1, 0))
        if len(noted) and len(silent):
            print(f"{name}, {condition}: {noted[:, 0].sum() / noted[:, 3].sum():.3f} with a note, "
                  f"{silent[:, 0].sum() / silent[:, 3].sum():.3f} without; {len(noted) / len(rows):.0%} have one")
    for condition in WANTED.keys() & results.keys():
        rate = results[condition][name][:, 0].sum() / results[condition][name][:, 3].sum()
        verdict = "reached" if rate <= WANTED[condition] else "NOT reached"
        print(f"{name}, {condition}: {rate:.3f}, wanted {WANTED[condition]}: {verdict}")


def report_characters(choose: bool) -> None:
    """The phone's characters one by one, with no line around them."""
    wanted = (lambda n: n % 2 == 0 and n // 2 % HOLD_OUT == 0) if choose else (lambda n: n % 2 == 1)
    images, labels = phone_shelf(raw_dirname(), wanted)
    found = best_guesses(probabilities(torch.from_numpy(images).float() / 255, load_pretrained()).numpy(), 1)
    found, labels = torch.tensor([INVERSE_MAPPING[best[0][0]] for best in found]), torch.from_numpy(labels)
    right = UPPER[found] == UPPER[labels]
    pairs = [(MAPPING[a].lower().translate(TWINS), MAPPING[b].lower().translate(TWINS)) for a, b in zip(found, labels)]
    print(f"\nphone, {'even numbers held out' if choose else 'odd numbers'}, {len(labels):,} characters: "
          f"{right.float().mean():.3f} right with case merged, {np.mean([a == b for a, b in pairs]):.3f} with twins merged too, "
          f"{(found == labels).float().mean():.3f} as it stands")
    worst = sorted(((~right[labels == label]).sum().item(), MAPPING[label]) for label in labels.unique().tolist())[::-1]
    print("most wrong:", ", ".join(f"{letter} {wrong}" for wrong, letter in worst[:10]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=60, help="for each condition")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--choose", action="store_true", help="held-out training images and even numbers")
    parser.add_argument("--only", nargs="*", choices=list(CONDITIONS), help="conditions; all where none is named")
    parser.add_argument("--tesseract", action="store_true")
    parser.add_argument("--rapidocr", action="store_true")
    args = parser.parse_args()
    if raw_dirname() is None:
        return print("not measured: set TEXT_RECOGNIZER_RAW to a folder that holds an official EMNIST archive")
    lexicon = Lexicon(text_parts()[0])
    readers = {"read_line": ours(prior=lexicon), "characters alone": ours(prior=lexicon, model=load_pretrained()),
               'read_line, prior "english"': ours(prior="english")}
    if args.tesseract:
        readers["tesseract --psm 7"] = tesseract
    if args.rapidocr:
        readers["rapidocr"] = rapidocr()
    print(f"{args.lines} lines a condition, seed {args.seed}, {'training' if args.choose else 'test'} images; text from "
          f"{find_text().source}; networks "
          + " and ".join(pretrained_info(which)["sha256"][:8] for which in ("characters", "line")))
    report(*measure(readers, args.only or list(CONDITIONS), shelves(args.choose), args.lines, args.seed))
    report_characters(args.choose)


if __name__ == "__main__":
    main()
