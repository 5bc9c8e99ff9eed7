"""What comes with the project: pinned actions, least permissions, no secret, bounds for all that is installed, no telemetry."""

import configparser
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, run_python

from robustness.things import gzip_zip

KIND = "supply chain, no network"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
# Contexts that other people may write to: a branch's name, a title. In a `run:` they would be a shell command.
THEIRS = re.compile(r"\$\{\{\s*(github\.(event|head_ref|actor)|inputs)\b")


def settings() -> configparser.SectionProxy:
    """settings.ini."""
    parser = configparser.ConfigParser(delimiters=["="], interpolation=None)
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def tracked() -> "list[Path]":
    """The project's files: as git lists them, where it is a checkout."""
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode: pytest.skip("this is no checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows(path, tally):
    """Actions by the hash of a commit, least permissions, no credentials left in the checkout, a time limit for each job."""
    text = path.read_text(encoding="utf-8")
    found = yaml.safe_load(text)
    with tally.case("the token may read, unless a job says more"): assert found["permissions"] in ({}, {"contents": "read"})
    with tally.case("not run with a token for other people's code"): assert "pull_request_target" not in found[True]
    for name, job in found["jobs"].items():
        with tally.case(f"{name}: a time limit"): assert 0 < job["timeout-minutes"] <= 60
        with tally.case(f"{name}: no more than publishing needs"):
            assert set(job.get("permissions", {}).items()) <= {("pages", "write"), ("id-token", "write"), ("contents", "read")}
        for step in job.get("steps", []):
            if "uses" in step:
                with tally.case(f"{name}: {step['uses']}"):
                    assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", step["uses"]), "not pinned to a commit"
                    assert re.search(re.escape(step["uses"]) + r" # v\d+", text), "a person cannot tell which version that is"
                if step["uses"].startswith("actions/checkout@"):
                    with tally.case(f"{name}: no credentials"): assert step["with"]["persist-credentials"] is False
            with tally.case(f"{name}: nobody else's words in a command"):
                assert not THEIRS.search(step.get("run", "")) and "secrets." not in str(step)


def requirements() -> "dict[str, str]":
    """All that settings.ini asks for: name to bounds."""
    listed = settings()["requirements"].split() + settings()["dev_requirements"].split()
    found = {}
    for one in listed:
        name, bounds = re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", one).groups()
        found[name.lower().replace("_", "-")] = bounds
    return found


def test_requirements(tally):
    """Each has a lower bound or is pinned, and constraints.txt holds the version that was tested."""
    pinned = {re.split(r"[=;]", line)[0].strip().lower().replace("_", "-"): line
              for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"}
    for name, bounds in requirements().items():
        with tally.case(f"{name}{bounds}"):
            assert re.match(r"(>=|==)\d", bounds) or name == "fastgit", "no lower bound"
            assert "@" not in bounds and "://" not in bounds, "an address in place of a version"
            assert re.search(r"==\d", pinned[name]), "not in constraints.txt"
    for path in [ROOT / "docs" / "requirements.txt", ROOT / "constraints.txt"]:
        for line in path.read_text(encoding="utf-8").splitlines():
            with tally.case(f"{path.name}: {line}"): assert "://" not in line and not line.startswith("-")


def test_what_is_installed_fits(tally):
    """The environment that runs this has what settings.ini asks for, and no two packages that contradict each other."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.specifiers import SpecifierSet
    for name, bounds in requirements().items():
        try: found = version(name)
        except PackageNotFoundError: continue  # a leaner environment, as for the oldest versions
        with tally.case(name): assert SpecifierSet(bounds).contains(found, prereleases=True), f"{name} {found} is not {bounds}"


def test_licence_and_metadata(tally):
    """What an index shows of the package."""
    given = settings()
    with tally.case("licence"): assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:300]
    with tally.case("licence in settings.ini"): assert given["license"] == "apache2"
    for name in ("version", "description", "keywords", "author", "min_python"):
        with tally.case(name): assert given[name].strip()
    with tally.case("Python"):
        tested = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]["python"]
        assert tested[0] == given["min_python"]


SECRETS = [re.compile(pattern) for pattern in (
    r"AKIA[0-9A-Z]{16}", r"gh[pousr]_[A-Za-z0-9]{30,}", r"-----BEGIN [A-Z ]*PRIVATE KEY-----", r"xox[abprs]-[A-Za-z0-9-]{10,}",
    r"sk-[A-Za-z0-9]{32,}", r"hf_[A-Za-z0-9]{30,}", r"AIza[0-9A-Za-z_-]{35}", r"eyJ[A-Za-z0-9_-]{20,}\.eyJ",
    r"(?i)(password|passwd|api_key|secret)\s*=\s*['\"][^'\"{}$]{6,}['\"]", r"://[^/\s:@'\"<>{}]{2,}:[^/\s:@'\"<>{}]{3,}@")]


PICTURE = re.compile(r'"image/png": "[^"]*"')  # in so many random letters anything is found one day


def test_no_secret(tally):
    """No file of the project holds anything that looks like a key, a token or a password."""
    for path in tracked():
        if path.stat().st_size > 20 << 20: continue
        text = PICTURE.sub("", path.read_bytes().decode("utf-8", "ignore"))
        with tally.case(path.relative_to(ROOT)):
            found = [match[0][:60] for pattern in SECRETS for match in pattern.finditer(text) if path != Path(__file__)]
            assert not found, found


# --- no network -------------------------------------------------------------------------------------------------------------
# In front of a program: every connection but to this machine raises, and is written down.
NO_NETWORK = '''
import json, os, socket, sys
tried = []
def local(address):
    return not isinstance(address, tuple) or str(address[0]) in ("127.0.0.1", "::1", "localhost")
def guard(name):
    real = getattr(socket.socket, name)
    def guarded(self, *args):
        address = args[-1]
        if self.family != getattr(socket, "AF_UNIX", None) and not local(address):
            tried.append([name, str(address)])
            raise OSError(101, "Network is unreachable")
        return real(self, *args)
    setattr(socket.socket, name, guarded)
for name in ("connect", "connect_ex", "sendto"): guard(name)
real_lookup = socket.getaddrinfo
def lookup(host, *args, **kwargs):
    if host not in (None, "", "127.0.0.1", "::1", "localhost", b"localhost"):
        tried.append(["getaddrinfo", str(host)])
        raise socket.gaierror(-2, "Name or service not known")
    return real_lookup(host, *args, **kwargs)
socket.getaddrinfo = lookup
import atexit
atexit.register(lambda: open(os.environ["TRIED"], "a").write(json.dumps(tried) + "\\n"))
'''


def tried(program: str, folder: Path, *argv: str, **environment: str) -> "list":
    """What a program, run with the network guarded, tried to reach; it must end well."""
    guard = folder / "guard"
    guard.mkdir(exist_ok=True)
    (guard / "sitecustomize.py").write_text(NO_NETWORK)  # so that processes which it starts are guarded too
    log = folder / "tried.txt"
    log.write_text("")
    done = run_python("-c", program, *argv, cwd=folder, timeout=500, TRIED=str(log), PYTHONPATH=f"{guard}:{ROOT}",
                      TEXT_RECOGNIZER_DATA=str(folder / "data"), **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [one for line in log.read_text().splitlines() for one in json.loads(line)]


TRAIN = "import sys; from text_recognizer.training.run_experiment import main; main(sys.argv[1:])"
TALKS = """
import socket, subprocess, sys
try: socket.create_connection(("192.0.2.1", 80), 1)
except OSError: pass
child = '''
import urllib.request
try: urllib.request.urlopen("http://example.invalid")
except OSError: pass
'''
subprocess.run([sys.executable, "-c", child], check=True)
"""
LESSON = """
import os, sys
os.environ["IN_TEST"] = "1"
from pathlib import Path
from nbdev.test import test_nb
ok, seconds = test_nb(Path(sys.argv[1]), do_print=False)
assert ok, "the lesson failed"
"""


def test_the_guard_guards(tally, tmp_path):
    """It notices what the tests below say does not happen."""
    with tally.case("a connection, and one of a child"):
        found = str(tried(TALKS, tmp_path))
        assert "192.0.2.1" in found and "example.invalid" in found, found


@pytest.mark.parametrize("logger", ["csv", "tensorboard"])
def test_training_asks_nobody(logger, tally, tmp_path):
    """A training whole, test and checkpoint and all, with the network guarded and no word about being offline."""
    if logger != "csv" and not tally.whole: pytest.skip("in the whole form")
    if logger == "tensorboard": pytest.importorskip("tensorboard")
    (tmp_path / "gzip.zip").write_bytes(gzip_zip())
    with tally.case(f"training with {logger}"):
        assert tried(TRAIN, tmp_path, "--data_source", str(tmp_path / "gzip.zip"), "--conv_dim", "2", "--gpus", "0", "--logger",
                     logger, TEXT_RECOGNIZER_OFFLINE="0") == []


@pytest.mark.thorough
def test_glyphs_and_lines_ask_nobody(tally, tmp_path):
    """`source="glyphs"` and `text_source="python"` need no network, also where it is not forbidden to try."""
    program = ("from text_recognizer.data.emnist_lines import EMNISTLines\n"
               "lines = EMNISTLines(source='glyphs', text_source='python', num_train=20, num_val=10, num_test=10)\n"
               "lines.prepare_data(); lines.setup(); print(lines)")
    with tally.case("glyphs and lines"): assert tried(program, tmp_path, TEXT_RECOGNIZER_OFFLINE="0") == []


@pytest.mark.thorough
def test_offline_asks_nobody(tally, tmp_path):
    """With TEXT_RECOGNIZER_OFFLINE nobody is asked even where everything is missing."""
    program = ("from text_recognizer.data.sentence_generator import SentenceGenerator; SentenceGenerator().generate(16)\n"
               "from text_recognizer.data.download.sources import fetch_emnist, fetch_mnist, DownloadError\n"
               "for fetch in (fetch_emnist, fetch_mnist):\n    try: fetch('downloaded')\n    except DownloadError: pass")
    with tally.case("sentences and downloads"):
        assert tried(program, tmp_path, TEXT_RECOGNIZER_OFFLINE="1", TEXT_RECOGNIZER_RAW="", NLTK_DATA="") == []


@pytest.mark.thorough
@pytest.mark.parametrize("lesson", sorted((ROOT / "nbs").glob("0*.ipynb")), ids=lambda path: path.stem)
def test_lessons_ask_nobody(lesson, tally, tmp_path):
    """Each lesson whole, with the network guarded."""
    pytest.importorskip("nbdev")
    with tally.case(lesson.name):
        assert tried(LESSON, tmp_path, str(lesson), TEXT_RECOGNIZER_OFFLINE="1", OMP_NUM_THREADS="1",
                     MPLBACKEND="agg", IN_TEST="1") == []


