"""The course's command, `python training/run_experiment.py --help`, over text_recognizer.training.run_experiment."""

import sys
from pathlib import Path

try:
    import text_recognizer  # noqa: F401
except ModuleNotFoundError:  # not installed: use the checkout that this file is in
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from text_recognizer.training.run_experiment import main

if __name__ == "__main__":
    main()
