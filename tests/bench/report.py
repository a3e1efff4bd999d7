"""Figures, and how they are shown."""

import collections
import html
import statistics
import sys
import time


class Progress:
    """What is being done, on a terminal in one line, elsewhere a line each."""

    def __init__(self):
        self.terminal = sys.stderr.isatty()
        self.begin = time.monotonic()

    def show(self, text):
        line = f"[{time.monotonic() - self.begin:5.0f} s] {text}"
        if self.terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def done(self):
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Figures:
    def __init__(self):
        # group -> row -> contestant -> nanoseconds an operation, one a round
        self.rounds = collections.defaultdict(
            lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
        self.requests = {}
        self.round_trip = 0.0

    def add(self, group, row, contestant, nanoseconds):
        self.rounds[group][row][contestant].append(nanoseconds)

    def median(self, group, row, contestant):
        values = self.rounds[group][row].get(contestant)
        return statistics.median(values) if values else None

    def spread(self, group, row, contestant):
        """Largest less smallest, by the median."""
        values = self.rounds[group][row][contestant]
        return (max(values) - min(values)) / statistics.median(values)

    def document(self):
        return {"unit": "ns per operation", "null_round_trip": self.round_trip,
                "rounds": self.rounds, "requests_per_operation": self.requests}


def shown(nanoseconds):
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.2f} {unit}"
    return f"{nanoseconds / 1e3:.1f} us"


def print_tables(figures, names):
    print(f"An empty FUSE round trip here: {shown(figures.round_trip)}.")
    for group, rows in figures.rounds.items():
        width = max(map(len, rows))
        print(f"\n{group}: median of the rounds, and the spread (max - min, by the median)")
        print(" " * width + "".join(f"{name:>22}" for name in names))
        for row in rows:
            cells = []
            for name in names:
                median = figures.median(group, row, name)
                cells.append("-" if median is None else
                             f"{shown(median)} +-{figures.spread(group, row, name):4.0%}")
            print(f"{row:{width}}" + "".join(f"{cell:>22}" for cell in cells))
        print_ratios(figures, group, [n for n in names if n.startswith("layerfs")], names)
    print_floor(figures)


def print_ratios(figures, group, ours, names):
    """How long layerfs takes for each unit of time of the others."""
    others = [n for n in names if n not in ours]
    rows = figures.rounds[group]
    width = max(map(len, rows))
    for own in ours:
        print(f"\n{group}: {own}, time by that of")
        print(" " * width + "".join(f"{name:>16}" for name in others))
        for row in rows:
            cells = []
            for other in others:
                a, b = figures.median(group, row, own), figures.median(group, row, other)
                cells.append(f"{a / b:.2f}" if a and b else "-")
            print(f"{row:{width}}" + "".join(f"{cell:>16}" for cell in cells))


def print_floor(figures):
    for name, requests in figures.requests.items():
        width = max(map(len, requests))
        print(f"\n{name}: FUSE requests an operation, the time of as many empty ones, and what is "
              "beside them")
        for row, count in requests.items():
            total = figures.median("micro", row, name)
            floor = count * figures.round_trip
            print(f"{row:{width}}{count:>10.2f}{shown(floor):>14}{shown(max(0.0, total - floor)):>14}")


def plot(figures, names, directory):
    """One SVG a group: a bar each contestant and row, by the plain directory's time."""
    directory.mkdir(parents=True, exist_ok=True)
    colours = ["#888888", "#1b6ca8", "#c8553d", "#b58900", "#2a9d4a", "#6a4c93", "#333333"]
    for group, rows in figures.rounds.items():
        bar, left, scale = 12, 220, 40.0
        lines, y = [], 30
        for row in rows:
            base = figures.median(group, row, "plain") or 1.0
            lines.append(f'<text x="{left - 8}" y="{y + bar}" text-anchor="end">{html.escape(row)}</text>')
            for i, name in enumerate(names):
                median = figures.median(group, row, name)
                if median is None:
                    continue
                ratio = median / base
                length = min(ratio * scale / 4, 600)
                lines.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 2}" '
                             f'fill="{colours[i % len(colours)]}"/>'
                             f'<text x="{left + length + 4:.1f}" y="{y + bar - 3}">{ratio:.1f}</text>')
                y += bar
            y += 8
        legend = "".join(f'<rect x="{left + 130 * i}" y="6" width="10" height="10" '
                         f'fill="{colours[i % len(colours)]}"/>'
                         f'<text x="{left + 130 * i + 14}" y="15">{html.escape(name)}</text>'
                         for i, name in enumerate(names))
        (directory / f"{group}.svg").write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="1100" height="{y + 10}" '
            f'font-family="sans-serif" font-size="10">{legend}{"".join(lines)}</svg>\n')
