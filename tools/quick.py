"""The quick part of `make test`, for systems without make too: the library's notebooks and the tests of what users type."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/test_contract.py", "tests/test_command_line.py", "tests/test_lines.py")


def main() -> int:
    notebooks = sorted((ROOT / "nbs" / "library").rglob("*.ipynb"))
    first = subprocess.run([sys.executable, "tools/test_notebooks.py", *notebooks], cwd=ROOT)
    second = subprocess.run([sys.executable, "-m", "pytest", *TESTS], cwd=ROOT)
    return first.returncode or second.returncode


if __name__ == "__main__":
    sys.exit(main())
