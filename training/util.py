"""The course's module: data and model from arguments. The code is in text_recognizer/training/util.py."""

import sys
from pathlib import Path

try:
    import text_recognizer  # noqa: F401
except ModuleNotFoundError:  # not installed: use the checkout that this file is in
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from text_recognizer.training.util import *  # noqa: F403
from text_recognizer.training.util import setup_data_and_model_from_args  # noqa: F401
