"""Files that are not what they were: found out, named, made again or refused, and never read as if nothing were wrong."""

import gzip
import shutil
import struct
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from robustness.things import (
    MAPPING,
    arrays,
    chance,
    gzip_zip,
    idx,
    idx_files,
    leftovers,
    mat_file,
    matlab_zip,
    run_child,
    sum_of,
    sum_of_data,
    zipped,
)
from text_recognizer.data.emnist import EMNIST
from text_recognizer.data.emnist_lines import EMNISTLines
from text_recognizer.data.glyphs import draw as glyphs
from text_recognizer.data.lines.store import load_recipes
from text_recognizer.data.processed import read_processed
from text_recognizer.data.sentence_generator import SentenceGenerator
from text_recognizer.errors import UserError

KIND = "bad files"
PAGE = b"<!DOCTYPE html><html><title>We have moved</title><body>Please update your bookmarks.</body></html>"


def few_glyphs(*args, **kwargs) -> tuple:
    """The glyphs, fewer of them."""
    return DRAWN(train_per_class=4, test_per_class=2, **kwargs)


DRAWN = glyphs.glyph_dataset


def prepare(source: str) -> str:
    """A sum of all that a set of lines over `source` serves, prepared in this process's data folder."""
    glyphs.glyph_dataset = few_glyphs
    lines = EMNISTLines(source=source, num_train=12, num_val=4, num_test=4, max_length=6, text_source="python")
    lines.prepare_data()
    lines.setup()
    lines.emnist.setup()
    return sum_of_data(lines) + sum_of_data(lines.emnist)


def spoilt(content: bytes, dice) -> "dict[str, bytes]":
    """The content, harmed in each way."""
    at, bit = dice.randrange(len(content)), dice.randrange(8)
    flipped = bytearray(content)
    flipped[at] ^= 1 << bit
    start = dice.randrange(max(1, len(content) - 512))
    return {f"bit {bit} of byte {at} flipped": bytes(flipped), "emptied": b"", "replaced by a web page": PAGE,
            f"cut after {start}": content[:start], "the last byte cut": content[:-1],
            f"zeros from {start}": content[:start] + bytes(512) + content[start + 512 :],
            "something behind it": content + b"\0" * 100, "a page of the same size": PAGE.ljust(len(content))[: len(content)]}


def some_of(all_of_them: dict, dice, number: int) -> dict:
    """So many of them, or all."""
    return {name: all_of_them[name] for name in dice.sample(sorted(all_of_them), min(number, len(all_of_them)))}


def test_a_web_page_for_sentences(tally, tmp_path):
    """A page where the sentences were, as a portal leaves it: they are made again."""
    whole, _, _ = run_child(tmp_path, prepare, "glyphs")
    [sentences] = tmp_path.glob("data/processed/sentences-*.txt")
    with tally.case("a web page for sentences"):
        sentences.write_bytes(PAGE)
        for lines in tmp_path.glob("data/processed/emnist_lines*"): lines.unlink()
        assert run_child(tmp_path, prepare, "glyphs")[0] == whole, "it serves something else"


@pytest.mark.parametrize("source", ["glyphs", "archive"])
def test_every_cached_file(source, tally, tmp_path):
    """Each file of the cache harmed in each way: the next run serves what it always did."""
    if source == "archive":
        (tmp_path / "gzip.zip").write_bytes(gzip_zip())
        source = str(tmp_path / "gzip.zip")
    whole, _, _ = run_child(tmp_path / "case", prepare, source)
    data, dice = tmp_path / "case" / "data", chance("cache", Path(source).name)
    shutil.copytree(data, tmp_path / "kept")
    cached = [path.relative_to(data) for path in data.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert {path.name.split("-")[0] for path in cached} == {"emnist", "emnist_lines", "sentences"}
    for name in cached:
        content = (tmp_path / "kept" / name).read_bytes()
        for _ in range(tally.many(1, 12)):
            for what, harmed in some_of(spoilt(content, dice), dice, tally.many(3, 100)).items():
                with tally.case(f"{name}: {what}"):
                    (data / name).write_bytes(harmed)
                    assert run_child(tmp_path / "case", prepare, source)[0] == whole, "it serves something else"
                    assert not leftovers(tmp_path / "case")
                shutil.rmtree(data)
                shutil.copytree(tmp_path / "kept", data)


def images_in(path: Path) -> "str | None":
    """A sum of every word and number that is read from a processed file; None when it is refused."""
    found = read_processed(path)
    return found and sum_of(found.source, found.key, *(part for kind in (found.images, found.labels) for part in kind.values()))


def recipes_in(path: Path, facts: str) -> "str | None":
    """Likewise of a file of lines."""
    found = load_recipes(path, facts)
    return found and sum_of(*(part for recipe in found.values() for part in recipe))


def flip_all(path: Path, places: "list[tuple[int, int]]", content_of: Callable) -> "list[str]":
    """What went wrong when each of these bits was flipped, one at a time: what is read is None, or what it was."""
    whole, content, wrong = content_of(path), path.read_bytes(), []
    warnings.simplefilter("ignore")
    for at, bit in places:
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        path.with_suffix(".now").write_text(f"{at} {bit}")  # what it was, should this be the end
        other = path.with_name("flipped.h5")
        other.write_bytes(flipped)
        try: assert content_of(other) in (None, whole), "it reads something else"
        except Exception as error: wrong.append(f"bit {bit} of byte {at}: {type(error).__name__}: {error}")
    return wrong


def flip_in_children(tally, path: Path, places: "list[tuple[int, int]]", content_of: Callable) -> None:
    """A case for each bit; five hundred to a child, for one that crashes takes the others with it."""
    while places:
        some, places = places[:500], places[500:]
        try: wrong = run_child(path.parent, flip_all, path, some, content_of, limit=60, memory=4 << 30)[0]
        except Exception as error: wrong = [f"it ended ({error}) at {path.with_suffix('.now').read_text()}"]
        for at, _ in enumerate(some):
            with tally.case("a bit"): assert at >= len(wrong), wrong[at]


def test_every_bit_of_a_processed_file(tally, tmp_path):
    """HDF5 keeps its own tables between our checksummed arrays; not a bit of them may change what is read, or crash."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip(arrays({"train": 200, "test": 70})))
    run_child(tmp_path / "case", prepare_emnist, str(tmp_path / "gzip.zip"))
    path = next((tmp_path / "case" / "data" / "processed").glob("emnist-*.h5"))
    content, dice = path.read_bytes(), chance("bits")
    with h5py.File(path) as file:
        inside = np.zeros(len(content), bool)
        for name in ("train", "val", "test"):
            start = file[f"x_{name}"].id.get_offset()
            inside[start : start + file[f"x_{name}"].size] = True
    places = [(int(at), bit) for at in np.flatnonzero(~inside) for bit in range(8)]
    places = dice.sample(places, min(len(places), tally.many(600, 40_000)))
    places += [(dice.choice(np.flatnonzero(inside).tolist()), dice.randrange(8)) for _ in range(100)]
    flip_in_children(tally, path, places, images_in)


def test_every_bit_of_the_lines(tally, tmp_path):
    """Likewise of the file with the recipes of lines, which HDF5 packs."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    run_child(tmp_path / "case", prepare, str(tmp_path / "gzip.zip"))
    path = next((tmp_path / "case" / "data" / "processed").glob("emnist_lines-*.h5"))
    with h5py.File(path) as file: facts = file.attrs["facts"]
    assert recipes_in(path, facts), "these are not the facts"
    places = [(at, bit) for at in range(path.stat().st_size) for bit in range(8)]
    places = chance("lines").sample(places, tally.many(300, 5_000))
    flip_in_children(tally, path, places, partial(recipes_in, facts=facts))


def prepare_emnist(source: str) -> str:
    """Likewise, of characters alone."""
    emnist = EMNIST(source=source)
    emnist.prepare_data()
    emnist.setup()
    return sum_of_data(emnist)


def archives_that_are_none() -> "dict[str, tuple[str, bytes]]":
    """Files under a good name that hold what they must not, by what is wrong with them."""
    good, dice = arrays(), np.random.default_rng(3)
    labels, images = good["train"]
    files = idx_files(good)
    names = sorted(files)
    def changed(name: str, content: bytes) -> tuple[str, bytes]:
        return "gzip.zip", zipped({f"gzip/{other}": content if other == name else files[other] for other in names})
    def of_train(pair: tuple) -> dict: return {**good, "train": pair}
    def declared(name: str, *shape: int, rest: bytes = b"") -> tuple[str, bytes]:
        return changed(name, gzip.compress(struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + rest))
    train_images, train_labels = names[2], names[3]
    assert "train-images" in train_images and "train-labels" in train_labels
    wide = np.repeat(images.reshape(-1, 784), 2, 1)
    bad = {
        "labels up to 62": ("gzip.zip", gzip_zip(of_train((labels + 1, images)))),
        "a label of 255": ("gzip.zip", gzip_zip(of_train((np.where(np.arange(420) == 7, 255, labels).astype(np.uint8), images)))),
        "fewer labels than images": ("gzip.zip", gzip_zip(of_train((labels[:-1], images)))),
        "fewer images than labels": ("gzip.zip", gzip_zip(of_train((labels, images[:-1])))),
        "no images at all": ("gzip.zip", gzip_zip(of_train((labels[:0], images[:0])))),
        "too few images to sample from": ("gzip.zip", gzip_zip(arrays({"train": 420, "test": 60}))),
        "images of 27x28": changed(train_images, idx(images[:, :27])),
        "images where labels belong": changed(train_labels, idx(images)),
        "labels where images belong": changed(train_images, idx(labels)),
        "four billion images declared": declared(train_images, 2**32 - 1, 28, 28),
        "more images declared than there are": declared(train_images, 421, 28, 28, rest=images.tobytes()),
        "fewer images declared than there are": declared(train_images, 419, 28, 28, rest=images.tobytes()),
        "numbers of another type": changed(train_images, gzip.compress(b"\0\0\x0d\x03" + images.tobytes())),
        "five axes": declared(train_images, 420, 28, 28, 1, 1, rest=images.tobytes()),
        "a member that is no gzip": changed(train_images, images.tobytes()),
        "a member that is empty": changed(train_images, b""),
        "a gzip cut short": changed(train_images, files[train_images][:-1000]),
        "a bomb in gzip": changed(train_images, gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 420, 28, 28)
                                                              + bytes(64 << 20), 9)),
        "the .mat with labels of 62": ("matlab.zip", matlab_zip(of_train((labels + 1, images)))),
        "the .mat with images of 1568 pixels": ("emnist-byclass.mat", mat_file(of_train((labels, wide)))),
        "the .mat of letters": ("emnist-letters.mat", mat_file()),
        "letters under our name": ("emnist-byclass.mat", mat_file(mapping=MAPPING[10:36])),
        "the .mat without a test split": ("emnist-byclass.mat", mat_file({"train": good["train"]})),
        "the .mat with fractions for labels": ("emnist-byclass.mat", mat_file(of_train((labels + 0.5, images)))),
        "the .mat with NaN for labels": ("emnist-byclass.mat", mat_file(of_train((np.full(420, np.nan), images)))),
        "the .mat with floats for images": ("emnist-byclass.mat", mat_file(of_train((labels, images / 255)))),
        "the .mat cut short": ("emnist-byclass.mat", mat_file()[:-5000]),
        "a .mat of noise": ("emnist-byclass.mat", dice.bytes(5000)),
        "a .mat in an old format": ("emnist-byclass.mat", b"\0" * 128),
        "only absolute members": ("gzip.zip", zipped({f"/tmp/{name}": files[name] for name in names})),
        "only members with ..": ("gzip.zip", zipped({f"../../gzip/{name}": files[name] for name in names})),
        "an empty zip": ("gzip.zip", zipped({})),
        "a page": ("matlab.zip", PAGE),
        "noise": ("matlab.zip", dice.bytes(3000)),
        "nothing": ("gzip.zip", b""),
        "a zip with a lie about sizes": ("gzip.zip", lying(gzip_zip(), train_images, 3 << 30)),
        "a zip with a small lie about sizes": ("gzip.zip", lying(gzip_zip(), train_images, 1000)),
        "a zip that wants a password": ("gzip.zip", locked_zip(gzip_zip())),
    }
    return bad


def lying(archive: bytes, name: str, size: int) -> bytes:
    """The zip with another size for a member in its directory."""
    at = archive.rindex(f"gzip/{name}".encode()) - 46
    assert archive[at : at + 4] == b"PK\1\2"
    return archive[: at + 24] + struct.pack("<I", size) + archive[at + 28 :]


def locked_zip(archive: bytes) -> bytes:
    """The zip with the bit set that says: encrypted."""
    changed, at = bytearray(archive), 0
    while (at := archive.find(b"PK\1\2", at)) >= 0:
        changed[at + 8] |= 1
        at += 4
    return bytes(changed)


def refuse(source: str) -> str:
    """What is said of the archive; and nothing may have been written."""
    before = {path for path in Path.cwd().rglob("*")}
    peak = peak_memory()
    try: prepare_emnist(source)
    except UserError as error: said = str(error)
    else: raise AssertionError("it was taken")
    written = [path for path in Path.cwd().rglob("*") if path not in before and path.is_file() and path.suffix != ".lock"]
    assert not written, f"written: {written}"
    assert peak_memory() - peak < 512 << 20, f"it took {(peak_memory() - peak) >> 20} MB to find out"
    return said


def peak_memory() -> int:
    """Bytes that this process has had at most."""
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


SAYS = {"images of 27x28": "it declares (420, 27, 28)", "four billion images declared": "it declares (4294967295, 28, 28)"}


def test_archives_that_are_none(tally, tmp_path):
    """Wrong shapes, ranges, types and lies: refused in one sentence that names the file, before anything is written."""
    for number, (what, (name, content)) in enumerate(archives_that_are_none().items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(content)
        with tally.case(what):
            said = run_child(folder, refuse, str(folder / name), memory=4 << 30)[0]
            assert str(folder) in said and "\n" not in said and SAYS.get(what, "") in said, said


def test_harmed_archives(tally, tmp_path):
    """Official archives cut, flipped and overwritten at random: refused, or of a part that nobody reads."""
    dice = chance("archives")
    for name, content in {"gzip.zip": gzip_zip(), "matlab.zip": matlab_zip(), "emnist-byclass.mat": mat_file()}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(content)
        whole = run_child(folder, prepare_emnist, str(folder / name))[0]
        for _ in range(tally.many(1, 30)):
            for what, harmed in some_of(spoilt(content, dice), dice, tally.many(3, 100)).items():
                with tally.case(f"{name}: {what}"):
                    (folder / name).write_bytes(harmed)
                    shutil.rmtree(folder / "data", ignore_errors=True)
                    try: assert run_child(folder, prepare_emnist, str(folder / name), memory=4 << 30)[0] == whole
                    except UserError as error: assert str(folder) in str(error) and "\n" not in str(error)


def test_members_with_paths_of_their_own(tally, tmp_path):
    """An archive with what we need, and members that point elsewhere: those are never written."""
    evil = {"/tmp/evil": b"1", "../evil": b"2", "..\\evil": b"3", "gzip/../../evil": b"4", "C:\\evil": b"5",
            "gzip/evil\0.gz": b"6"}
    for number, (name, content) in enumerate(evil.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with tally.case(name):
            (folder / "gzip.zip").write_bytes(gzip_zip(more={name: content}))
            run_child(folder, prepare_emnist, str(folder / "gzip.zip"))
            assert not list(tmp_path.rglob("evil*")) and not Path("/tmp/evil").exists()


def test_corpora_that_are_none(tally, tmp_path, monkeypatch):
    """brown.zip with other things in it: refused by name, and with text_source auto another text takes its place."""
    entry = b"The/at cat/nn sat/vbd ./."
    bad = {"a page": PAGE, "nothing": b"", "no texts": zipped({"brown/README": b"x"}),
           "a bomb": zipped({"brown/ca01": b"cat/nn " * (15 << 20)}), "texts elsewhere": zipped({"../brown/xx01": entry}),
           "cut": zipped({"brown/ca01": entry * 1000})[:-30], "no words": zipped({"brown/ca01": b"./. ,/,"}),
           "encrypted": locked_zip(zipped({"brown/ca01": entry}))}
    for number, (what, content) in enumerate(bad.items()):
        raw = tmp_path / str(number) / "raw"
        raw.mkdir(parents=True)
        (raw / "brown.zip").write_bytes(content)
        with tally.case(what):
            monkeypatch.setenv("TEXT_RECOGNIZER_RAW", str(raw))
            said = run_child(raw.parent, say, "brown")[0]
            assert "brown" in said and "\n" not in said, said
            assert what != "a bomb" or "at most 100 MB" in said, "it was unpacked first"
            assert run_child(raw.parent, say, "auto")[0].startswith("the reference text")


def say(source: str) -> str:
    """The source of the sentences, or why there are none."""
    try: return SentenceGenerator(source=source).source
    except UserError as error: return str(error)
