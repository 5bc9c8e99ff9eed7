"""`make lab` serves the checkout's root, with kernels that find the environment and the code, and leaves lessons as they are."""

import json
import re
import shutil
import urllib.error
import urllib.parse
from pathlib import Path

import pytest
from conftest import ROOT
from lab import BROWSER_FLAGS, CHROMIUM, TOKEN, Kernel, get, served

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
LESSON = "nbs/01_convolutions.ipynb"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what a clone holds, so that a save shows what it would do to one."""
    copy = tmp_path_factory.mktemp("clone") / "text_recognizer"
    ignored = shutil.ignore_patterns(".venv*", ".git", "data", "_build", "logs", "__pycache__", "*_cache")
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def lab(checkout):
    """The address that `make lab` serves the copy at."""
    with served(checkout / "printed.txt", checkout) as address:
        yield address


def test_lab_opens_the_first_lesson(lab, checkout):
    assert b"jupyter-config-data" in get(f"{lab}/lab/tree/{LESSON}")
    shown = re.escape(f"{lab}/lab/tree/{LESSON}?token=")  # the address of the lesson itself
    assert re.search(shown, (checkout / "printed.txt").read_text()), "the address must be printed"


def test_every_link_of_the_course_map_opens_something(lab):
    links = {link for path in ("nbs/index.ipynb", "README.md") for link in LINK.findall((ROOT / path).read_text())
             if not re.match(r"https?:", link) for link in [Path(path).parent.joinpath(link).as_posix()]}
    assert len(links) > 20
    for link in sorted(links):
        place = re.sub(r"[^/]+/\.\./", "", link)
        try: found = json.loads(get(f"{lab}/api/contents/{urllib.parse.quote(place)}?content=0"))
        except urllib.error.HTTPError as error: pytest.fail(f"{link}: {error}")
        assert found["type"] in ("notebook", "file"), f"{link} opens as a {found['type']}"


@pytest.mark.parametrize("folder", ["", "nbs/", "nbs/solutions/"])
def test_a_readers_own_notebook_finds_the_environment(lab, checkout, folder):
    kernel = Kernel(lab, f"{folder}mine.ipynb")
    assert Path(kernel.run("import sys; print(sys.prefix)").strip()) == Path(__import__("sys").prefix)
    assert kernel.run("import training.util, training.run_experiment; print(training.util.__file__)").startswith(str(checkout))
    assert "usage" in kernel.run("!text-recognizer --help").lower()
    assert "usage" in kernel.run("!python -m text_recognizer.training --help").lower()
    if not folder:
        assert "--model_class" in kernel.run("%run training/run_experiment.py --help")
        assert "--model_class" in kernel.run("!python training/run_experiment.py --help")


def script() -> str:
    """Wait for the lesson's kernel, as a reader's page has it, then save, which is what Jupyter does by itself in time."""
    return """async () => {
      const shell = window.jupyterapp.shell, wait = (ms) => new Promise((done) => setTimeout(done, ms));
      const status = () => shell.currentWidget?.sessionContext?.session?.kernel?.status;
      for (let n = 0; n < 240 && status() !== "idle"; n++) await wait(250);
      await wait(1500);
      const shown = document.querySelectorAll(".jp-toastContainer .Toastify__toast, .jp-Dialog").length;
      await window.jupyterapp.commands.execute("docmanager:save");
      return [status(), shown];
    }"""


@pytest.mark.browser
def test_a_lesson_that_is_opened_stays_as_it_is(lab, checkout):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None: pytest.skip("there is no Chromium on this machine")
    before = (checkout / LESSON).read_bytes()
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=BROWSER_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{lab}/lab/tree/{LESSON}?token={TOKEN}")
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=90_000)
        status, popups = page.evaluate(script())
        browser.close()
    assert status == "idle"
    assert popups == 0, "no question and no news stands between a reader and the lesson"
    after = (checkout / LESSON).read_bytes()
    assert after == before, "saving a lesson that was only opened must not change it"
