"""What this suite found is mended; each mend taken out again makes a test fail, so that none can get lost unseen."""

import argparse
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, run_python

KIND = "mends, taken out again"
NEEDED = ("text_recognizer", "tests", "training", "tools", "pyproject.toml", "settings.ini")


class Mend(NamedTuple):
    """A mend: what happened before it, the text of a module that has it, that text without it, and the test that tells."""

    before: str
    module: str
    has: str
    lacks: str
    test: str
    needed: bool = True  # by this Python


def drops_dashes() -> bool:
    """Whether this Python's argparse takes `--lr=--` for no value; from 3.13 on it does not."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr")
    return parser.parse_args(["--lr=--"]).lr != "--"


BITS = "robustness/test_bad_files.py::test_every_bit_of_a_processed_file"
ARCHIVES = "robustness/test_bad_files.py::test_archives_that_are_none"
GROW = "robustness/test_full_disk.py::test_files_that_may_not_grow"
PICKLES = "robustness/test_checkpoints.py::test_a_pickle_that_would_run_code"
READING = "robustness/test_bad_arguments.py::test_each_argument_is_taken_as_it_is_or_refused"
LACKING = "robustness/test_file_systems.py::test_a_call_that_a_file_system_lacks"
PART = "test_resuming.py::test_from_a_checkpoint_of_some_steps_ago"
TYPED = "test_command_line.py::test_what_is_wrong_is_said_in_one_line"

MENDS = [
    # killed
    Mend("a process killed in the middle of a bar kept all bars of its neighbours locked", "progress.py",
         "Bar.set_lock(threading.RLock())", "", "robustness/test_kill.py::test_a_bar_in_the_middle_of_a_line"),
    Mend("what a killed process had begun to write stayed there for ever", "files.py",
         "        if lock: sweep(path)\n", "", "robustness/test_kill.py::test_what_it_had_begun"),
    Mend("what a download had fetched stayed twice, when it was killed at the very end", "data/download/sources.py",
         '    shutil.rmtree(folder / ".partial", ignore_errors=True)', "    pass",
         "test_downloads.py::test_only_the_needed_members_are_fetched"),
    Mend("a run that went on drew other dropout than one that was not killed", "training/resuming.py",
         "if self._random is not None: set_random_state(self._random)", "pass", PART),
    Mend("a run that went on began its epoch anew", "training/resuming.py",
         "loader.load_state_dict(self._place)", "pass", PART),
    Mend("after epochs that limit_train_batches had cut short, the next one began in its middle", "data/loaders.py",
         "if epoch in (None, self.epoch) and start", "if start",
         "test_resuming.py::test_more_epochs_than_were_asked_for_at_first[0-3]"),
    Mend("a checkpoint that was half written was the newest, and the run could not go on", "training/resuming.py",
         "with replacing(path) as temporary: torch.save(checkpoint, temporary)", "torch.save(checkpoint, path)",
         "robustness/test_kill_training.py::test_half_a_checkpoint"),
    # full and read-only disks
    Mend("HDF5 crashed the interpreter when its file could not grow", "data/processed.py",
         "                reserve(temporary, path, size := size + 785 * len(labels))\n", "", f"{GROW}[process]"),
    Mend("a limit on the size of files was an error without a path", "files.py",
         "NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}", "NO_SPACE = {errno.ENOSPC}", f"{GROW}[lines]"),
    Mend("a folder that may not be written to was a traceback", "files.py",
         "    except OSError as error: raise cannot_write(path, error) from error\n    try:\n        if lock",
         "    except ZeroDivisionError: raise\n    try:\n        if lock",
         "robustness/test_full_disk.py::test_a_read_only_place[words]"),
    # file systems that lack something
    Mend("a file system without locks was an error, or waited for without end", "files.py",
         "return error.errno not in UNSUPPORTED", "return True", f"{LACKING}[flock-ENOLCK]"),
    Mend("a file system without permissions was an error", "files.py",
         "with where_supported(): os.chmod(temporary, 0o644)", "os.chmod(temporary, 0o644)", f"{LACKING}[chmod-EPERM]"),
    Mend("a file system that cannot wait for the disk was an error", "files.py",
         "as written, where_supported(): os.fsync", "as written: os.fsync", f"{LACKING}[fsync-EINVAL]"),
    # two at once
    Mend("two processes drew the same glyphs twice", "files.py",
         "        if lock: acquire(lock, path)\n", "        return (yield)\n",
         "robustness/test_two_at_once.py::test_several_prepare_the_same[draw]"),
    Mend("two runs that began at once wrote into one folder", "training/trainer.py",
         "        if not is_first_process(): return version\n", "        return version\n",
         "robustness/test_two_at_once.py::test_two_logs_in_one_folder"),
    # bad files
    Mend("a flipped bit between HDF5's arrays hung the reader, or changed what it read", "data/processed.py",
         "    if not is_sealed(path): return None\n", "    if not path.exists(): return None\n", BITS),
    Mend("lines were made of recipes that had lost a bit", "data/lines/store.py",
         "    if not is_sealed(path): return None\n", "    if not path.exists(): return None\n",
         "robustness/test_bad_files.py::test_every_bit_of_the_lines"),
    Mend("sentences were cut from a web page that lay in their place", "data/sentence_generator.py",
         "return words if len(words) and content.startswith(_first_line(words)) else None", "return words",
         "robustness/test_bad_files.py::test_a_web_page_for_sentences"),
    Mend("a label of 255 was taken, and indexed what is not there", "data/archives/byclass.py",
         "    if wrong.any():\n", "    if wrong.any() and len(wrong) == 0:\n", ARCHIVES),
    Mend("EMNIST's letters were taken for all of its characters", "data/archives/emnist.py",
         'check_mapping(numbers_in(dataset, "dataset.mapping", (2,), "ui", self.path)[:, 1], self.path)', "", ARCHIVES),
    Mend("NaN for labels became 0", "data/archives/byclass.py",
         "wrong = ~((labels >= 0) & (labels < NUM_CLASSES) & (labels == np.floor(labels)))",
         "wrong = (labels < 0) | (labels >= NUM_CLASSES)", ARCHIVES),
    Mend("labels went with images that were not theirs", "data/archives/byclass.py",
         "    if images != labels: raise", "    if images < 0: raise", ARCHIVES),
    Mend("four billion images were made room for because a header said so", "data/archives/idx.py",
         "    if not 0 < length <= MAX_IMAGES or size not in ([], [28, 28]):", "    if not length:", ARCHIVES),
    Mend("what lay behind the last image was not looked at, nor the checksum behind it", "data/archives/idx.py",
         "    if stream.read(1): raise", "    if False: raise", ARCHIVES),
    Mend("brown.zip was unpacked however large it said that it was", "data/sentence_generator.py",
         "if not 0 < size <= LARGEST_CORPUS:", "if not 0 < size:",
         "robustness/test_bad_files.py::test_corpora_that_are_none"),
    Mend("ink of nearly one shade was an error about bins", "reading/ink.py", "values.astype(np.float64), 256", "values, 256",
         "robustness/test_bad_pictures.py::test_ink_of_nearly_one_shade"),
    Mend("bytes that are not the file's were kept as a download", "data/download/files.py",
         "    if (found := checksum(path, algorithm)) != digest:\n", "    if not (found := digest):\n", "test_downloads.py"),
    # bad arguments
    Mend("Lightning divided by --val_check_interval=0", "training/trainer_arguments.py",
         '"val_check_interval": (above_zero(number)', '"val_check_interval": (number', TYPED),
    Mend("Lightning made a list of 999,999,999,999 devices", "training/trainer_arguments.py",
         "if is_list or found <= MOST_DEVICES: return found", "return found", TYPED),
    Mend("--lr=-- was taken for an empty list", "training/command_line.py",
         'if word.startswith("--") and word.endswith("=--"):', "if not word:", f"{READING}[CNN-EMNIST] --thorough",
         drops_dashes()),
    Mend("a network of 10**30 channels was an OverflowError", "errors.py",
         "    if number > maximum: raise", "    if False: raise", TYPED),
    Mend("a path with a line's end in its name made two lines of a message", "errors.py",
         '" ".join(super().__str__().splitlines())', "super().__str__()",
         "test_read_line.py::test_a_bad_picture_is_one_sentence_and_status_2"),
    Mend("NaN was taken for a number", "errors.py", "if not low <= number <= high or",
         "if number < low or number > high or", TYPED),
    # checkpoints
    Mend("a checkpoint was unpickled whatever it held, where torch's default is to", "checkpoints.py",
         "torch.load(path, map_location=map_location, weights_only=True)", "torch.load(path, map_location=map_location)",
         f"{PICKLES}[load_run-torch-2.4]"),
    # reproducible
    Mend("with workers a run drew other dropout than without", "data/loaders.py",
         "        self.generator.manual_seed(self.sampler.mixed_seed())\n", "        self.generator = None\n",
         "robustness/test_reproducible.py::test_in_this_process_and_in_children"),
    Mend("a module moved the global random state when it was imported", "models/cnn.py", "from torch import nn\n",
         "from torch import nn\ntorch.manual_seed(0)\n",
         "robustness/test_reproducible.py::test_importing_moves_nothing --thorough"),
]


@pytest.mark.parametrize("mend", MENDS, ids=lambda mend: mend.before)
def test_a_mend_is_there(mend, tally):
    """Each is where this file says, once."""
    with tally.case(mend.before): assert (ROOT / "text_recognizer" / mend.module).read_text(encoding="utf-8").count(mend.has) == 1


def copied(folder: Path) -> Path:
    """The package and its tests, to be spoilt."""
    for name in NEEDED:
        place, skip = ROOT / name, shutil.ignore_patterns("__pycache__", ".hypothesis")
        if place.is_dir(): shutil.copytree(place, folder / name, ignore=skip)
        else: shutil.copy(place, folder / name)
    return folder


def passes(folder: Path, test: str) -> bool:
    """Whether a test there passes; it must be one that there is."""
    names = [name if name.startswith("--") else f"tests/{name}" for name in test.split()]
    done = run_python("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *names, cwd=folder, timeout=600,
                      PYTHONPATH=str(folder), OMP_NUM_THREADS="1")
    assert done.returncode in (0, 1), f"{done.returncode}: {done.stdout[-1500:]}{done.stderr[-500:]}"
    return done.returncode == 0


@pytest.mark.thorough
def test_without_it_a_test_fails(tally, tmp_path):
    """Each taken out of a copy of the package by itself: its test fails. As it is, all of these tests pass."""
    folder = copied(tmp_path / "copy")
    with tally.case("nothing taken out"):
        for test in {mend.test for mend in MENDS}: assert passes(folder, test), test
    for mend in (mend for mend in MENDS if mend.needed):
        path = folder / "text_recognizer" / mend.module
        whole = path.read_text(encoding="utf-8")
        with tally.case(mend.before):
            path.write_text(whole.replace(mend.has, mend.lacks), encoding="utf-8")
            try: assert not passes(folder, mend.test), f"nothing in {mend.test} tells"
            finally: path.write_text(whole, encoding="utf-8")
