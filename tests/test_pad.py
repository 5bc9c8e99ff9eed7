"""The handwriting pad in a real Chromium, in JupyterLab and Notebook 7: drawn on with a mouse, and read off the page."""

import importlib.util
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import run_python
from lab import free_port
from PIL import Image

pytestmark = pytest.mark.browser
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
CELL = "from text_recognizer.reading.pad import HandwritingPad\n\npad = HandwritingPad()\npad"
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update"]
# Strokes in units of a box, 200 wide and 260 high; capitals stand on 186.
SEVEN = [[(55, 62), (140, 62), (90, 186)]]
AN_L = [[(65, 60), (65, 186), (135, 186)]]
RING = [(100 + 42 * x, 123 + 63 * y) for x, y in ((0, -1), (-.5, -.87), (-.87, -.5), (-1, 0), (-.87, .5), (-.5, .87), (0, 1),
                                                  (.5, .87), (.87, .5), (1, 0), (.87, -.5), (.5, -.87), (0, -1))]
A_T = [[(100, 60), (100, 186)], [(50, 60), (150, 60)]]
RUN_ALL = """async () => {
  const app = window.jupyterapp, notebook = app.shell.currentWidget;
  const started = () => notebook.sessionContext.session?.kernel?.connectionStatus === "connected";
  for (let wait = 0; wait < 240 && !started(); wait++) await new Promise((done) => setTimeout(done, 250));
  if (!started()) throw new Error("no kernel after a minute");
  app.commands.execute("notebook:run-all-cells");  // what it shows is waited for elsewhere
}"""
ASK = """async (code) => {
  const future = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code });
  let printed = "";
  future.onIOPub = (message) => { printed += message.content.text ?? (message.content.traceback ?? []).join(" "); };
  await future.done;
  return printed.trim();
}"""


SLOW = """
import random, time
for _ in range({times}):
    time.sleep(random.uniform(0.02, 0.5))
    pad.clear(31).write_text("U", writer=random.randrange(99), box=31)
"""


@pytest.fixture(scope="module", params=["jupyterlab", "notebook"])
def server(request, tmp_path_factory):
    """The address of a notebook, whose first cell makes a pad, in JupyterLab and in Notebook 7."""
    if importlib.util.find_spec(request.param) is None: pytest.skip(f"{request.param} is not installed")
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}  # else JupyterLab asks
    cells = [nbformat.v4.new_code_cell(CELL), nbformat.v4.new_code_cell("6 * 7")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "pad.ipynb")
    quiet = folder / ".settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    flags = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=", "--allow-root",
             "--expose-app-in-browser", f"--ServerApp.root_dir={folder}", "--ServerApp.port_retries=0",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "JUPYTERLAB_SETTINGS_DIR": str(folder / ".settings"),
                   "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces")}
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen([sys.executable, "-m", request.param, *flags], stdout=log, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server, folder / "server.log")
        yield f"http://127.0.0.1:{port}/" + {"jupyterlab": "lab/tree", "notebook": "notebooks"}[request.param] + "/pad.ipynb"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def wait_for(url: str, server: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    """Return once there is an answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.2)


@pytest.fixture(scope="module")
def page(server):
    """The page with the pad on it; `page.first_look` is how the paper looked before anything was done to it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None: pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(90_000)
        page.goto(server)
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext")
        page.evaluate(RUN_ALL)
        page.wait_for_selector(".tr-pad-paper")
        page.first_look = picture_of(page)
        yield page
        browser.close()


def picture_of(page) -> np.ndarray:
    """What a person sees of the paper: (H, W), 0 is black and 255 is white."""
    return np.asarray(Image.open(io.BytesIO(page.locator(".tr-pad-scroller").screenshot())).convert("L"))


def start_afresh(page) -> None:
    """An empty pad, at its beginning, that has been read."""
    page.evaluate(ASK, "pad.clear(); pad.pen = 13")
    text_read(page, lambda text: not text)
    page.evaluate("() => { const s = document.querySelector('.tr-pad-scroller'); s.scrollTo({left: 0, behavior: 'instant'}); }")


def cells_of(page) -> list[str]:
    """The source of each cell of the notebook."""
    return page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.map((w) => w.model.sharedModel.source)")


def draw(page, box: int, strokes: list) -> None:
    """Draw with the mouse in a box that is in sight."""
    paper = page.locator(".tr-pad-paper").bounding_box()
    scale = paper["height"] / 260
    for stroke in strokes:
        points = [(paper["x"] + (200 * box + x) * scale, paper["y"] + y * scale) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]: page.mouse.move(*point, steps=6)
        page.mouse.up()


def status_of(page) -> str: return page.locator(".tr-pad-status").inner_text()


def text_read(page, accept) -> str:
    """The text on the page, once Python has answered and `accept` likes it."""
    for _ in range(150):
        text = None if "reading" in (status := status_of(page)) else page.locator(".tr-pad-text").inner_text()
        if text is not None and accept(text): return text
        page.wait_for_timeout(100)
    raise AssertionError(f"the page shows {text!r}, status {status!r}")


def python_says(page, code: str, wanted: str) -> None:
    """Wait until Python, asked with `code`, prints what is `wanted`: what is drawn reaches it stroke by stroke."""
    for _ in range(80):
        if (said := page.evaluate(ASK, code)) == wanted: return
        page.wait_for_timeout(100)
    raise AssertionError(f"{code}: expected {wanted}, Python said {said}")


def columns(page) -> list[list[str]]:
    """The lines beneath each box that has been read."""
    shown = page.locator(".tr-pad-column:has(canvas)")
    return [one.split("\n") for one in shown.all_inner_texts()]


def test_it_can_be_seen_before_anything_is_done(page):
    """Light paper with lines on it: a canvas that is drawn before it has a place in the page is black."""
    assert np.median(page.first_look) > 240, "light paper"
    assert 0.005 < (page.first_look < 235).mean() < 0.3, "with the lines of its boxes"


def test_draw_read_undo_clear(page):
    draw(page, 0, AN_L)
    assert text_read(page, len) == "L"
    draw(page, 1, [RING])
    assert text_read(page, lambda text: len(text) == 2).lower() in ("lo", "l0")
    draw(page, 3, SEVEN)
    text = text_read(page, lambda text: len(text) == 4)
    assert text[0] == "L" and text[2:] == " 7", "the empty box is a space"
    assert text == page.evaluate(ASK, "print(pad.text)"), "Python reads what the page shows"
    seen = columns(page)
    assert [len(lines) for lines in seen] == [6, 6, 6], "three guesses, and the probability of each"
    shares = [int(share.rstrip("%")) for share in seen[0][1::2]]
    assert seen[0][0] == "L" and shares == sorted(shares, reverse=True) and sum(shares) <= 101
    page.locator(".tr-pad").get_by_role("button", name="Undo").click()
    assert text_read(page, lambda text: len(text) == 2)[0] == "L"
    page.locator(".tr-pad").get_by_role("button", name="Clear").click()
    text_read(page, lambda text: not text)
    assert page.evaluate(ASK, "print(pad.strokes)") == "{}"
    page.locator(".tr-pad").get_by_role("button", name="Undo").click()
    assert text_read(page, lambda text: len(text) == 2)[0] == "L", "what was wiped comes back"


def test_two_strokes_one_character(page):
    page.locator(".tr-pad").get_by_role("button", name="Clear").click()
    draw(page, 2, A_T)
    python_says(page, "print(len(pad.strokes[2]) if 2 in pad.strokes else 0)", "2")
    assert text_read(page, lambda text: text.lower() == "t")


def test_the_network_sees_what_python_says(page):
    pixels = page.evaluate("""() => {
      const canvas = document.querySelector(".tr-pad-seen"), data = canvas.getContext("2d").getImageData(0, 0, 28, 28).data;
      return [...Array(784).keys()].map((i) => data[4 * i]);
    }""")
    ours = page.evaluate(ASK, "print((pad.images[0, 0] * 255).round().int().flatten().tolist())")
    assert pixels == eval(ours) and max(pixels) > 200


def test_keys_alone(page):
    """Choose a box, write, wipe, undo; and the notebook itself must not take the keys."""
    cells = cells_of(page)
    start_afresh(page)
    page.locator(".tr-pad-keys").focus()
    page.keyboard.press("Home")
    page.keyboard.type("db 7")                             # in the notebook d d deletes a cell, b adds one
    assert len(text_read(page, lambda text: len(text) == 4).split()) == 2
    assert page.evaluate(ASK, "print(list(pad.strokes))") == "[0, 1, 3]"
    page.keyboard.press("Backspace")
    page.keyboard.press("Control+z")
    text_read(page, lambda text: len(text) == 4)
    page.keyboard.press("Escape")
    text_read(page, lambda text: not text)
    assert page.evaluate("() => document.activeElement.className") == "tr-pad-keys", "the pad keeps the focus"
    assert cells == cells_of(page)
    outline = page.evaluate("() => getComputedStyle(document.querySelector('.tr-pad-scroller')).outlineStyle")
    assert outline == "solid", "who has no mouse must see where the focus is"


@pytest.mark.parametrize("touched", ["the paper", "Undo", "the pen"])
def test_whoever_clicks_has_the_keys(page, touched):
    """After a click anywhere on the pad, d d deletes no cell and x cuts none: they are letters."""
    cells = cells_of(page)
    start_afresh(page)
    page.locator(".jp-Notebook .jp-InputArea-editor").last.click()
    page.keyboard.press("Escape")                          # the notebook is in command mode, its last cell selected
    draw(page, 4, AN_L)
    if touched == "Undo": page.locator(".tr-pad").get_by_role("button", name="Undo").click()
    if touched == "the pen": page.locator(".tr-pad").get_by_role("slider").click()
    page.keyboard.type("ddx")
    assert cells_of(page) == cells
    python_says(page, "print(list(pad.strokes))", "[4, 5, 6]")


def test_keys_stop_behind_the_last_box(page):
    start_afresh(page)
    page.locator(".tr-pad-keys").focus()
    page.keyboard.press("End")
    page.keyboard.type("7")
    python_says(page, "print(list(pad.strokes))", "[31]")
    before = page.evaluate(ASK, "print(pad.events)")
    page.keyboard.type("UU")
    page.wait_for_timeout(500)
    assert "last box" in status_of(page)
    assert page.evaluate(ASK, "print(pad.events)") == before
    page.keyboard.press("Backspace")
    python_says(page, "print(list(pad.strokes))", "[]")


def test_writing_scrolls_on(page):
    start_afresh(page)
    width = page.locator(".tr-pad-scroller").bounding_box()["width"]
    last = int(width // 84) - 1                            # the last box that is whole in sight
    draw(page, last, SEVEN)
    place = "() => document.querySelector('.tr-pad-scroller').scrollLeft"
    assert page.evaluate(place) == 0, "the paper lies still while somebody writes"
    page.wait_for_function(f"() => document.querySelector('.tr-pad-scroller').scrollLeft > {84 * (last + 2) - width}")
    page.wait_for_timeout(600)
    draw(page, last + 1, SEVEN)
    python_says(page, "print(list(pad.strokes))", f"[{last}, {last + 1}]")
    start_afresh(page)
    page.keyboard.press("Home")
    page.keyboard.type("u" * (last + 3))
    page.wait_for_function(f"() => document.querySelector('.tr-pad-scroller').scrollLeft > {84 * (last + 3) - width}")
    python_says(page, "print(len(pad.strokes))", str(last + 3))


def test_a_busy_kernel_is_said(page):
    """While a cell runs nothing can be read, and the page says so and pales what it shows."""
    opacity = "() => getComputedStyle(document.querySelector('.tr-pad-text')).opacity"
    start_afresh(page)
    draw(page, 0, AN_L)
    assert text_read(page, len) == "L"
    stuck = "import ctypes; ctypes.PyDLL(None).sleep(6)"   # with Python's lock: JupyterLab's kernel else answers beside a cell
    page.evaluate("""(code) => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute(
      { code }); }""", stuck)
    draw(page, 1, SEVEN)
    page.wait_for_function("() => document.querySelector('.tr-pad-status').textContent.includes('waiting for the kernel')")
    assert page.evaluate(opacity) < "0.6"
    assert text_read(page, lambda text: len(text) == 2)[0] == "L"
    assert status_of(page) == "" and page.evaluate(opacity) == "1"


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.thorough)])
def test_no_stroke_is_lost(page, count):
    """Quick strokes, with pauses of 20 to 300 ms; in the second half the kernel is busy, and writes on the form itself."""
    start_afresh(page)
    chance, boxes = random.Random(count), range(8)
    paper = page.locator(".tr-pad-paper").bounding_box()
    drawn = dict.fromkeys(boxes, 0)
    for k in range(count):
        if k >= count // 2 and k % 10 == 0:
            page.evaluate("""(code) => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute(
              { code }); }""", SLOW.format(times=4))
        box = chance.choice(boxes)
        x, y = paper["x"] + 84 * box + chance.uniform(10, 74), paper["y"] + chance.uniform(10, 95)
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 4, y + 6)
        page.mouse.up()
        drawn[box] += 1
        page.wait_for_timeout(chance.choice([20, 40, 60, 90, 130, 200, 300]))
    wanted = str({box: number for box, number in drawn.items() if number})
    python_says(page, "print({box: len(strokes) for box, strokes in pad.strokes.items() if box != 31})", wanted)
    assert sum(drawn.values()) == count


def test_python_writes_and_the_page_shows_it(page):
    page.evaluate(ASK, "pad.clear().write_text('Until you see it read', writer=8)")
    text = text_read(page, lambda text: len(text) == 21)
    assert text == page.evaluate(ASK, "print(pad.text)")
    assert [len(word) for word in text.split()] == [5, 3, 3, 2, 4]
    draw(page, 5, AN_L)                                    # the hand writes on, in the space
    assert len(text_read(page, lambda text: " " not in text[:9]).split()) == 4


def test_pen_width_changes_what_is_read(page):
    before = page.evaluate(ASK, "print(pad.images.sum().item())")
    page.locator(".tr-pad").get_by_role("slider").fill("30")
    text_read(page, len)
    page.wait_for_timeout(300)
    assert page.evaluate(ASK, "print(pad.pen)") == "30.0"
    assert float(page.evaluate(ASK, "print(pad.images.sum().item())")) > 1.2 * float(before)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_light_and_dark(page, theme, tmp_path):
    """Ink stands out from the paper in both themes; the screenshots are in the test's folder."""
    page.evaluate("(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    page.evaluate(ASK, "pad.clear(); pad.pen = 13; pad.write_text('Until you see it read', writer=8)")
    text_read(page, lambda text: len(text) == 21)
    page.wait_for_timeout(1000)                            # the theme's style sheet
    style = "() => { const s = getComputedStyle(document.querySelector('.tr-pad')); return [s.color, s.backgroundColor]; }"
    ink, ground = page.evaluate(style)
    assert lightness(ink) > lightness(ground) + 0.6 if "Dark" in theme else lightness(ground) > lightness(ink) + 0.6
    paper = picture_of(page)
    assert abs(np.median(paper) / 255 - lightness(ground)) < 0.1
    assert abs(paper[:110] / 255 - lightness(ground)).max() > 0.6, "the paper is redrawn in the theme's colours"
    page.screenshot(path=tmp_path / f"{theme.split()[-1].lower()}.png")
    if folder := os.environ.get("PAD_SCREENSHOTS"): shutil.copytree(tmp_path, folder, dirs_exist_ok=True)


def test_the_library_does_not_need_anywidget():
    """Only who makes a pad is told what to install."""
    done = run_python("-c", "import sys; sys.modules['anywidget'] = None; import text_recognizer.reading.pad as pad; "
                      "print(pad.Form()); pad.HandwritingPad()")
    assert done.stdout.startswith("Form(boxes=32")
    last = done.stderr.strip().splitlines()[-1]
    assert "UserError: HandwritingPad: expected the package anywidget" in last and "pip install anywidget" in last


def lightness(colour: str) -> float:
    """Of rgb(r, g, b) or rgba, from 0 to 1."""
    channels = [float(part) for part in colour[colour.index("(") + 1 : -1].replace(",", " ").split()[:3]]
    return sum(channels) / 765
