"""Run the tests that the notebooks hold: `test_notebooks.py [NOTEBOOK ...] [--workers N]` (default: all of nbs/).

Every notebook runs in a process of its own, as `nbdev_test` would run it, and the last line counts them.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# One thread a worker: two workers that each ask for every core only wait for each other.
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
# Tests use no network: what a test needs is in TEXT_RECOGNIZER_RAW or made on the spot.
ENVIRONMENT = {**THREADS, "IN_TEST": "1", "MPLBACKEND": "agg", "TEXT_RECOGNIZER_OFFLINE": "1"}
# The whole notebook in one fresh interpreter: nothing that another one leaves behind can help or hurt it.
ONE = "import sys; from pathlib import Path; from nbdev.test import test_nb; sys.exit(not test_nb(Path(sys.argv[1]))[0])"


def test_one(path: Path) -> tuple[bool, float, str]:
    """Run one notebook from its own folder; (passed, seconds, what it printed)."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", ONE, str(path)], cwd=path.parent, text=True,
                          env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode == 0, time.perf_counter() - start, done.stdout


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
    failed = 0
    with ThreadPoolExecutor(args.workers) as pool:
        jobs = {pool.submit(test_one, path): path.relative_to(ROOT) for path in paths}
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
