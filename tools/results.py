"""Every network on every kind of data after the same processor time: writes docs/results.md.

    python tools/results.py [--seconds 60] [--seeds 3] [--sources real mnist ...] [--networks ResCNN ...]

A cell is one network trained on one source with one seed for `--seconds` of processor time on one thread, so that a busy
machine does not change it. Each is kept in a file of its own below the data folder as soon as it is done: a run that was
broken off goes on where it was, and several can share the work. The table holds what is there; `--table` trains nothing.

The settings of each network were chosen on the glyphs and on held-out training images; no test image was used for that, and
none to choose the weights: what is judged is the network at the end of its time.
"""

import argparse
import json
import os
import statistics
import sys
import time
from argparse import Namespace
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a waiting thread must not spend the budget; read when torch is loaded

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from models import SMALL, accuracy, archive_split, batches, rate_at

import text_recognizer.data as data_classes
import text_recognizer.models as model_classes
from text_recognizer.data.archives import find_emnist
from text_recognizer.data.augment import augment
from text_recognizer.data.glyphs import GLYPHS_VERSION
from text_recognizer.files import replacing
from text_recognizer.lit_models.metrics import CharacterErrorRate
from text_recognizer.metadata.emnist import INVERSE_MAPPING
from text_recognizer.metadata.shared import checkout_dirname, data_dirname, raw_dirname
from text_recognizer.progress import progress
from text_recognizer.training.allocator import keep_memory

VERSION = 1  # of the procedure; cells of another version are made anew
# name in the table: (class, its arguments, peak learning rate, strength of augmentation)
NETWORKS = {
    "MLP": ("MLP", {}, 1e-3, 0),
    "CNN": ("CNN", {}, 2e-3, 0),
    "CNN, augmented": ("CNN", {}, 2e-3, 1),
    "CNN, 32 channels": ("CNN", {"conv_dim": 32}, 2e-3, 0),
    "CNN, 32 channels, augmented": ("CNN", {"conv_dim": 32}, 2e-3, 1),
    "ResCNN": ("ResCNN", {}, 3e-3, 0),
    "ResCNN, augmented": ("ResCNN", {}, 3e-3, 1),
}
LINE_NETWORKS = {"LineCNNSimple": ("LineCNNSimple", {}, 2e-3, 0),
                 "LineCNNSimple, 32 channels": ("LineCNNSimple", {"conv_dim": 32}, 2e-3, 0)}
SOURCES = {"glyphs": "drawn characters, of writers that were not trained on", "real": "EMNIST ByClass, its test images",
           "mnist": "MNIST, its test images", "lines": "lines of drawn characters"}
BATCH, LINE_BATCH = 128, 16
COLUMNS = {"glyphs": "glyphs", "transfer": "glyphs → EMNIST", "real": "EMNIST", "mnist": "MNIST"}


def real_archive():
    """The archive in TEXT_RECOGNIZER_RAW; None where there is none."""
    return find_emnist(raw_dirname()) if raw_dirname() else None


@cache
def characters(source: str) -> tuple[list, dict, dict]:
    """(parts to train on, {column: (images, labels) to judge}, config of the data) of a source of single characters."""
    data = data_classes.MNIST() if source == "mnist" else data_classes.EMNIST(source="glyphs")
    data.prepare_data()
    data.setup()
    both = []
    for part in (data.data_train, data.data_test):
        rows = slice(None) if part.indices is None else part.indices
        both.append((part.data[rows], part.targets[rows]))
    parts, judged = [both[0]], {source: both[1]}
    archive = real_archive()
    if source == "glyphs" and archive is not None: judged["transfer"] = archive_split(archive, "test")
    if source == "real":
        own = archive_split(archive, "train")
        parts, judged = [own, both[0]] if len(own[0]) < SMALL else [own], {"real": archive_split(archive, "test")}
    return parts, judged, data.config()


def train(model: torch.nn.Module, stream, seconds: float, peak: float, strength: float) -> int:
    """Adam, its rate rising and falling once within `seconds` of processor time; the number of images it has seen."""
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=peak)
    seen, start = 0, time.process_time()
    for x, y in stream:
        if (done := (time.process_time() - start) / seconds) >= 1: return seen
        optimizer.param_groups[0]["lr"] = peak * rate_at(done)
        if strength: x = augment(x, strength)
        loss = F.cross_entropy(model(x.to(memory_format=torch.channels_last)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(x)
    raise AssertionError("the stream has no end")


@cache
def line_data():
    """The lines that all line networks share."""
    data = data_classes.EMNISTLines(source="glyphs", text_source="python", batch_size=LINE_BATCH)
    data.prepare_data()
    data.setup()
    return data


def line_stream(seed: int):
    """Batches of lines without end."""
    data, generator = line_data(), torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(data.data_train), generator=generator).split(LINE_BATCH):
            yield data.data_train.__getitems__(rows.tolist())


@torch.no_grad()
def judge_lines(model: torch.nn.Module) -> dict[str, float]:
    """Character error rate, and accuracy on characters, on the test lines."""
    padding, data = INVERSE_MAPPING["<P>"], line_data()
    rate, right, total = CharacterErrorRate(padding), 0, 0
    model.eval()
    for rows in torch.arange(len(data.data_test)).split(50):
        x, y = data.data_test.__getitems__(rows.tolist())
        read = model(x).argmax(1)
        rate.update(read, y)
        right, total = right + ((read == y) & (y != padding)).sum().item(), total + (y != padding).sum().item()
    return {"cer": 100 * rate.compute().item(), "char_acc": 100 * right / total}


def cell(name: str, source: str, seed: int, seconds: float) -> dict:
    """Train and judge one network."""
    kind, settings, peak, strength = (LINE_NETWORKS if source == "lines" else NETWORKS)[name]
    torch.manual_seed(seed)
    if source == "lines": config, stream = line_data().config(), line_stream(seed)
    else:
        parts, judged, config = characters(source)
        stream = batches(parts, BATCH, seed)
    model = getattr(model_classes, kind)(config, Namespace(**settings))
    seen = train(model, stream, seconds, peak, strength)
    scores = judge_lines(model) if source == "lines" else \
        {column: 100 * accuracy(model, x, y, "cpu") for column, (x, y) in judged.items()}
    size = sum(parameter.numel() for parameter in model.parameters())
    return {"scores": scores, "images_a_second": seen / seconds, "parameters": size}


def path_of(name: str, source: str, seed: int, seconds: float):
    """Where a cell is kept; settings that change change the name."""
    kind, settings, peak, strength = (LINE_NETWORKS if source == "lines" else NETWORKS)[name]
    words = [f"v{VERSION}", f"glyphs{GLYPHS_VERSION}", source, kind, *(f"{k}{v}" for k, v in settings.items()), f"lr{peak:g}",
             f"augment{strength:g}", f"{seconds:g}s", f"seed{seed}"]
    return data_dirname() / "results" / ("-".join(words) + ".json")


def collected(names, source: str, args: argparse.Namespace) -> dict[str, list[dict]]:
    """The cells that are there, by network."""
    found = {}
    for name in names:
        paths = [path_of(name, source, seed, args.seconds) for seed in range(args.seeds)]
        if cells := [json.loads(path.read_text()) for path in paths if path.is_file()]: found[name] = cells
    return found


def spread(values: list[float], seeds: int) -> str:
    """Mean and range; and how many seeds there are as yet, when some are missing."""
    if not values: return "–"
    missing = f"; {len(values)} seed{'s' * (len(values) > 1)}" if len(values) < seeds else ""
    return f"{statistics.mean(values):.1f} ({min(values):.1f}–{max(values):.1f}{missing})"


def character_table(args: argparse.Namespace) -> list[str]:
    """The table of single characters, as markdown, and how far ResCNN is ahead; columns that have no cell are left out."""
    found = {source: collected(NETWORKS, source, args) for source in ("glyphs", "real", "mnist")}
    of_network = {name: [cell for source in found.values() for cell in source.get(name, [])] for name in NETWORKS}
    by_cell = {(name, column): [cell["scores"][column] for cell in cells if column in cell["scores"]]
               for name, cells in of_network.items() for column in COLUMNS}
    columns = [column for column in COLUMNS if any(by_cell[name, column] for name in NETWORKS)]
    lines = [f"| network | parameters | images/s | {' | '.join(COLUMNS[column] for column in columns)} |",
             "|---" + "|--:" * (len(columns) + 2) + "|"]
    for name, cells in of_network.items():
        if not cells: continue
        most = max(cells, key=lambda one: one["parameters"])  # MNIST has fewer classes
        rate = statistics.mean(cell["images_a_second"] for cell in cells)
        lines.append(f"| {name} | {most['parameters']:,} | {rate:,.0f} | "
                     + " | ".join(spread(by_cell[name, column], args.seeds) for column in columns) + " |")
    lines.append("")
    for ours, theirs in (("ResCNN", "CNN"), ("ResCNN", "CNN, 32 channels"), ("ResCNN, augmented", "CNN, augmented"),
                         ("ResCNN, augmented", "CNN, 32 channels, augmented")):
        pairs = list(zip(by_cell.get((ours, "real"), []), by_cell.get((theirs, "real"), [])))
        if len(pairs) == args.seeds:
            ahead = [a - b for a, b in pairs]
            lines.append(f"- On EMNIST, {ours} against {theirs}: {statistics.mean(ahead):+.1f} points "
                         f"({min(ahead):+.1f} to {max(ahead):+.1f}, seed by seed).")
    return lines


def line_table(args: argparse.Namespace) -> list[str]:
    """The section on lines, as markdown; empty while none was trained."""
    if not collected(LINE_NETWORKS, "lines", args): return []
    lines = ["## Lines", "", "| network | parameters | lines/s | character error rate, % | characters right, % |",
             "|---|--:|--:|--:|--:|"]
    for name, cells in collected(LINE_NETWORKS, "lines", args).items():
        rate = statistics.mean(cell["images_a_second"] for cell in cells)
        scores = (spread([cell["scores"][key] for cell in cells], args.seeds) for key in ("cer", "char_acc"))
        lines.append(f"| {name} | {cells[0]['parameters']:,} | {rate:,.1f} | {' | '.join(scores)} |")
    return [*lines, "", f"Lines of up to 32 drawn characters that overlap by up to a third, batches of {LINE_BATCH} lines.", ""]


def page(args: argparse.Namespace) -> str:
    """docs/results.md"""
    archive = real_archive()
    count = len(archive.labels("train")) if archive else 0
    sample = "; of these there are few, so that each batch is half theirs and half glyphs" if 0 < count < SMALL else ""
    what = f"EMNIST here is {archive.describe()}, {count:,} training images{sample}." if archive else "No EMNIST was at hand."
    said = f"python tools/results.py --seconds {args.seconds:g} --seeds {args.seeds}"
    return "\n".join([
        "# Results", "",
        f"Every network on every source after the same time of training: {args.seconds:g} seconds of one processor core, "
        "whatever else", "the machine was doing. Accuracy on test images in percent: the mean of "
        f"{args.seeds} seeds, and in brackets the lowest and", "the highest.", "",
        "```", said, "```", "",
        "writes this page; each cell is kept, so it can be broken off and begun again. What is not trained yet is left out.", "",
        "## Characters", "", *character_table(args), "",
        f"*glyphs*: trained on drawn characters (version {GLYPHS_VERSION}), judged on those of writers that were not trained on.",
        "*glyphs → EMNIST*: the same networks, judged on real handwriting, of which they have seen none. *EMNIST*: trained on",
        f"real training images, judged on real test images. {what} *MNIST*: all of it.", "",
        f"Adam, batches of {BATCH}, a learning rate that rises for a fifth of the time and falls for the rest. Settings were",
        "chosen on held-out training images; the test images were used for this page alone.", "",
        *line_table(args)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of processor time, for each cell")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS, *LINE_NETWORKS], help="default: all")
    parser.add_argument("--table", action="store_true", help="only write the page from the cells that are there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    # Drawn characters vary as it is, and there is plenty of MNIST: augmentation is measured where images are few.
    wanted = [(name, source, seed) for seed in range(args.seeds) for source in args.sources
              for name in (LINE_NETWORKS if source == "lines" else NETWORKS)
              if (not args.networks or name in args.networks) and (source == "real" or "augmented" not in name)]
    if real_archive() is None: wanted = [one for one in wanted if one[1] != "real"]
    todo = [] if args.table else [one for one in wanted if not path_of(*one, args.seconds).is_file()]
    for name, source, seed in progress(todo, desc="Training", unit=" cells"):
        path = path_of(name, source, seed, args.seconds)
        if path.is_file(): continue  # somebody else has done it meanwhile
        path.parent.mkdir(parents=True, exist_ok=True)
        found = cell(name, source, seed, args.seconds)
        with replacing(path) as temporary: temporary.write_text(json.dumps(found))
        print(f"{source:7} seed {seed}  {name:28} " + "  ".join(f"{k} {v:.1f}" for k, v in found["scores"].items()), flush=True)
    with replacing(checkout_dirname() / "docs" / "results.md") as path: path.write_text(page(args), encoding="utf-8")
    print("written: docs/results.md")


if __name__ == "__main__":
    main()
