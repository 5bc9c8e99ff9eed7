"""The full EMNIST archives, processed by us and as the course's lab does it: seconds and peak memory, all sides in one run.

Builds gzip.zip and matlab.zip with the official class counts, 814,255 images, out of the images of the sample and the counts
that TEXT_RECOGNIZER_RAW holds, in a temporary folder. Then, each in a process of its own and taking turns,

- the package processes each of the two: read, sampled, turned upright, checked, written as one HDF5 file and read back;
- matlab.zip is unpacked, loaded whole with scipy and indexed, as the lab does, without writing anything.

`processing.py [--rounds 3] [--keep FOLDER]`: --keep builds in FOLDER, and takes what an earlier run has built there.
"""

import argparse
import csv
import gzip
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

LIMITS_GB = {"gzip.zip": 1.03, "matlab.zip": 1.5}
WANTED_RATIO = 2.0  # gzip.zip, which a download brings, against the lab's way


def official_counts() -> "dict | None":
    """Split -> the 62 class counts, from byclass_counts.csv in the raw folder; None where there is none."""
    from text_recognizer.metadata.paths import raw_dirname

    raw = raw_dirname()
    found = [path for path in (raw / "emnist", raw) if (path / "byclass_counts.csv").is_file()] if raw else []
    if not found:
        return None
    with open(found[0] / "byclass_counts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {split: [int(row[split]) for row in rows] for split in ("train", "test")}


def build(folder: Path, official: dict) -> None:
    """Both archives with the official counts, their images drawn with replacement from the sample's, in shuffled order."""
    import numpy as np
    from scipy.io import savemat

    from text_recognizer.data.archives.emnist import MAT_NAME, find_emnist
    from text_recognizer.metadata.emnist import CHARACTERS
    from text_recognizer.metadata.paths import raw_dirname

    sample, random, splits, gzips = find_emnist(raw_dirname()), np.random.default_rng(0), {}, folder / "gzip.zip"
    with zipfile.ZipFile(gzips, "w") as archive:
        for split, counts in official.items():
            labels = sample.labels(split)
            stored = sample.take(split, np.arange(len(labels))).transpose(0, 2, 1)  # on its side, as the archives have it
            drawn = np.concatenate([random.choice(np.flatnonzero(labels == label), n) for label, n in enumerate(counts)])
            random.shuffle(drawn)
            for part, array in (("labels", labels[drawn]), ("images", stored[drawn])):
                head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
                archive.writestr(f"gzip/emnist-byclass-{split}-{part}-idx{array.ndim}-ubyte.gz",
                                 gzip.compress(head + array.tobytes(), 6))
            splits[split] = {"images": array.reshape(len(drawn), 784), "labels": labels[drawn][:, None],
                             "writers": np.zeros((len(drawn), 1), np.uint16)}
    mapping = np.array([[label, ord(character)] for label, character in enumerate(CHARACTERS)], np.uint8)
    savemat(folder / MAT_NAME, {"dataset": {**splits, "mapping": mapping}}, do_compression=True)
    with zipfile.ZipFile(folder / "matlab.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / MAT_NAME, f"matlab/{MAT_NAME}")
    (folder / MAT_NAME).unlink()


def peak_gb() -> float:
    """This process's largest resident size so far."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024**2
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 ** (3 if sys.platform == "darwin" else 2)


def ours(path: Path) -> list:
    """Process as `EMNIST` does on its first use; sizes."""
    from text_recognizer.data.emnist import EMNIST

    emnist = EMNIST(source=str(path))
    emnist.prepare_data()
    emnist.setup()
    return [len(emnist.data_train), len(emnist.data_val), len(emnist.data_test)]


def labs(path: Path) -> list:
    """Load the whole file with scipy, index it, turn the images upright, divide; sizes."""
    import numpy as np
    from scipy.io import loadmat

    from text_recognizer.data.emnist import divide, sample_to_balance

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        dataset = loadmat(archive.extract("matlab/emnist-byclass.mat", folder))["dataset"]
    parts = []
    for split in ("train", "test"):
        images, labels = (dataset[split][0, 0][name][0, 0] for name in ("images", "labels"))
        chosen = sample_to_balance(labels.ravel().astype(np.int64) + 4)
        parts.append(images[chosen].reshape(-1, 28, 28).swapaxes(1, 2))
    train, val = divide(len(parts[0]))
    return [len(train), len(val), len(parts[1])]


def one(side: str, path: Path) -> dict:
    """Run one side in a fresh process."""
    with tempfile.TemporaryDirectory() as data:
        done = subprocess.run([sys.executable, __file__, "--side", side, "--keep", str(path)], stdout=subprocess.PIPE,
                              text=True, check=True, env={**os.environ, "TEXT_RECOGNIZER_DATA": data})
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="build here, and use what is there")
    parser.add_argument("--side", choices=["ours", "labs"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        import text_recognizer.data.emnist  # noqa: F401 (importing is not what is measured)

        start, cpu = time.perf_counter(), time.process_time()
        sizes = {"ours": ours, "labs": labs}[args.side](args.keep)
        print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "peak": peak_gb(),
                          "sizes": sizes}))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        start, official = time.perf_counter(), official_counts()
        if official is None:
            print("not measured: name a folder with byclass_counts.csv (in it or in its emnist/) in TEXT_RECOGNIZER_RAW")
            return 0
        if not all((folder / name).exists() for name in LIMITS_GB):
            build(folder, official)
        sizes = ", ".join(f"{name} {(folder / name).stat().st_size / 1e6:.0f} MB" for name in LIMITS_GB)
        print(f"archives of 814,255 images: {sizes}; made in {time.perf_counter() - start:.0f} s")
        runs: dict = {("ours", "gzip.zip"): [], ("ours", "matlab.zip"): [], ("labs", "matlab.zip"): []}
        for number in range(args.rounds):
            for side, name in runs:
                runs[side, name].append(last := one(side, folder / name))
                print(f"round {number + 1}  {side:4}  {name:10}  {last['seconds']:6.2f} s ({last['cpu']:5.2f} s of processor)  "
                      f"peak {last['peak']:.2f} GB  {last['sizes']}", flush=True)
    sizes = [run["sizes"] for side in runs.values() for run in side]
    assert all(size == [260212, 65054, 53988] for size in sizes), f"expected the lab's sizes, got {sizes}"
    peaks = {name: max(run["peak"] for run in runs["ours", name]) for name in LIMITS_GB}
    # Of pairs that ran one after the other, since a shared machine is not equally busy all the time.
    labs_way = runs["labs", "matlab.zip"]
    ratios = {name: statistics.median(b["seconds"] / a["seconds"] for a, b in zip(runs["ours", name], labs_way))
              for name in peaks}
    good = all(peaks[name] <= limit for name, limit in LIMITS_GB.items()) and ratios["gzip.zip"] >= WANTED_RATIO
    found = ", ".join(f"{name} at most {peak:.2f} GB (limit {LIMITS_GB[name]})" for name, peak in peaks.items())
    print(f"{'met' if good else 'MISSED'}: {found}; against the lab's way, which writes nothing: matlab.zip "
          f"{ratios['matlab.zip']:.2f} times as fast, gzip.zip {ratios['gzip.zip']:.2f} times (at least {WANTED_RATIO:g})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
