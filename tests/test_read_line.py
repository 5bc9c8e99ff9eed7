"""Reading a line as it is asked for: from the shell, of pictures good and bad, with bounded memory."""

import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import run_python
from PIL import Image

from text_recognizer.data.glyphs.draw import FIRST_TEST_WRITER, draw_glyphs
from text_recognizer.lit_models.metrics import edits
from text_recognizer.metadata.emnist import CHARACTERS, INVERSE_MAPPING, NUM_SPECIAL_TOKENS
from text_recognizer.metadata.paths import raw_dirname
from text_recognizer.reading.command import main
from text_recognizer.reading.lines import read_line
from text_recognizer.reading.paper import photograph, write_line
from text_recognizer.reading.pretrained import load_pretrained

TEXTS = ["the night train to London", "seven boxes of old letters", "Chapter 12 begins at noon", "nobody knew her name",
         "turn left after the bridge", "Rivers rise in the spring", "he paid 40 dollars", "quiet streets and lazy cats"]
BAD = {"uneven": True, "noise": 0.06}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shelf() -> dict[str, np.ndarray]:
    """Images for each character that no training saw: the real sample's test part, or glyphs by unseen writers."""
    if raw_dirname() is not None:
        from text_recognizer.data.archives.emnist import find_emnist

        archive = find_emnist(raw_dirname())
        images = archive.images("test")
        labels = archive.labels("test").astype(int) + NUM_SPECIAL_TOKENS
    else:
        labels = np.repeat([INVERSE_MAPPING[letter] for letter in CHARACTERS], 10)
        images = draw_glyphs(labels.tolist(), [FIRST_TEST_WRITER + 7 * k for k in range(10)] * len(CHARACTERS)).numpy()
    return {letter: images[labels == INVERSE_MAPPING[letter]] for letter in CHARACTERS}


def line(shelf, text, seed, **photographed) -> np.ndarray:
    """A photograph of `text`."""
    chance = np.random.default_rng(seed)
    images = [shelf[letter][chance.integers(len(shelf[letter]))] for letter in text if letter != " "]
    return photograph(write_line(text, images, chance).ink, chance, **photographed)


@pytest.fixture
def page(shelf, tmp_path) -> Path:
    """A good picture of a line."""
    path = tmp_path / "line.png"
    Image.fromarray(line(shelf, TEXTS[0], 0, scale=2.0)).save(path)
    return path


def test_reads_lines_that_no_training_saw(shelf):
    """What was asked for: at most 0.25 on clean lines and 0.35 on bad ones, case ignored and spaces counted."""
    model, scales = load_pretrained(), (0.7, 1.0, 2.0, 4.0)
    for wanted, conditions in ((0.25, [{}]), (0.35, [BAD | {"scale": s, "degrees": d} for s, d in zip(scales, (3, -3, 3, -3))])):
        wrong = total = 0
        for number, text in enumerate(TEXTS):
            reading = read_line(line(shelf, text, number, **conditions[number % len(conditions)]), model)
            wrong, total = wrong + edits(reading.text.lower(), text.lower()), total + len(text)
        assert wrong / total <= wanted, f"{wrong} edits in {total} characters"


@pytest.mark.parametrize("change", ["negative", "RGB", "RGBA", "16 bits", "transparent", "small", "large"])
def test_the_same_line_in_every_guise_reads_the_same(shelf, change):
    """Polarity, colour and depth make no difference at all; size makes little."""
    plain = line(shelf, TEXTS[1], 1, scale=2.0)
    model, picture = load_pretrained(), Image.fromarray(plain)
    text = read_line(picture, model).text
    if change == "negative": other = 255 - plain
    elif change == "16 bits": other = plain.astype(np.uint16) * 257
    elif change == "transparent":
        other = np.zeros((*plain.shape, 4), np.uint8)
        other[..., 3] = 255 - plain
    elif change in ("small", "large"):
        factor = 0.5 if change == "small" else 3
        other = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.LANCZOS)
    else: other = picture.convert(change)
    assert edits(read_line(other, model).text, text) <= (4 if change in ("small", "large") else 2)


def test_the_command_prints_the_text_and_draws_the_steps(page, tmp_path, capsys):
    figure = tmp_path / "steps.png"
    assert main([str(page), "--show", str(figure)]) == 0
    out = capsys.readouterr().out
    assert out.strip() == read_line(page).text and out.count("\n") == 1
    drawn = np.asarray(Image.open(figure).convert("L"))
    assert min(drawn.shape) > 400 and drawn.std() > 20, "the figure is small or blank"


def png(width: int, height: int, data: bytes) -> bytes:
    """A grey PNG file that declares a size and holds whatever data."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def bad_file(kind: str, folder: Path, page: Path) -> Path:
    """A file that cannot be read as a line."""
    path, chance = folder / "bad.png", np.random.default_rng(0)
    if kind == "text": path.write_text("This is no picture.\n")
    elif kind == "truncated": path.write_bytes(page.read_bytes()[: page.stat().st_size // 2])
    elif kind == "bomb": path.write_bytes(png(60_000, 60_000, bytes(1 << 20)))
    elif kind == "short of pixels": path.write_bytes(png(2_000, 2_000, bytes(10_000)))
    elif kind == "tiny": Image.new("L", (3, 3)).save(path)
    elif kind == "folder": path.mkdir()
    elif kind == "pipe": os.mkfifo(path)
    elif kind == "noise": Image.fromarray(chance.integers(0, 256, (60, 400), np.uint8)).save(path)
    elif kind == "grain": Image.fromarray((200 + 5 * chance.standard_normal((60, 400))).astype(np.uint8)).save(path)
    elif kind == "gradient": Image.fromarray(np.tile(np.linspace(90, 240, 400).astype(np.uint8), (60, 1))).save(path)
    elif kind == "two lines": path = folder / "two\nlines.png"
    elif kind != "missing": Image.new("L", (400, 60), {"blank": 255, "black": 0, "grey": 128}[kind]).save(path)
    return path


@pytest.mark.parametrize("kind, says", [
    ("blank", "no ink"), ("black", "no ink"), ("grey", "no ink"), ("grain", "no ink"), ("gradient", "no ink"),
    ("noise", "no ink"), ("text", "found something else"), ("truncated", "cannot be read"),
    ("short of pixels", "cannot be read"), ("bomb", "at most 120,000,000 pixels"), ("tiny", "at least 8"),
    ("folder", "no file"), ("pipe", "no file"), ("missing", "nothing"), ("two lines", "nothing")])
def test_a_bad_picture_is_one_sentence_and_status_2(kind, says, tmp_path, page, capsys):
    assert main([str(bad_file(kind, tmp_path, page))]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1 and captured.out == ""


# Runs the command with at most so much address space, and says how much memory it used.
BOUNDED = """
import resource, sys
import torch
from text_recognizer.reading.command import main
torch.set_num_threads(1)
main([sys.argv[1]])                         # a small picture: what the program needs anyway
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (700 << 20),) * 2)
status = main([sys.argv[2]])
print("status", status, "megabytes", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits on memory as Linux has them")
@pytest.mark.parametrize("name", ["photograph.jpg", "scan.png"])
def test_ten_thousand_pixels_within_bounded_memory(name, shelf, page, tmp_path):
    """A photograph of 100 million pixels (RGB JPEG), and a scan of 10,000 by 5,000 (RGB PNG)."""
    small = Image.fromarray(line(shelf, TEXTS[2], 3, scale=4.0))
    size = (10_000, 10_000) if name.endswith("jpg") else (10_000, 5_000)
    large = Image.new("L", size, 235)
    wide = small.resize((9_000, round(small.height * 9_000 / small.width)))
    large.paste(wide, (500, size[1] // 2 - wide.height // 2))
    large.convert("RGB").save(tmp_path / name, quality=85, compress_level=1)
    done = run_python("-c", BOUNDED, page, tmp_path / name, OMP_NUM_THREADS="1", timeout=120)
    assert done.returncode == 0, done.stderr[-1500:]
    *_, text, last = done.stdout.splitlines()
    assert last.startswith("status 0"), done.stdout + done.stderr
    assert edits(text.lower(), read_line(small).text.lower()) <= len(TEXTS[2]) // 3, text


def test_a_wrong_argument_is_a_usage_message(tmp_path, capsys):
    for arguments in ([], ["line.png", "--prior", "french"], ["line.png", "--barf"]):
        with pytest.raises(SystemExit) as stop: main(arguments)
        assert stop.value.code == 2 and "usage: read-line" in capsys.readouterr().err


def test_a_figure_that_cannot_be_written_is_one_sentence(page, tmp_path, capsys):
    for place in (tmp_path / "nowhere" / "steps.png", tmp_path / "steps.barf"):
        assert main([str(page), "--show", str(place)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_reading_is_a_room_of_its_own():
    """It imports nothing of training; data and models know nothing of it; matplotlib and scipy wait until they are used."""
    program = "import sys; import {}; print([name for name in sys.modules if name.startswith({})])"
    others = ", ".join(f"text_recognizer.{room}" for room in ("data", "models", "lit_models"))
    strangers = ("text_recognizer.training", "matplotlib.pyplot", "scipy.ndimage", "PIL")
    for rooms, never in (("text_recognizer.reading.lines", strangers), (others, ("text_recognizer.reading",))):
        done = run_python("-c", program.format(rooms, never))
        assert done.stdout.strip() == "[]", f"{rooms}: {done.stdout}{done.stderr}"
