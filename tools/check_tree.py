"""Check that the tree is as the tools would leave it: clean notebooks, exported library, README written from the index.

Works on a copy, so that a failed check changes nothing; prints what differs and how to mend it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("nbs", "text_recognizer", "README.md", "settings.ini", "setup.py", "pyproject.toml", "tools", "docs")
SKIP = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "logs", "_build", "*.lock")


def python_files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*.py")}


def differences(copy: Path) -> list[str]:
    """Files that the tools made otherwise in `copy` than they stand in the checkout."""
    mend = {"nbs": "nbdev_clean", "text_recognizer": "nbdev_export", "README.md": "make readme",
            "nbs/library/README.md": "make readme"}
    kept = [path.relative_to(copy) for path in (copy / "nbs").rglob("*.ipynb")]
    modules = python_files(copy / "text_recognizer") | python_files(ROOT / "text_recognizer")
    kept += [Path("text_recognizer") / path for path in modules]
    kept += [Path("README.md"), Path("nbs/library/README.md")]
    return [f"{path}: differs from what `{mend.get(path.as_posix()) or mend[path.parts[0]]}` makes" for path in sorted(kept)
            if not ((ROOT / path).exists() and (copy / path).exists()
                    and text_of(ROOT / path) == text_of(copy / path))]


def text_of(path: Path) -> str:
    """What a file says; a checkout on Windows may have its lines end in CRLF, which is no difference."""
    return path.read_text(encoding="utf-8")  # newlines of every kind are read as one


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / ROOT.name
        copy.mkdir()
        for part in PARTS:
            source = ROOT / part
            if source.is_dir(): shutil.copytree(source, copy / part, ignore=SKIP)
            else: shutil.copy(source, copy / part)
        for path in (copy / "text_recognizer").rglob("*.py"):
            if path.parent != copy / "text_recognizer" or path.name != "__init__.py": path.unlink()
        commands = Path(sys.executable).parent
        for command in ([commands / "nbdev_clean"], [commands / "nbdev_export"], [sys.executable, "tools/readme.py"]):
            subprocess.run(command, cwd=copy, check=True, env={**os.environ, "PYTHONPATH": ""})
        found = differences(copy)
    print(*found, sep="\n")
    print(f"check: {len(found)} files differ" if found else "check: notebooks clean, library exported, README current")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
