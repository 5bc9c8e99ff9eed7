"""Run the tests that the notebooks hold: `test_notebooks.py [NOTEBOOK ...] [--workers N]` (default: all of nbs/).

Every notebook is given to `nbdev_test` in a process of its own, so that none finds what another left behind, and the last line
counts them. The processes are forked from one that has imported what nearly all of them need (where the system can fork): that
takes longer than most tests.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# One thread a worker: two workers that each ask for every core only wait for each other.
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
# Tests use no network: what a test needs is in TEXT_RECOGNIZER_RAW or made on the spot.
ENVIRONMENT = {**THREADS, "IN_TEST": "1", "MPLBACKEND": "agg", "TEXT_RECOGNIZER_OFFLINE": "1"}
# Of other packages only: what a notebook tests, it imports itself.
PRELOADED = ["nbdev.test", "matplotlib.pyplot", "torchmetrics", "pytorch_lightning", "h5py"]


def run(path: Path, printed: str, method: str) -> None:
    """`nbdev_test` of one notebook in this fresh process; what it prints goes to the file `printed`."""
    multiprocessing.set_start_method(method, force=True)  # for its own processes, the one that it would have had
    file = os.open(printed, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.chdir(ROOT)
    from nbdev.test import nbdev_test

    if "COVERAGE_RUN" in os.environ:
        from covered_cells import count_cells_as_modules

        count_cells_as_modules()
    nbdev_test.__wrapped__(path=str(path), n_workers=0)  # leaves with status 1 if it fails


def processes() -> multiprocessing.context.BaseContext:
    """How processes are made: nothing that one notebook leaves behind can help or hurt another."""
    os.environ.update(ENVIRONMENT)
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def test_one(context: multiprocessing.context.BaseContext, path: Path) -> tuple[bool, float, str]:
    """Run one notebook; (passed, seconds, what it printed)."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder, "printed")
        printed.touch()
        process = context.Process(target=run, args=(path, str(printed), multiprocessing.get_start_method()))
        process.start()
        process.join()
        return process.exitcode == 0, time.perf_counter() - start, printed.read_text(encoding="utf-8", errors="replace")


def notebooks() -> list[Path]:
    """All notebooks of nbs/, the lessons first and large before small, so that no worker idles at the end."""
    found = [path for path in (ROOT / "nbs").rglob("*.ipynb") if not any(p.startswith((".", "_")) for p in path.parts)]
    return sorted(found, key=lambda path: (path.parent.name != "nbs", -path.stat().st_size))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", nargs="*", type=Path)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    args = parser.parse_args()
    paths = [path.resolve() for path in args.notebook] or notebooks()
    failed, context = 0, processes()
    with ThreadPoolExecutor(args.workers) as pool:
        jobs = {pool.submit(test_one, context, path): path.relative_to(ROOT) for path in paths}
        for job in as_completed(jobs):
            passed, seconds, printed = job.result()
            failed += not passed
            print(f"{'passed' if passed else 'FAILED'}  {seconds:6.1f} s  {jobs[job]}", flush=True)
            if not passed:
                print(printed, flush=True)
    print(f"notebooks: {len(paths) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
