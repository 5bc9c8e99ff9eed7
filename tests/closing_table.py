"""Counts what the robustness suite tries, by kind of harm, and closes the session with a table of what survived.

A test there takes the fixture `tally` and does each thing in `with tally.case("what"):`. A case that raises is lost: the
others still run, then the test fails and names the lost ones. The short form is what `make test` runs; `--thorough`, which
`make test-all` gives, runs the whole.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NAME = "robustness"  # of the property by which a report carries its counts from a worker process
KINDS = ("killed at any instant", "full disks, read-only places", "two at once", "bad files", "bad arguments",
         "odd file systems", "untrusted checkpoints", "reproducible", "long and large", "supply chain, no network", "versions",
         "mends, taken out again")


class Tally:
    """What one test has tried: how many cases, and which of them were lost."""

    def __init__(self, kind: str, whole: bool):
        assert kind in KINDS, kind
        self.kind, self.whole, self.tried, self.lost = kind, whole, 0, []

    def many(self, short: int, whole: int) -> int:
        """How many cases the form that is run asks for."""
        return whole if self.whole else short

    @contextmanager
    def case(self, what: object) -> Iterator[None]:
        """One case, lost if the block raises."""
        self.tried += 1
        try: yield
        except Exception:
            where = traceback.format_exc().strip().splitlines()
            self.lost.append(f"{what}\n    " + "\n    ".join(where[-4:]))


@pytest.fixture
def tally(request) -> Tally:
    """The count of this test, of the kind that its module names."""
    return Tally(request.module.KIND, request.config.getoption("--thorough"))


def pytest_addoption(parser) -> None:
    parser.addoption("--thorough", action="store_true", help="the robustness suite whole: some 20 minutes on two cores")


def pytest_collection_modifyitems(config, items) -> None:
    """Leave out what only the whole form has."""
    if config.getoption("--thorough"): return
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    if left_out: config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Keep the counts with the test's report, and fail the test if a case was lost."""
    count = pyfuncitem.funcargs.get("tally")
    try: return (yield)
    finally:
        if isinstance(count, Tally):
            pyfuncitem.user_properties.append((NAME, [count.kind, count.tried, len(count.lost)]))
            if count.lost: pytest.fail(f"{len(count.lost)} of {count.tried} lost:\n" + "\n".join(count.lost[:20]), pytrace=False)


def pytest_terminal_summary(terminalreporter) -> None:
    """The closing table."""
    counts: dict = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call": continue
            for name, value in getattr(report, "user_properties", ()):
                if name != NAME: continue
                kind, tried, lost = value
                before = counts.get(kind, (0, 0))
                # A test that failed outside of its cases has lost one that nobody counted.
                uncounted = int(report.failed and not lost)
                counts[kind] = before[0] + tried + uncounted, before[1] + lost + uncounted
    if not counts: return
    terminalreporter.section("robustness: tried, survived, lost")
    for kind in sorted(counts, key=KINDS.index):
        tried, lost = counts[kind]
        terminalreporter.write_line(f"{kind:32} {tried:7,} {tried - lost:7,} {lost:5,}")
    tried, lost = map(sum, zip(*counts.values()))
    terminalreporter.write_line(f"{'all':32} {tried:7,} {tried - lost:7,} {lost:5,}")
