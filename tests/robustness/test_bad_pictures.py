"""Pictures that are no pictures, and pictures that show no writing: read, or refused in one sentence."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from robustness.test_bad_files import some_of, spoilt
from robustness.things import chance, run_child
from text_recognizer.errors import UserError
from text_recognizer.reading.ink import otsu
from text_recognizer.reading.lines import read_line
from text_recognizer.reading.pretrained import load_pretrained

KIND = "bad files"
ROOM = 700 << 20  # bytes that reading may take beside what the program has
FORMATS = {"PNG": {}, "JPEG": {}, "WEBP": {}, "TIFF": {"compression": "tiff_lzw"}, "BMP": {}, "GIF": {}, "PPM": {}}


def scribble(dice: np.random.Generator) -> Image.Image:
    """Anything in ink: circles, lines, blocks, arcs, dots, rules across the page, letters, in any size and number."""
    width, height = (int(side) for side in 2 ** dice.uniform(3, 9, 2))
    page = Image.new("L", (width, height), 255)
    pen, kind = ImageDraw.Draw(page), dice.integers(7)
    for _ in range(dice.integers(1, 40)):
        (x, y), size, ink = dice.uniform(0, (width, height)), 2 ** dice.uniform(0, 6), int(dice.integers(0, 200))
        thick, box = int(dice.integers(1, 8)), [x, y, x + size, y + size]
        if kind == 0: pen.ellipse(box, outline=ink)
        elif kind == 1: pen.line([x, y, *dice.uniform(0, (width, height))], fill=ink, width=thick)
        elif kind == 2: pen.rectangle(box, fill=ink)
        elif kind == 3: pen.arc(box, 0, float(dice.uniform(10, 360)), fill=ink, width=thick)
        elif kind == 4: pen.point([x, y], fill=ink)
        elif kind == 5: pen.line([0, y, width, y], fill=ink, width=thick)
        else: pen.text((x, y), "".join(map(chr, dice.integers(33, 126, dice.integers(1, 6)))), fill=ink)
    return page


def refusal(image: object, model: object, **how: str) -> "str | None":
    """The sentence that refuses a picture; None when it is read."""
    try: read_line(image, model, **how)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 500, str(error)
        return str(error)


def read_all(pictures: "list[Path]") -> "dict[str, str]":
    """What went wrong with files that were harmed, by their names; of one that is no picture the sentence says which it is."""
    model, wrong = load_pretrained(), {}
    for path in pictures:
        try:
            said = refusal(path, model)
            assert said is None or said.startswith((f"{path}: ", "image: ")), said
        except Exception as error: wrong[path.name] = f"{type(error).__name__}: {error}"
    return wrong


@pytest.mark.parametrize("name", FORMATS)
def test_harmed_pictures(name, tally, tmp_path):
    """A good picture cut, flipped and overwritten at random, in every format that is read."""
    page, dice, harms = io.BytesIO(), chance("pictures", name), {}
    picture = Image.new("L", (300, 60), 255)
    ImageDraw.Draw(picture).text((20, 20), "a line of words", fill=0)
    picture.save(page, name, **FORMATS[name])
    for round in range(tally.many(1, 40)):
        harms |= {f"{round} {what}": harmed for what, harmed in some_of(spoilt(page.getvalue(), dice), dice, 100).items()}
    paths = [tmp_path / f"{number}.{name.lower()}" for number in range(len(harms))]
    for path, content in zip(paths, harms.values()): path.write_bytes(content)
    wrong = run_child(tmp_path / "child", read_all, paths, memory=ROOM, limit=300)[0]
    for path, what in zip(paths, harms):
        with tally.case(f"{name}: {what}"): assert path.name not in wrong, wrong[path.name]


def scribbled(numbers: range) -> "dict[int, str]":
    """What went wrong with these scribbles: as bytes, floats, colours, white on black, in noise."""
    model, wrong = load_pretrained(), {}
    for number in numbers:
        dice = np.random.default_rng([7, number])
        pixels = np.asarray(scribble(dice))
        if dice.random() < 0.3: pixels = 255 - pixels
        noise = dice.normal(0, dice.uniform(1, 60), pixels.shape)
        if dice.random() < 0.3: pixels = (pixels + noise).clip(0, 255).astype(np.uint8)
        if dice.random() < 0.2: pixels = (pixels / 255).astype(dice.choice(["float16", "float32", "float64"]))
        if dice.random() < 0.2: pixels = np.repeat(pixels[..., None], dice.integers(1, 5), 2)
        try: refusal(pixels, model, prior=str(dice.choice(["none", "habits", "english"])))
        except Exception as error: wrong[number] = f"{type(error).__name__}: {error}"
    return wrong


def test_ink_of_nearly_one_shade(tally):
    """Two neighbours of float32 have no room for edges between them, and a threshold all the same."""
    for shade in np.float32([0.001, 0.5, 1]):
        darker = np.nextafter(shade, np.float32(2))
        with tally.case(f"{shade} and {darker}"): assert shade <= otsu(np.array([shade, darker, shade])) <= darker


def test_scribbles(tally, tmp_path):
    """What people may draw that is no writing."""
    numbers = range(4_000) if tally.whole else range(1_740, 1_800)  # 1742 has ink of nearly one shade
    wrong = run_child(tmp_path, scribbled, numbers, memory=ROOM, limit=1800)[0]
    for number in numbers:
        with tally.case(f"scribble {number}"): assert number not in wrong, wrong[number]
