"""File systems that lack a call, folders that may not be read, and users without a name or a home."""

import codecs
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from pydoc_data import topics  # noqa: F401 (before a child becomes another user, who may not be able to import it)

import nltk.corpus.reader  # noqa: F401 (likewise)
import pytest
import scipy.io  # noqa: F401
from conftest import ROOT, run_python

from robustness.things import gzip_zip, leftovers, matlab_zip, run_child, sum_of_data, zipped
from text_recognizer.data.emnist import EMNIST
from text_recognizer.data.sentence_generator import SentenceGenerator
from text_recognizer.errors import UserError
from text_recognizer.metadata import paths
from text_recognizer.reading.lines import read_line

KIND = "odd file systems"
codecs.lookup("cp437")  # zipfile's, likewise
NOBODY = 54_321  # a user that no list knows

# A library that is loaded before the C library: the calls that LACKS names ("flock=38,fsync=22") fail with these numbers.
LIBRARY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static int lacks(const char *name) {
    const char *all = getenv("LACKS"), *at = all ? strstr(all, name) : NULL;
    if (!at || at[strlen(name)] != '=') return 0;
    errno = atoi(at + strlen(name) + 1);
    return 1;
}
#define WRAP(name, parameters, arguments)                                   \\
    int name parameters {                                                   \\
        if (lacks(#name)) return -1;                                        \\
        return ((int (*) parameters) dlsym(RTLD_NEXT, #name)) arguments;    \\
    }
WRAP(flock, (int file, int how), (file, how))
WRAP(fsync, (int file), (file))
WRAP(chmod, (const char *path, mode_t mode), (path, mode))
WRAP(fchmod, (int file, mode_t mode), (file, mode))
WRAP(fchmodat, (int folder, const char *path, mode_t mode, int flags), (folder, path, mode, flags))
"""
LACKED = [("flock", "ENOSYS"), ("flock", "ENOLCK"), ("flock", "EOPNOTSUPP"), ("chmod", "EPERM"), ("fsync", "EINVAL"),
          ("fsync", "ENOSYS")]
PROGRAM = """
import sys
from robustness.test_bad_files import prepare_emnist
from text_recognizer.data.sentence_generator import SentenceGenerator
print(prepare_emnist(sys.argv[1]), SentenceGenerator(source="python", seed=1).generate(12))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """The library, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None: pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("library")
    (folder / "lacks.c").write_text(LIBRARY)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "lacks.so", "lacks.c", "-ldl"], cwd=folder, check=True)
    return folder / "lacks.so"


@pytest.mark.parametrize(("call", "name"), LACKED, ids=["-".join(pair) for pair in LACKED])
def test_a_call_that_a_file_system_lacks(call, name, library, tally, tmp_path):
    """What is made is what is made elsewhere, without a word, without waiting, and nothing is left behind."""
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    number = getattr(errno, name)
    lacks = ",".join(f"{each}={number}" for each in (("chmod", "fchmod", "fchmodat") if call == "chmod" else (call,)))
    def made(folder: str, **environment: str) -> tuple:
        done = run_python("-c", PROGRAM, str(tmp_path / "gzip.zip"), cwd=tmp_path, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}",
                          TEXT_RECOGNIZER_DATA=str(tmp_path / folder), OMP_NUM_THREADS="1", **environment)
        return done.returncode, done.stdout, [line for line in done.stderr.splitlines() if "Processing" not in line]
    with tally.case(f"{call}: {name}"):
        odd, plain = made("odd", LD_PRELOAD=str(library), LACKS=lacks), made("plain")
        assert odd == plain, f"{odd} in place of {plain}"
        assert not leftovers(tmp_path)


@pytest.fixture
def open_folder():
    """A folder that everybody can go into."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def as_nobody(work: str, *args: str) -> str:
    """What this function of this file says, called by a user without name and home."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.environ.pop("HOME", None)
    return globals()[work](*args)


def of_images(path: str) -> str:
    """What is said of the images there."""
    try: return EMNIST(source=path).prepare_data() or "they were read"
    except UserError as error: return str(error)


def of_picture(path: str) -> str:
    """What is said of a picture there."""
    try: return read_line(path).text
    except UserError as error: return str(error)


def of_raw(path: str, text: str) -> str:
    """What is said of a folder named by TEXT_RECOGNIZER_RAW, of its images or of its text."""
    os.environ["TEXT_RECOGNIZER_RAW"] = path
    if not text: return of_images("auto")
    try: return SentenceGenerator(source=text).source
    except UserError as error: return str(error)


def homeless() -> str:
    """Where data goes, that it can, and which text is found by a process that has yet to import NLTK."""
    for name in ("TEXT_RECOGNIZER_DATA", "TEXT_RECOGNIZER_RAW"): os.environ.pop(name, None)
    paths.checkout_dirname = lambda: None
    if os.access(nltk.__file__, os.R_OK):  # not where the environment lies in a folder that only its owner may read
        for name in [name for name in sys.modules if name.split(".")[0] == "nltk"]: del sys.modules[name]
    return f"{paths.data_dirname()} {SentenceGenerator(seed=1).source} {'HOME' in os.environ}"


needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")


@needs_root
def test_what_may_not_be_read(tally, open_folder):
    """Archives, folders, a corpus, a text, a picture: the sentence says that they may not be read, not that they are damaged."""
    for name, content in {"gzip.zip": gzip_zip(), "matlab.zip": matlab_zip(), "words.txt": b"some words"}.items():
        (open_folder / name).write_bytes(content)
        (open_folder / name).chmod(0o600)
    (open_folder / "secret").mkdir(mode=0o700)
    (open_folder / "secret" / "gzip.zip").write_bytes(gzip_zip())
    (open_folder / "nltk" / "corpora").mkdir(parents=True, mode=0o755)
    (open_folder / "nltk" / "corpora" / "brown.zip").write_bytes(zipped({"brown/ca01": b"The/at cat/nn"}))
    (open_folder / "nltk" / "corpora" / "brown.zip").chmod(0o600)
    cases = {"an archive": ("of_images", str(open_folder / "gzip.zip")),
             "a MATLAB file": ("of_images", str(open_folder / "matlab.zip")),
             "a folder": ("of_images", str(open_folder / "secret")),
             "an archive in a folder": ("of_images", str(open_folder / "secret" / "gzip.zip")),
             "the folder of TEXT_RECOGNIZER_RAW": ("of_raw", str(open_folder / "secret"), ""),
             "a corpus": ("of_raw", str(open_folder), "brown"),
             "a text": ("of_raw", str(open_folder), str(open_folder / "words.txt")),
             "a picture": ("of_picture", str(open_folder / "words.txt")),
             "a picture in a folder": ("of_picture", str(open_folder / "secret" / "line.png"))}
    for what, (work, *args) in cases.items():
        with tally.case(what):
            said = run_child(open_folder, as_nobody, work, *args)[0]
            assert ("ermission denied" in said or "may not be read" in said) and "\n" not in said, said
            assert "damaged" not in said and "send it again" not in said, said


@needs_root
def test_no_name_and_no_home(tally, open_folder):
    """Data goes into a folder of its own all the same."""
    with tally.case("a user without name and home"):
        said = run_child(open_folder, as_nobody, "homeless")[0]
        assert said.startswith("/") and "~" not in said and "Python" in said and said.endswith("False"), said
        shutil.rmtree(said.split()[0], ignore_errors=True)


@needs_root
def test_one_folder_for_several_people(tally, open_folder):
    """What one has made another uses, and can make more beside it."""
    (open_folder / "gzip.zip").write_bytes(gzip_zip())
    data = open_folder / "data"
    data.mkdir()
    (data / "processed").mkdir()
    for folder in (data, data / "processed"): folder.chmod(0o777)
    with tally.case("a file that somebody else has made"):
        ours = run_child(open_folder, prepared, str(open_folder / "gzip.zip"))[0]
        assert run_child(open_folder, as_nobody, "prepared", str(open_folder / "gzip.zip"))[0] == ours
    with tally.case("a file of somebody else's that must be made again"):
        path = next((data / "processed").glob("emnist-*.h5"))
        path.write_bytes(path.read_bytes()[:-100])
        assert run_child(open_folder, as_nobody, "prepared", str(open_folder / "gzip.zip"))[0] == ours


def prepared(path: str) -> str:
    """A sum of the images."""
    emnist = EMNIST(source=path)
    emnist.prepare_data()
    emnist.setup()
    return sum_of_data(emnist)
