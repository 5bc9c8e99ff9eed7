"""Downloads from a server that misbehaves: each fault ends in a good file or one sentence, and the next run succeeds.

Everything happens on 127.0.0.1 (see fault_server.py), with archives in the official format that are made here.
"""

import errno
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from fault_server import (
    FaultServer,
    Handler,
    cut,
    hang,
    html,
    lie,
    no_ranges,
    redirect,
    stall,
    unavailable,
    wrong_bytes,
)

from text_recognizer.data.archives.emnist import IdxArchive, MatArchive, NoArchive, find_emnist
from text_recognizer.data.download import files, http, sources
from text_recognizer.data.download.sources import DownloadError, Expected, Source, fetch_emnist, fetch_mnist
from text_recognizer.errors import UserError
from text_recognizer.metadata.emnist import CHARACTERS

ROOT = Path(__file__).resolve().parent.parent
NIST, FSDL = "/cs_links/EMNIST/gzip.zip", "/fsdl-public-assets/matlab.zip"
COUNTS = {"train": 420, "test": 60}
SPLIT_NAMES = [f"gzip/emnist-byclass-{split}-{part}-ubyte.gz" for split in COUNTS for part in ("labels-idx1", "images-idx3")]


def idx(array: np.ndarray) -> bytes:
    """A gzipped idx file of bytes; noise does not compress, so it is about as long as the array."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


@pytest.fixture(scope="module")
def arrays() -> dict:
    """Labels of all 62 classes and images of noise, for both splits."""
    rng = np.random.default_rng(0)
    return {split: (rng.permutation(np.arange(count) % 62).astype(np.uint8),
                    rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)) for split, count in COUNTS.items()}


@pytest.fixture(scope="module")
def zips(arrays) -> "dict[str, bytes]":
    """gzip.zip and matlab.zip, each with something else before and after what we need."""
    other = np.random.default_rng(1).bytes(300_000)
    content = [piece for labels, images in arrays.values() for piece in (idx(labels), idx(images))]
    gzips = io.BytesIO()
    with zipfile.ZipFile(gzips, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gzip/emnist-balanced-train-images-idx3-ubyte.gz", other)
        for name, data in zip(SPLIT_NAMES, content):
            archive.writestr(name, data)
        archive.writestr("gzip/emnist-mnist-train-images-idx3-ubyte.gz", other)
    # In the .mat every image is a row, its pixels column by column, of an image that lies on its side as in the idx file.
    halves = {split: {"images": images.reshape(-1, 784), "labels": labels[:, None]}
              for split, (labels, images) in arrays.items()}
    mapping = np.array([[label, ord(character)] for label, character in enumerate(CHARACTERS)], np.uint8)
    mat = io.BytesIO()
    scipy.io.savemat(mat, {"dataset": {**halves, "mapping": mapping}}, do_compression=True)
    matlabs = io.BytesIO()
    with zipfile.ZipFile(matlabs, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("matlab/emnist-letters.mat", other)
        archive.writestr("matlab/emnist-byclass.mat", mat.getvalue())
    return {NIST: gzips.getvalue(), FSDL: matlabs.getvalue()}


def source(url: str, data: bytes, wanted: str = "byclass-t|byclass.mat") -> Source:
    """The entry of the sources' table that fits this archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = tuple(Expected(info.filename, info.file_size, "sha256:" + hashlib.sha256(archive.read(info)).hexdigest())
                        for info in archive.infolist() if re.search(wanted, info.filename))
    return Source(url, Expected(url.rsplit("/", 1)[-1], None, "md5:" + hashlib.md5(data).hexdigest()), members)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Short pauses, and no proxy and no offline switch between us and 127.0.0.1; see `impatient` for servers that stall."""
    for name, value in {"CONNECT_TIMEOUT": 1.0, "READ_TIMEOUT": 5.0, "PAUSE": 0.005, "RETRIES": 2, "CHUNK": 4096}.items():
        monkeypatch.setattr(http, name, value)
    monkeypatch.setenv("TEXT_RECOGNIZER_OFFLINE", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def impatient(name: str, monkeypatch) -> None:
    """Where a server falls silent on purpose, wait for it no longer than needed; elsewhere a busy machine is no fault."""
    if name in ("stall", "no_answer"): monkeypatch.setattr(http, "READ_TIMEOUT", 0.2)


@pytest.fixture
def server(zips, quick, monkeypatch):
    """Both sources, on one server."""
    with FaultServer(zips) as running:
        monkeypatch.setattr(sources, "EMNIST_SOURCES", [source(running.url(path), data) for path, data in zips.items()])
        yield running


def fetch(folder: Path) -> Path: return fetch_emnist(folder, show=False)


def check_emnist(path: Path, arrays: dict) -> None:
    """What was fetched holds the labels and, upright, the images that were packed."""
    found = find_emnist(path)
    for split, (labels, images) in arrays.items():
        assert np.array_equal(found.labels(split), labels)
        upright = found.images(split)
        assert np.array_equal(upright, images.transpose(0, 2, 1))


def leftovers(folder: Path) -> "list[str]":
    """Files in the folder, except locks and what is named as unfinished."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")
                  if path.is_file() and not path.name.endswith(".lock") and ".partial" not in path.parts)


def member_bytes(server: FaultServer, path: str) -> int:
    """Bytes sent in answer to requests for ranges of members: all but those for the table of contents."""
    return sum(sent.sent for sent in server.log if sent.path == path and not (sent.range or "").startswith("bytes=-"))


def extent(data: bytes, wanted: str) -> int:
    """Bytes that the matching members take in the zip."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        starts = [info.header_offset for info in archive.infolist()] + [archive.start_dir]
        return sum(after - at for info, at, after in zip(archive.infolist(), starts, starts[1:]) if wanted in info.filename)


def test_only_the_needed_members_are_fetched(server, zips, arrays, tmp_path):
    path = fetch(tmp_path)
    check_emnist(path, arrays)
    assert leftovers(tmp_path) == sorted(SPLIT_NAMES), "the four members, and nothing else"
    assert not (tmp_path / ".partial").exists(), "what was unfinished is cleared away"
    assert member_bytes(server, NIST) == extent(zips[NIST], "byclass-t"), "no byte of the other members, none twice"
    assert server.sent(FSDL) == 0, "the second source is for when the first fails"
    before = len(server.log)
    assert fetch(tmp_path) == path and len(server.log) == before, "what is there is not fetched again"
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "train.part").touch()  # of a process that was killed at the very end
    assert fetch(tmp_path) == path and not (tmp_path / ".partial").exists()


def repacked(data: bytes) -> bytes:
    """A sound zip with the same names and sizes, and other content."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist(): new.writestr(name, old.read(name)[::-1])
    return changed.getvalue()


FAULTS = {
    "redirect": (lambda zips, path: redirect("/elsewhere"), None),
    "redirect_loop": (lambda zips, path: redirect(path), "it redirects without end"),
    "no_answer": (lambda zips, path: hang(), "silent for 0.2 s"),
    "stall": (lambda zips, path: stall(0), "silent for 0.2 s"),
    "cut": (lambda zips, path: cut(20), "the connection broke off"),
    "html": (lambda zips, path: html(), "expected .* [kM]B, got an HTML page of 98 B"),
    "html_as_zip": (lambda zips, path: html("application/zip"), "got an HTML page of 98 B"),
    "html_in_words": (lambda zips, path: partial(Handler.serve, body=b"We moved.", kind="text/html", ranges=False),
                      "got an HTML page of 9 B"),
    "html_padded": (lambda zips, path: html("application/zip", len(zips[path])), "expected a zip archive"),
    "other_zip": (lambda zips, path: wrong_bytes(zips[path], 3000), "is wrong|got something that is none"),
    "repacked": (lambda zips, path: partial(Handler.serve, body=repacked(zips[path])), "the sha256 of .* is wrong"),
    "unavailable": (lambda zips, path: unavailable(), "HTTP 503 Service Unavailable"),
    "gone": (lambda zips, path: unavailable(404), "HTTP 404 Not Found"),
    "refuses_and_cuts": (lambda zips, path: no_ranges(stop=9000), "sends no ranges.*the connection broke off"),
    "refuses_and_lies": (lambda zips, path: no_ranges(length=5000), "sends no ranges.*(md5 of .*zip is wrong|got)"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_first(name, server, zips, arrays, tmp_path, monkeypatch):
    """A fault in the first two answers: the data arrives all the same, from whichever source."""
    impatient(name, monkeypatch)
    server.files["/elsewhere"] = zips[NIST]
    fault = FAULTS[name][0](zips, NIST)
    server.faults[NIST] = [fault, fault]
    check_emnist(fetch(tmp_path), arrays)
    assert not (tmp_path / ".partial").exists()


@pytest.mark.parametrize("name", [name for name, (_, error) in FAULTS.items() if error])
def test_a_fault_that_stays(name, server, zips, arrays, tmp_path, monkeypatch):
    """The same fault everywhere and always: one sentence that names both sources; once it is mended, all is well."""
    impatient(name, monkeypatch)
    fault, expected = FAULTS[name]
    server.always = {path: fault(zips, path) for path in zips}
    with pytest.raises(DownloadError, match=expected) as caught: fetch(tmp_path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700, message
    assert "127.0.0.1 gzip.zip: " in message and "127.0.0.1 matlab.zip: " in message
    assert "TEXT_RECOGNIZER_RAW" in message and "source='glyphs'" in message
    with pytest.raises(NoArchive): find_emnist(tmp_path)
    server.always.clear()
    check_emnist(fetch(tmp_path), arrays)
    assert not (tmp_path / ".partial").exists()


def test_resumed_where_it_broke_off(server, zips, arrays, tmp_path, monkeypatch):
    """Two runs and three breaks: over both, every byte of the members is sent once, but for at most a chunk a break."""
    monkeypatch.setattr(http, "RETRIES", 0)
    server.always[FSDL] = unavailable()
    good = sources.EMNIST_SOURCES[0]
    size = {member.name: member.size for member in good.members}
    runs = 0
    server.faults[NIST] = [cut(10**9)] * 2 + [cut(100_000)]  # the table of contents, the train labels, the train images
    while True:
        runs += 1
        try: path = fetch(tmp_path)
        except DownloadError as error:
            assert re.search(r"broke off after \d+(\.\d+)? kB of \d+ kB", str(error)), error
            server.faults[NIST] = [cut(10**9), cut(100_000)]
        else: break
        assert runs < 6
    check_emnist(path, arrays)
    assert runs == 4 and size[SPLIT_NAMES[1]] > 300_000
    repeated = member_bytes(server, NIST) - extent(zips[NIST], "byclass-t")
    assert 0 <= repeated <= (runs - 1) * http.CHUNK, f"{repeated} bytes were sent twice"


def test_a_spoilt_part_is_thrown_away(server, zips, arrays, tmp_path):
    """Bytes that went wrong in an earlier run are found by the checksum, and the member is fetched afresh."""
    server.faults[NIST] = [cut(10**9)] * 2 + [cut(100_000)] * 9
    server.always[FSDL] = unavailable()
    with pytest.raises(DownloadError): fetch(tmp_path)
    part = max(tmp_path.glob(".partial/*.part"), key=lambda path: path.stat().st_size)
    part.write_bytes(part.read_bytes()[:-50] + bytes(50))
    server.faults.clear()
    check_emnist(fetch(tmp_path), arrays)


def test_ranges_refused_by_one(server, zips, arrays, tmp_path):
    """A range from the second source is cheaper than all of the first."""
    server.always[NIST] = no_ranges()
    path = fetch(tmp_path)
    check_emnist(path, arrays)
    assert leftovers(tmp_path) == ["matlab/emnist-byclass.mat"]
    assert member_bytes(server, FSDL) == extent(zips[FSDL], "byclass.mat")


@pytest.mark.parametrize("chunked", [False, True])
def test_ranges_refused_by_all(chunked, server, zips, arrays, tmp_path):
    """Then the whole archive is fetched, and checked by its own checksum; with Content-Length or without."""
    server.always = {path: no_ranges(chunked=chunked) for path in zips}
    path = fetch(tmp_path)
    assert (path / "gzip.zip").read_bytes() == zips[NIST]
    check_emnist(path, arrays)
    assert fetch(tmp_path) == path


def test_a_server_that_sends_less_than_asked(server, arrays, tmp_path):
    """A server may answer with a shorter range; the rest is asked for."""
    server.always[NIST] = lambda handler: handler.serve(at_most=1 << 17 if "=-" in handler.headers["Range"] else 50_000)
    check_emnist(fetch(tmp_path), arrays)
    assert len(server.log) > 6 and server.sent(FSDL) == 0


def test_a_server_that_sends_more_than_asked(server, zips, arrays, tmp_path):
    """A server that knows only where a range begins sends all that follows; we stop at the end of the member."""
    def generous(handler):
        first, last = handler.headers["Range"].removeprefix("bytes=").split("-")
        if first: handler.headers.replace_header("Range", f"bytes={first}-")
        handler.serve()

    server.always = {path: generous for path in zips}
    check_emnist(fetch(tmp_path), arrays)
    assert server.sent(FSDL) == 0


@pytest.mark.parametrize("off", [-3000, 3000])
def test_content_length_that_lies_about_a_range(off, server, arrays, tmp_path):
    """Too short: the rest is asked for; too long: we stop where the member ends."""
    def liar(handler):
        first, last = re.findall(r"\d+", handler.headers["Range"]) if "=-" not in handler.headers["Range"] else (0, 0)
        size = int(last) - int(first) + 1
        handler.serve(length=size + off if size > 5000 else None)

    server.always[NIST] = liar
    check_emnist(fetch(tmp_path), arrays)
    assert server.sent(FSDL) == 0


def test_another_edition_of_the_archive(server, zips, tmp_path):
    """An archive whose members have other sizes is refused by its table of contents, before anything is fetched."""
    swapped = dict(zip(zips, reversed(zips.values())))
    server.files.update(swapped)
    with pytest.raises(DownloadError, match="expected gzip/emnist.* in it, and it is not there"): fetch(tmp_path)
    assert member_bytes(server, NIST) == 0
    bigger = [Source(s.url, s.whole, tuple(Expected(m.name, m.size + 1, m.checksum) for m in s.members))
              for s in sources.EMNIST_SOURCES]
    server.files.update(zips)
    sources.EMNIST_SOURCES[:] = bigger
    with pytest.raises(DownloadError, match=r"expected [\d,]+ bytes of .*, it has [\d,]+"): fetch(tmp_path)


def test_offline_asks_nobody(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TEXT_RECOGNIZER_OFFLINE", "1")
    with pytest.raises(DownloadError, match="TEXT_RECOGNIZER_OFFLINE is set"): fetch(tmp_path / "new")
    assert server.log == [] and not (tmp_path / "new").exists()
    monkeypatch.setenv("TEXT_RECOGNIZER_OFFLINE", "0")
    path = fetch(tmp_path)
    monkeypatch.setenv("TEXT_RECOGNIZER_OFFLINE", "1")
    assert fetch(tmp_path) == path, "what is there needs no network"


def test_no_network(server, tmp_path, monkeypatch):
    """A name that is not found is asked for once a source, and given up at once."""
    asked = []

    def not_found(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", not_found)
    start = time.monotonic()
    with pytest.raises(DownloadError, match="gzip.zip: its name was not found.*matlab.zip: its name was not found"):
        fetch(tmp_path)
    assert time.monotonic() - start < 4 and len(asked) == 2


def test_a_silent_name_server(server, tmp_path, monkeypatch):
    """However long the name server takes, both sources together take no longer than CONNECT_TIMEOUT."""
    over = threading.Event()
    monkeypatch.setattr(http, "CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: over.wait(20) and [] or [])
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"no answer within 0\.5 s.*no answer within 0\.5 s"): fetch(tmp_path)
    over.set()
    assert time.monotonic() - start < 4


def test_no_room_on_the_disk(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match="expected .* of free space, found 1.00 kB"): fetch(tmp_path)
    assert member_bytes(server, NIST) == 0 and server.log, "only the table of contents was read"


def test_the_disk_fills_up(server, tmp_path, monkeypatch):
    def full(*args): raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "store", full)
    with pytest.raises(UserError, match="no space left.*TEXT_RECOGNIZER_DATA"): fetch(tmp_path)
    assert server.sent(FSDL) == 0, "another source would need the same room"
    server.always = {path: no_ranges() for path in (NIST, FSDL)}
    with pytest.raises(UserError, match="No space left on device.*TEXT_RECOGNIZER_DATA"): fetch(tmp_path)


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="TEXT_RECOGNIZER_DATA"): fetch(tmp_path / "file" / "below")


# A process of its own that fetches what its argument describes. Importing the package `text_recognizer.data` would import
# torch, for seconds that the test does not have; an empty stand-in for the package leaves its modules importable.
FETCHER = """
import json, sys, types
stand_in = types.ModuleType("text_recognizer.data")
stand_in.__path__ = [sys.argv[2]]
sys.modules["text_recognizer.data"] = stand_in
from text_recognizer.data.download import sources
plan = json.loads(sys.argv[1])
sources.EMNIST_SOURCES = [sources.Source(url, sources.Expected(*whole), tuple(sources.Expected(*m) for m in members))
                            for url, whole, members in plan["sources"]]
print("ready", flush=True)
print(sources.fetch_emnist(plan["folder"], show=False))
"""


def start_fetching(folder: Path) -> subprocess.Popen:
    """Another process that fetches from the sources that are set at present."""
    def plain(expected: Expected) -> list: return [expected.name, expected.size, expected.checksum]

    entries = [[s.url, plain(s.whole), [plain(member) for member in s.members]] for s in sources.EMNIST_SOURCES]
    plan = json.dumps({"folder": str(folder), "sources": entries})
    package = str(Path(sources.__file__).parents[1])
    return subprocess.Popen([sys.executable, "-c", FETCHER, plan, package], cwd=ROOT, env={**os.environ}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_two_processes_download_once(server, zips, arrays, tmp_path):
    server.always[NIST] = lambda handler: handler.serve(pause=0.004)  # slow: both are at it
    both = [start_fetching(tmp_path) for _ in range(2)]
    printed = [process.communicate(timeout=20) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert printed[0][0] == printed[1][0], "both are told the same place"
    assert member_bytes(server, NIST) == extent(zips[NIST], "byclass-t"), "every byte is sent once"
    check_emnist(tmp_path, arrays)


def test_killed_in_the_middle(server, zips, arrays, tmp_path):
    """A process that is killed leaves a part that the next one continues, and its lock is free."""
    server.always[NIST] = lambda handler: handler.serve(pause=0.02)
    process = start_fetching(tmp_path)
    deadline = time.monotonic() + 10
    while member_bytes(server, NIST) < 120_000 and time.monotonic() < deadline: time.sleep(0.01)
    process.kill()
    process.communicate()
    with pytest.raises(NoArchive): find_emnist(tmp_path)
    kept = sum(part.stat().st_size for part in tmp_path.glob(".partial/*.part"))
    assert kept > 60_000, "what had arrived is kept"
    server.always.clear()
    before = len(server.log)
    check_emnist(fetch(tmp_path), arrays)
    # The killed process may have finished the labels already; every range that begins after the first run goes on from it.
    later = sum(sent.sent for sent in server.log[before:] if not sent.range.startswith("bytes=-"))
    assert later <= extent(zips[NIST], "byclass-t") - kept, "only what was missing is sent"


@pytest.fixture
def mnist(quick, monkeypatch):
    """MNIST's two mirrors on one server, with four small files."""
    rng = np.random.default_rng(2)
    content = {file.name: gzip.compress(rng.bytes(20_000 if "images" in file.name else 200), mtime=0)
               for file in sources.MNIST_FILES}
    expected = [Expected(name, len(data), "md5:" + hashlib.md5(data).hexdigest()) for name, data in content.items()]
    with FaultServer({f"/{base}/{name}": data for base in ("first", "second") for name, data in content.items()}) as running:
        monkeypatch.setattr(sources, "MNIST_SOURCES", [running.url("/first/"), running.url("/second/")])
        monkeypatch.setattr(sources, "MNIST_FILES", expected)
        running.content = content
        yield running


def check_mnist(folder: Path, content: "dict[str, bytes]") -> None:
    assert {path.name: path.read_bytes() for path in folder.glob("*.gz")} == content
    assert not (folder / ".partial").exists()


IMAGES = "train-images-idx3-ubyte.gz"
WHOLE_FAULTS = {
    "cut": (lambda data: cut(9000), "broke off after .* of 20.0 kB"),
    "stall": (lambda data: stall(9000), "silent for 0.2 s after .* of 20.0 kB"),
    "html": (lambda data: html(), "expected 20.0 kB, got an HTML page"),
    "html_of_the_right_size": (lambda data: html("application/x-gzip", len(data)), "got an HTML page"),
    "wrong_bytes": (lambda data: wrong_bytes(data), "the md5 of train-images-idx3-ubyte.gz is wrong"),
    "unavailable": (lambda data: unavailable(), "HTTP 503"),
    "too_long": (lambda data: lie(len(data) + 500), r"expected 20,\d+ bytes, it has 20,\d+"),
    "too_short": (lambda data: lie(len(data) - 500), r"expected 20,\d+ bytes, it has 19,\d+"),
    "cut_and_no_ranges": (lambda data: cut(9000, ranges=False), "broke off after .* of 20.0 kB"),
}


@pytest.mark.parametrize("name", WHOLE_FAULTS)
def test_whole_files(name, mnist, tmp_path, monkeypatch):
    """A fault at one mirror: the file comes all the same. At both and always: one sentence, and the next run succeeds."""
    impatient(name, monkeypatch)
    fault, expected = WHOLE_FAULTS[name]
    data = mnist.content[IMAGES]
    mnist.faults[f"/first/{IMAGES}"] = [fault(data)] * 9
    check_mnist(fetch_mnist(tmp_path / "one", show=False), mnist.content)
    mnist.faults.clear()
    # Every mirror answers so; what arrives in spite of it must not be enough.
    mnist.always = {f"/{base}/{IMAGES}": fault(data) for base in ("first", "second")}
    if name in ("cut", "stall"): mnist.always = dict.fromkeys(mnist.always, cut(5000) if name == "cut" else stall(5000))
    with pytest.raises(DownloadError, match=expected) as caught: fetch_mnist(tmp_path / "two", show=False)
    assert "\n" not in str(caught.value) and "mnist/" in str(caught.value)
    assert not (tmp_path / "two" / IMAGES).exists(), "a file that is not whole must not have its name"
    mnist.always.clear()
    check_mnist(fetch_mnist(tmp_path / "two", show=False), mnist.content)


def test_busy_once(mnist, tmp_path):
    """503 once, then fine: the same mirror is asked again, and the second mirror not at all."""
    mnist.faults[f"/first/{IMAGES}"] = [unavailable()]
    check_mnist(fetch_mnist(tmp_path, show=False), mnist.content)
    assert not [sent for sent in mnist.log if sent.path.startswith("/second")]


def test_a_file_that_changes_between_two_runs(mnist, tmp_path, monkeypatch):
    """Half of an old file that was continued with half of a new one is found by its checksum, and fetched afresh."""
    monkeypatch.setattr(http, "RETRIES", 0)
    path, new = f"/first/{IMAGES}", mnist.content[IMAGES]
    mnist.files[path] = new[:1000] + bytes(len(new) - 1000)
    mnist.faults[path] = [cut(9000)]
    mnist.always[f"/second/{IMAGES}"] = unavailable()
    with pytest.raises(DownloadError): fetch_mnist(tmp_path, show=False)
    mnist.files[path] = new
    mnist.log.clear()
    check_mnist(fetch_mnist(tmp_path, show=False), mnist.content)
    assert [sent.status for sent in mnist.log if sent.path == path] == [206, 200], "the rest, and then all of it"


def test_a_part_that_is_complete(mnist, tmp_path):
    """Killed between the last byte and the renaming: nothing is fetched again."""
    file = next(file for file in sources.MNIST_FILES if file.name == IMAGES)
    files.piece_of(tmp_path, mnist.url(f"/first/{IMAGES}"), file).part.write_bytes(mnist.content[IMAGES])
    check_mnist(fetch_mnist(tmp_path, show=False), mnist.content)
    assert mnist.sent(f"/first/{IMAGES}") == 0


def test_the_real_sample(raw, quick, monkeypatch, tmp_path):
    """The archives in TEXT_RECOGNIZER_RAW, packed by somebody else's zip program, through the same steps."""
    folder = next((folder for folder in (raw / "emnist", raw) if (folder / "gzip.zip").exists()), None)
    if folder is None: pytest.skip("no gzip.zip in TEXT_RECOGNIZER_RAW")
    if (folder / "gzip.zip").stat().st_size > 50e6: pytest.skip("the full archive is too long for a test")
    official = [[member.name for member in s.members] for s in sources.EMNIST_SOURCES]
    data = {f"/{name}": (folder / name).read_bytes() for name in ("gzip.zip", "matlab.zip")}
    with FaultServer(data) as running:
        found = [source(running.url(path), content) for path, content in data.items()]
        assert [sorted(m.name for m in s.members) for s in found] == [sorted(names) for names in official]
        monkeypatch.setattr(sources, "EMNIST_SOURCES", found)
        first = fetch(tmp_path / "first")
        running.always["/gzip.zip"] = html()
        second = fetch(tmp_path / "second")
    ours, theirs = find_emnist(first), find_emnist(second)
    assert (type(ours), type(theirs)) == (IdxArchive, MatArchive)
    for split in COUNTS:
        assert np.array_equal(ours.labels(split), theirs.labels(split))
        assert np.array_equal(ours.images(split), theirs.images(split))
