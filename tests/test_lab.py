"""`make lab` serves the lessons, and says where."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT

TOKEN = "reader"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The server that `make lab` starts, as (address, path of what it printed)."""
    venv = Path(sys.prefix)
    if not (shutil.which("make") and (venv / ".ready").exists()): pytest.skip("not in an environment that make has made")
    port, printed = free_port(), tmp_path_factory.mktemp("lab") / "printed.txt"
    flags = f"--no-browser --ServerApp.ip=127.0.0.1 --ServerApp.port={port} --IdentityProvider.token={TOKEN}"
    with open(printed, "w") as screen:
        server = subprocess.Popen(["make", "lab", f"VENV={venv}", f"LAB_FLAGS={flags}"], cwd=ROOT, start_new_session=True,
                                  stdout=screen, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=dict(os.environ))
    try:
        yield f"http://127.0.0.1:{port}", printed
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def get(url: str, seconds: float = 60) -> bytes:
    """The page, as soon as there is one."""
    deadline = time.monotonic() + seconds
    request = urllib.request.Request(url, headers={"Authorization": f"token {TOKEN}"})
    while True:
        try:
            return urllib.request.urlopen(request, timeout=5).read()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline: raise
            time.sleep(0.3)


def test_lab_opens_the_first_lesson(lab):
    address, printed = lab
    assert b"jupyter-config-data" in get(f"{address}/lab/tree/01_convolutions.ipynb")
    notebook = json.loads(get(f"{address}/api/contents/01_convolutions.ipynb"))
    assert notebook["type"] == "notebook"
    assert "onvolution" in "".join(notebook["content"]["cells"][0]["source"])
    shown = re.escape(f"{address}/lab/tree/01_convolutions.ipynb?token=")  # the address of the lesson itself
    assert re.search(shown, printed.read_text()), "the address must be printed"


def test_all_lessons_are_served(lab):
    address, _ = lab
    names = {entry["name"] for entry in json.loads(get(f"{address}/api/contents/"))["content"]}
    assert {path.name for path in (ROOT / "nbs").glob("*.ipynb")} <= names
