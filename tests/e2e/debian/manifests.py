"""Comparing what tree-manifest prints."""

import collections
import fnmatch
import pathlib

Entry = dict[str, str]


def parse(text: str) -> dict[str, Entry]:
    entries = {}
    for line in text.splitlines():
        path, _, attributes = line.partition("\t")
        entries[path] = dict(word.partition("=")[::2] for word in attributes.split(" "))
    return entries


def read(path: pathlib.Path) -> dict[str, Entry]:
    return parse(path.read_text())


class TimeDependent:
    """The files whose content depends on when a step ran: pattern, and why."""

    def __init__(self, path: pathlib.Path):
        self.patterns = []
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                self.patterns.append(line.split()[0])

    def matches(self, path: str) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in self.patterns)


class Window:
    """The time in which a run of the steps wrote files."""

    # The kernel stamps files with a clock that ticks a few times a second.
    SLACK = 0.05

    def __init__(self, start: float, end: float):
        self.start, self.end = start, end

    def holds(self, time: str) -> bool:
        # Some tools copy a time in whole seconds.
        start = int(self.start) if time.endswith(".000000000") else self.start - self.SLACK
        return start <= float(time) <= self.end + self.SLACK


def compare(expected: dict[str, Entry], actual: dict[str, Entry], expected_window: Window,
            actual_window: Window, time_dependent: TimeDependent) -> list[str]:
    """The differences, as lines. An mtime must be the same unless both runs wrote it."""
    differences = []
    subdirectories = collections.Counter(
        path.rpartition("/")[0] or "." for path, entry in actual.items()
        if entry["type"] == "d" and path != ".")
    for path in sorted(expected.keys() | actual.keys()):
        if path not in actual:
            differences.append(f"missing: {path}: {expected[path]}")
            continue
        if path not in expected:
            differences.append(f"too many: {path}: {actual[path]}")
            continue
        want, got = dict(expected[path]), dict(actual[path])
        if got["type"] == "d" and want["type"] == "d":
            # A directory says 1, like overlayfs, or counts its subdirectories.
            if got["nlink"] not in ("1", str(2 + subdirectories[path])):
                differences.append(f"{path}: nlink {got['nlink']} with "
                                   f"{subdirectories[path]} subdirectories")
            del want["nlink"], got["nlink"]
        if time_dependent.matches(path):
            for entry in (want, got):
                entry.pop("size", None)
                entry.pop("xxh3", None)
        if expected_window.holds(want["mtime"]) and actual_window.holds(got["mtime"]):
            del want["mtime"], got["mtime"]
        for key in sorted(want.keys() | got.keys()):
            if want.get(key) != got.get(key):
                differences.append(f"{path}: {key}: expected {want.get(key)}, "
                                   f"got {got.get(key)}")
    return differences


def same(expected: dict[str, Entry], actual: dict[str, Entry], without=()) -> list[str]:
    """The differences of two views that must not differ in anything."""
    differences = []
    for path in sorted(expected.keys() | actual.keys()):
        want, got = expected.get(path, {}), actual.get(path, {})
        for key in sorted((want.keys() | got.keys()).difference(without)):
            if want.get(key) != got.get(key):
                differences.append(f"{path}: {key}: before {want.get(key)}, "
                                   f"after {got.get(key)}")
    return differences
