"""Run notebooks top to bottom and save what they print and draw: `run_notebooks.py [NOTEBOOK ...]`.

Without names, all of nbs/ in order. A notebook is saved only when every cell of it ran, and carries the checksum of the
code that ran, so that a test can tell when outputs no longer belong to their cells.
"""

import hashlib
import os
import re
import sys
import time
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbdev.clean import clean_nb, process_write

ROOT = Path(__file__).resolve().parent.parent
NOT_RUN = re.compile(r"^#\s*\|\s*eval:\s*false", re.MULTILINE)
FIG_ALT = re.compile(r"^#\s*\|\s*fig-alt:.*\n?", re.MULTILINE)
WIDGET = "application/vnd.jupyter.widget-view+json"


class Client(NotebookClient):
    """nbclient that honours nbdev's `#| eval: false`: such a cell keeps the outputs that it has."""

    async def async_execute_cell(self, cell, cell_index, **kwargs):
        if cell.cell_type == "code" and NOT_RUN.search(cell.source):
            return cell
        return await super().async_execute_cell(cell, cell_index, **kwargs)


def code_sha256(notebook: dict) -> str:
    """Checksum of all code cells, in order: what the outputs belong to. A figure described in words is the same figure."""
    sources = [FIG_ALT.sub("", "".join(cell["source"])) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def without_widgets(notebook: dict) -> None:
    """A saved page has no kernel behind it: of a widget with a picture of itself only that stays, of a bar nothing."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}): output["data"].pop(WIDGET, None)
        if "outputs" in cell: cell["outputs"] = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
    notebook["metadata"].pop("widgets", None)  # the state of widgets that nobody will see


def run(path: Path) -> float:
    """Execute the notebook in its own folder and write it back, cleaned; seconds taken."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    # The kernel talks over loopback alone, so its warning about that is no news to anybody.
    client = Client(notebook, timeout=1800, kernel_name="python3", extra_arguments=["--log-level=ERROR"],
                    resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    seconds = time.perf_counter() - start
    without_widgets(notebook)
    notebook.metadata["executed"] = code_sha256(notebook)
    temporary = path.with_suffix(".running")
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)
    clean = partial(clean_nb, allowed_metadata_keys=["executed"])
    process_write(warn_msg=f"could not clean {path}", proc_nb=clean, f_in=str(path))
    return seconds


def main() -> int:
    given = [Path(name).resolve() for name in sys.argv[1:]]
    found = sorted(ROOT.glob("nbs/*.ipynb")) + sorted(ROOT.glob("nbs/*/**/*.ipynb"))
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    failed = 0
    for path in given or found:
        try:
            print(f"{path.relative_to(ROOT)}: {run(path):.1f} s", flush=True)
        except CellExecutionError as error:
            failed += 1
            print(f"{path.relative_to(ROOT)}: FAILED\n{error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
