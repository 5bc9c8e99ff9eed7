"""14,000 lines made and written: the package against the original lab's method, both in one run.

The lab makes its lines one after another: a sentence from the corpus, which it reads with NLTK once for each of three
splits; a glyph for each character, in a Python loop; the glyphs added as bytes; the images written to HDF5 (lzf). That
method is written out below, as plainly as it was meant. Ours is what `EMNISTLines` does: recipes for all lines, written and
read back. The lab's file holds pictures and ours does not, so the ratio that counts has ours compose every picture once.

It also times a second start of `SentenceGenerator`, from the file that the first one left, in three fresh processes.

`lines.py [--lines 14000] [--keep FOLDER]`. Brown is used where it can be found (TEXT_RECOGNIZER_RAW, or NLTK's folders);
otherwise the text inside Python, which is read, three times too, in NLTK's place. Glyphs are those of `EMNIST("glyphs")`.
"""

import argparse
import collections
import itertools
import os
import re
import shutil
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch

WANTED_RATIO = 25
WANTED_START = 0.050  # seconds
LENGTH = 32


class LabSentences:
    """Sentences as the lab draws them: the corpus through NLTK, then ends looked for one by one."""

    def __init__(self, max_length: int, brown: bool):
        if brown:
            import nltk

            text = " ".join(itertools.chain.from_iterable(nltk.corpus.brown.sents()))
        else:
            from pydoc_data.topics import topics

            text = " ".join(topics.values())
        text = text.translate({ord(character): None for character in string.punctuation})
        self.text = re.sub(r"\s+", " ", text)
        self.starts = [0] + [match.start() + 1 for match in re.finditer(" ", self.text)]
        self.max_length = max_length

    def generate(self, rng: np.random.RandomState) -> str:
        while True:
            first = rng.randint(0, len(self.starts) - 1)
            ends = []
            for start in self.starts[first + 1 :]:
                if start - self.starts[first] > self.max_length:
                    break
                ends.append(start)
            if ends:
                sentence = self.text[self.starts[first] : rng.choice(ends)].strip()
                if sentence and sentence.isascii():
                    return sentence


def lab_line(sentence: str, samples: dict, rng: np.random.RandomState) -> torch.Tensor:
    """One picture: one glyph for each character that the line has, added as bytes from left to right."""
    step = 28 - int(rng.uniform(0, 0.33) * 28)
    of_character = {}
    for character in sentence:
        if character not in of_character:
            found = samples.get(character)
            image = found[rng.choice(len(found))] if found else torch.zeros(28, 28, dtype=torch.uint8)
            of_character[character] = image.reshape(28, 28)
    picture, x = torch.zeros((28, 28 * LENGTH), dtype=torch.uint8), 0
    for character in sentence:
        picture[:, x : x + 28] += of_character[character]
        x += step
    return torch.minimum(torch.Tensor([255]), picture)


def lab(emnist, numbers: dict, path: Path, brown: bool) -> dict:
    """Make and write all lines as the lab does; seconds of each step."""
    seconds, rng = collections.Counter(), np.random.RandomState(42)
    with h5py.File(path, "w") as file:
        for part, number in numbers.items():
            start = time.perf_counter()
            data, samples = getattr(emnist, f"data_{part}"), collections.defaultdict(list)
            for image, label in zip(data.data, data.targets):
                samples[emnist.mapping[label]].append(image)
            seconds["glyphs by character"] += time.perf_counter() - start
            start = time.perf_counter()
            sentences = LabSentences(LENGTH - 2, brown)
            seconds["corpus"] += time.perf_counter() - start
            start = time.perf_counter()
            pictures, labels = torch.zeros((number, 28, 28 * LENGTH)), torch.full((number, LENGTH), 3, dtype=torch.uint8)
            for i in range(number):
                sentence = sentences.generate(rng)
                pictures[i] = lab_line(sentence, samples, rng)
                for place, character in enumerate(sentence):
                    labels[i, place] = emnist.inverse_mapping[character]
            seconds["lines"] += time.perf_counter() - start
            start = time.perf_counter()
            file.create_dataset(f"x_{part}", data=pictures, dtype="u1", compression="lzf")
            file.create_dataset(f"y_{part}", data=labels, dtype="u1", compression="lzf")
            seconds["written"] += time.perf_counter() - start
    return seconds


def ours(emnist, numbers: dict) -> dict:
    """Make, write and read back all lines as `EMNISTLines` does, then compose every picture; seconds of each step."""
    from text_recognizer.data.emnist_lines import EMNISTLines

    seconds, start = {}, time.perf_counter()
    lines = EMNISTLines(source="glyphs", **{f"num_{part}": number for part, number in numbers.items()})
    lines.emnist = emnist  # the characters are at hand, as they are in the lab's case
    lines.prepare_data()
    lines.setup()
    seconds["recipes made, written"] = time.perf_counter() - start
    start = time.perf_counter()
    for part in numbers:
        data = getattr(lines, f"data_{part}")
        for at in range(0, len(data), 128):
            data.__getitems__(range(at, min(at + 128, len(data))))
    seconds["all pictures composed"] = time.perf_counter() - start
    return seconds


def second_start() -> float:
    """Seconds until a `SentenceGenerator` is ready when its text was stripped before: best of three fresh processes."""
    program = ("import time; from text_recognizer.data.sentence_generator import SentenceGenerator as S; "
               "t = time.perf_counter(); S(30).generate(); print(time.perf_counter() - t)")
    return min(float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
               for _ in range(3))


def rates(number: int) -> dict:
    """Sentences and streamed lines a second."""
    from text_recognizer.data.emnist_lines import EMNISTLines
    from text_recognizer.data.sentence_generator import SentenceGenerator

    generator = SentenceGenerator(LENGTH - 2, seed=42)
    start = time.perf_counter()
    generator.generate_many(10 * number)
    found = {"sentences a second, drawn together": 10 * number / (time.perf_counter() - start)}
    start = time.perf_counter()
    for _ in range(number // 10):
        generator.generate()
    found["sentences a second, one by one"] = number // 10 / (time.perf_counter() - start)
    lines = EMNISTLines(source="glyphs", num_train=number, num_val=1, num_test=1, streaming=True)
    lines.prepare_data()
    lines.setup()
    start = time.perf_counter()
    for _ in lines.train_dataloader():
        pass
    found["streamed lines a second, one process"] = number / (time.perf_counter() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=14_000)
    parser.add_argument("--keep", type=Path, help="A folder for the data: a second run finds its glyphs there.")
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp())
    os.environ["TEXT_RECOGNIZER_DATA"] = str(folder)

    from text_recognizer.data.emnist import EMNIST
    from text_recognizer.data.sentence_generator import SentenceGenerator, nltk_folders

    emnist = EMNIST(source="glyphs")
    emnist.prepare_data()
    emnist.setup()
    for path in folder.glob("processed/*sentences-*"):
        path.unlink()
    start = time.perf_counter()
    text = SentenceGenerator()
    first = time.perf_counter() - start
    second = second_start()
    train, val = args.lines * 5 // 7, args.lines // 7
    numbers = {"train": train, "val": val, "test": args.lines - train - val}
    for path in folder.glob("processed/*emnist_lines-*"):
        path.unlink()
    print(f"{args.lines:,} lines of {LENGTH} characters, words from {text.source}, {torch.get_num_threads()} threads")
    new = ours(emnist, numbers)
    nltk_folders()  # now NLTK knows TEXT_RECOGNIZER_RAW as well
    old = lab(emnist, numbers, folder / "lab.h5", text.source == "the Brown corpus")
    (folder / "lab.h5").unlink()
    for side, seconds in (("the lab's way", old), ("ours", new)):
        for step, took in seconds.items():
            print(f"{side:14} {step:24} {took:8.2f} s")
    print(f"{'ours':14} {'corpus stripped, once':24} {first:8.2f} s  (in no ratio but the next)")
    print(f"{'ours':14} {'second start, first word':24} {1000 * second:8.1f} ms (at most {1000 * WANTED_START:.0f})")
    lab_total, made = sum(old.values()), new["recipes made, written"]
    print(f"the very first time, corpus included: {lab_total / (sum(new.values()) + first):.0f} times faster")
    print(f"until training can start: {lab_total / made:.0f} times faster")
    for name, rate in rates(args.lines).items():
        print(f"{name:38} {rate:12,.0f}")
    ratio = lab_total / sum(new.values())
    if not args.keep:
        shutil.rmtree(folder)
    print(f"lines made, written and composed once: {lab_total:.1f} s / {sum(new.values()):.2f} s, "
          f"ratio {ratio:.1f} (at least {WANTED_RATIO})")


if __name__ == "__main__":
    main()
