"""Run the short tests with the oldest version of each package that settings.ini allows, in an environment of its own.

`oldest.py [--print] [pytest argument ...]`: the environment is .venv-oldest, made with python3.10 (or PYTHON_OLDEST). With
--print the versions are printed and nothing else is done. torch of that age brings its GPU libraries along: 5 GB.
"""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-oldest"
# What the tests need beside the package; the notebooks' tools are pinned and have no old versions.
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "setuptools")
TESTS = ("tests/test_contract.py", "tests/test_command_line.py", "tests/test_lines.py", "tests/test_resuming.py",
         "tests/test_downloads.py", "tests/robustness")


def oldest() -> "list[str]":
    """The requirements of the package and of its tests, with their lower bounds only."""
    parser = configparser.ConfigParser(delimiters=["="], interpolation=None)
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    settings = parser["DEFAULT"]
    wanted = settings["requirements"].split()
    others = settings["lessons_requirements"].split() + settings["dev_requirements"].split()
    wanted += [one for one in others if re.split("[=<>]", one)[0] in TOOLS]
    return [one.split(",")[0] for one in wanted]


def main(argv: "list[str]") -> int:
    if argv == ["--print"]:
        print("\n".join(oldest()))
        return 0
    python = FOLDER / "bin" / "python"
    if not (FOLDER / ".ready").exists():
        subprocess.run([os.environ.get("PYTHON_OLDEST", "python3.10"), "-m", "venv", "--clear", FOLDER], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
        # uv can do what pip cannot: take the lowest version that each bound allows, and new ones of what those need.
        subprocess.run([python, "-m", "uv", "pip", "install", "--resolution", "lowest-direct", "--python", python, "-r", "-"],
                       input="\n".join(oldest()), text=True, check=True)
        (FOLDER / ".ready").touch()
    argv = argv or [*TESTS, "-m", "not slow"]
    return subprocess.run([python, "-m", "pytest", "-p", "no:cacheprovider", *argv], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
