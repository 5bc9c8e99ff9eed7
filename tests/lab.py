"""What tests of `make lab` share: the server that it starts, its kernels, and a browser to look at its pages."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT

TOKEN = "reader"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
                 "--disable-component-update"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url: str, seconds: float = 60, data: bytes | None = None) -> bytes:
    """What the server answers, as soon as it does; a page that it refuses is an error at once."""
    deadline = time.monotonic() + seconds
    request = urllib.request.Request(url, data, headers={"Authorization": f"token {TOKEN}"})
    while True:
        try:
            return urllib.request.urlopen(request, timeout=30).read()
        except urllib.error.HTTPError:
            raise
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline: raise
            time.sleep(0.3)


@contextmanager
def served(printed: Path, root: Path = ROOT) -> Iterator[str]:
    """The address of what `make lab` serves in the checkout `root`; what it prints goes to the file `printed`."""
    venv = Path(sys.prefix)
    if not (shutil.which("make") and (venv / ".ready").exists()): pytest.skip("not in an environment that make has made")
    port = free_port()
    flags = f"--no-browser --expose-app-in-browser --ServerApp.ip=127.0.0.1 --ServerApp.port={port} " \
            f"--ServerApp.port_retries=0 --IdentityProvider.token={TOKEN}"
    # A copy of the checkout is newer than the environment, which is as it should be.
    command = ["make", "-o", str(venv / ".ready"), "lab", f"VENV={venv}", f"LAB_FLAGS={flags}"]
    bare = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    bare["PATH"] = os.pathsep.join(part for part in bare["PATH"].split(os.pathsep) if Path(part) != venv / "bin")
    with open(printed, "w") as screen:
        server = subprocess.Popen(command, cwd=root, start_new_session=True, stdout=screen, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, env=bare)
    try:
        get(f"http://127.0.0.1:{port}/api/status", 90)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


class Kernel:
    """A kernel of the server, started for a notebook at `path` below the served root, as opening that notebook does."""

    def __init__(self, address: str, path: str) -> None:
        websocket = pytest.importorskip("websocket")
        wanted = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
        session = json.loads(get(f"{address}/api/sessions", data=json.dumps(wanted).encode()))
        place = f"{address.replace('http', 'ws', 1)}/api/kernels/{session['kernel']['id']}/channels?token={TOKEN}"
        self.socket = websocket.create_connection(place, timeout=300)

    def run(self, code: str) -> str:
        """What a cell with this code prints and shows as its value; an error of the cell is an AssertionError."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": "", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        self.socket.send(json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content,
                                     "channel": "shell", "buffers": []}))
        shown = []
        while True:
            message = json.loads(self.socket.recv())
            if message.get("parent_header", {}).get("msg_id") != header["msg_id"]: continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream": shown.append(content["text"])
            elif kind in ("execute_result", "display_data"): shown.append(content["data"].get("text/plain", "") + "\n")
            elif kind == "error": raise AssertionError("\n".join(content["traceback"]) + "\n" + "".join(shown))
            elif kind == "status" and content["execution_state"] == "idle": return "".join(shown)
