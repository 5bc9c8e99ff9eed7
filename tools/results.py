"""Every network on every kind of data after the same processor time: writes docs/results.md.

    python tools/results.py [--seconds 60] [--seeds 3] [--sources real mnist ...] [--networks ResCNN ...]

A cell is one network trained on one source with one seed for `--seconds` of processor time on one thread, so that a busy
machine does not change it. Each is kept in a file of its own below the data folder as soon as it is done: a run that was
broken off goes on where it was. Start the command twice, and the two share the work: each takes cells that nobody is at.
The table holds what is there; `--table` trains nothing.

The settings of each network were chosen on the glyphs and on held-out training images; no test image was used for that, and
none to choose the weights: what is judged is the network at the end of its time.
"""

import argparse
import itertools
import json
import statistics
import textwrap
from pathlib import Path

from results_cells import (
    BATCH,
    LINE_BATCH,
    LINE_NETWORKS,
    NETWORKS,
    SMALL,
    SOURCES,
    cell,
    claimed,
    networks,
    path_of,
    real_archive,
)

from text_recognizer.data.glyphs.draw import GLYPHS_VERSION
from text_recognizer.data.lines.store import LineSettings
from text_recognizer.files import replacing
from text_recognizer.metadata.paths import checkout_dirname
from text_recognizer.progress import progress
from text_recognizer.training.trainer import shown

COLUMNS = {"glyphs": "glyphs", "transfer": "glyphs → EMNIST", "real": "EMNIST", "mnist": "MNIST"}
LINE_COLUMNS = {"cer": "character error rate", "char_acc": "characters right", "acc": "all places right"}
AGAINST = [("ResCNN", "CNN"), ("ResCNN", "CNN, 32 channels"), ("ResCNN, augmented", "CNN, augmented"),
           ("ResCNN, augmented", "CNN, 32 channels, augmented")]


def collected(source: str, args: argparse.Namespace) -> dict[str, list[dict]]:
    """The cells of a source that are there, by network."""
    found = {}
    for name in networks(source):
        paths = [path_of(name, source, seed, args.seconds) for seed in range(args.seeds)]
        if cells := [json.loads(path.read_text()) for path in paths if path.is_file()]: found[name] = cells
    return found


def spread(values: list[float], seeds: int) -> str:
    """Mean and range; and how many seeds there are as yet, when some are missing."""
    if not values: return "–"
    facts = [f"{min(values):.1f}–{max(values):.1f}"] if len(values) > 1 else []
    if len(values) < seeds: facts.append(f"{len(values)} seed{'s' * (len(values) > 1)}")
    return f"{statistics.mean(values):.1f}" + (f" ({'; '.join(facts)})" if facts else "")


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A table as markdown, numbers to the right."""
    return [f"| {' | '.join(head)} |", "|---" + "|--:" * (len(head) - 1) + "|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def row(name: str, cells: list[dict], scores: list[str]) -> list[str]:
    """A network's line of a table."""
    most = max(one["parameters"] for one in cells)  # MNIST has fewer classes
    rate = statistics.mean(one["images_a_second"] for one in cells)
    return [name, f"{most:,}", f"{rate:,.0f}", *scores]


def paragraph(*sentences: str) -> list[str]:
    """Text in lines of the usual length, and an empty one."""
    return [*textwrap.wrap(" ".join(sentence for sentence in sentences if sentence), 120, break_on_hyphens=False), ""]


def ahead(by_cell: dict, seeds: int) -> list[str]:
    """By how much ResCNN is ahead on real characters, trained on such or not, where both sides are complete."""
    lines = []
    for column, (ours, theirs) in itertools.product(("real", "transfer"), AGAINST):
        pairs = list(zip(by_cell[ours, column], by_cell[theirs, column]))
        if len(pairs) < seeds: continue
        points = [a - b for a, b in pairs]
        by_seed = f" ({min(points):+.1f} to {max(points):+.1f}, seed by seed)" if seeds > 1 else ""
        lines.append(f"- {COLUMNS[column]}: {ours} against {theirs}: {statistics.mean(points):+.1f} points{by_seed}.")
    return [*lines, ""] if lines else []


def meanings(columns: list[str]) -> list[str]:
    """What the columns say, a sentence each."""
    archive, count = real_archive() or (None, 0)
    sample = "; as these are few, half of each batch are glyphs" if count < SMALL else ""
    what = f" (here {archive.path.name}, {count:,} images{sample})" if archive else ""
    said = {"glyphs": f"*glyphs*: trained on drawn characters (version {GLYPHS_VERSION}), judged on those of writers that "
                      "were not trained on.",
            "transfer": "*glyphs → EMNIST*: the same networks, judged on real handwriting, of which they have seen none.",
            "real": f"*EMNIST*: trained on real training images{what}, judged on real test images.",
            "mnist": "*MNIST*: all of it."}
    return [said[column] for column in columns]


def character_section(args: argparse.Namespace) -> list[str]:
    """The section on single characters, as markdown; columns that have no cell are left out."""
    found = [collected(source, args) for source in ("glyphs", "real", "mnist")]
    of_network = {name: [one for source in found for one in source.get(name, [])] for name in NETWORKS}
    by_cell = {(name, column): [one["scores"][column] for one in cells if column in one["scores"]]
               for name, cells in of_network.items() for column in COLUMNS}
    columns = [column for column in COLUMNS if any(by_cell[name, column] for name in NETWORKS)]
    if not columns: return []
    rows = [row(name, cells, [spread(by_cell[name, column], args.seeds) for column in columns])
            for name, cells in of_network.items() if cells]
    return ["## Characters", "",
            *table(["network", "parameters", "images/s", *(COLUMNS[column] for column in columns)], rows),
            *ahead(by_cell, args.seeds),
            *paragraph("Images of the test data read right, in percent.", *meanings(columns)),
            *paragraph(f"Adam, batches of {BATCH}, a learning rate that rises for a fifth of the time and falls for the rest.",
                       "Settings were chosen on held-out training images; the test images were used for this page alone.")]


def line_section(args: argparse.Namespace) -> list[str]:
    """The section on lines, as markdown, beside a reader who never looks; empty while none was trained."""
    found = collected("lines", args)
    if not found: return []
    guess = next(iter(found.values()))[0]["scores"]["acc_padding_only"]
    rows = [["always `<P>`", "–", "–", "100.0", "0.0", f"{guess:.1f}"]]
    rows += [row(name, cells, [spread([one["scores"][column] for one in cells], args.seeds) for column in LINE_COLUMNS])
             for name, cells in found.items()]
    lines = LineSettings()
    return ["## Lines", "", *table(["network", "parameters", "lines/s", *LINE_COLUMNS.values()], rows),
            *paragraph(f"Lines of up to {lines.max_length - 2} drawn characters that overlap by {lines.min_overlap:.0%} to",
                       f"{lines.max_overlap:.0%}, batches of {LINE_BATCH} lines, otherwise as above; all figures in percent.",
                       f"A line has {lines.max_length} places, and what is not written on is padding, `<P>`. The *character",
                       "error rate* (lower is better) is the edits that a line needs, for each of its characters, once padding",
                       "at its end is dropped; spaces count. *All places right* is what the course reports: padding is counted,",
                       "and the first row is what a reader has who never looks. `LineCNN` is trained by CTC and knows no",
                       "places: one letter too many moves all that follow, so for it only the error rate tells.")]


def page(args: argparse.Namespace) -> str:
    """docs/results.md"""
    times = "one seed" if args.seeds == 1 else f"the mean of {args.seeds} seeds, and in brackets the lowest and the highest"
    return "\n".join([
        "# Results", "",
        *paragraph(f"Every network on every source after the same time of training: {args.seconds:g} seconds of one processor",
                   f"core, whatever else the machine was doing. Each figure is {times}."),
        "```", f"python tools/results.py --seconds {args.seconds:g} --seeds {args.seeds}", "```", "",
        *paragraph("writes this page; each cell is kept, so it can be broken off and begun again, and two at once share the",
                   "work. What is not trained yet is left out."),
        *character_section(args), *line_section(args)])


def fill(wanted: list[tuple[str, str, int]], seconds: float) -> None:
    """Train and judge the cells that are missing; those that others are at come last."""
    missing = [one for one in wanted if not path_of(*one, seconds).is_file()]
    bar = progress(desc="Training", unit=" cells", total=len(missing))
    for wait in (False, True):  # whoever was at a cell may have been killed: it is begun again then
        for name, source, seed in missing:
            path = path_of(name, source, seed, seconds)
            with claimed(path, wait) as mine:
                if not mine: continue
                found = cell(name, source, seed, seconds)
                with replacing(path) as temporary: temporary.write_text(json.dumps(found))
            scores = "  ".join(f"{score} {value:.1f}" for score, value in found["scores"].items())
            bar.write(f"{source:7} seed {seed}  {name:28} {scores}")
            bar.update(sum(path_of(*one, seconds).is_file() for one in missing) - bar.n)
    bar.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of processor time, for each cell")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sources", nargs="+", default=list(SOURCES), choices=SOURCES)
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS, *LINE_NETWORKS], help="default: all")
    parser.add_argument("--table", action="store_true", help="only write the page from the cells that are there")
    parser.add_argument("--page", type=Path, default=checkout_dirname() / "docs" / "results.md", help="where to write it")
    args = parser.parse_args()
    wanted = [(name, source, seed) for seed in range(args.seeds) for source in args.sources for name in networks(source)
              if (not args.networks or name in args.networks) and (source != "real" or real_archive())]
    if not args.table: fill(wanted, args.seconds)
    with replacing(args.page) as path: path.write_text(page(args), encoding="utf-8")
    print(f"written: {shown(args.page)}")


if __name__ == "__main__":
    main()
