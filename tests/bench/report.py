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
        # group -> row -> contestant -> one figure a round: nanoseconds an operation, or what
        # the row's name says
        self.rounds = collections.defaultdict(
            lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
        self.refused = {}
        # group -> contestant -> row -> FUSE requests an operation
        self.requests = collections.defaultdict(lambda: collections.defaultdict(dict))
        self.round_trip = 0.0

    def add(self, group, row, contestant, figure):
        """A figure that is text says why there is none."""
        if isinstance(figure, str):
            self.refuse(group, row, contestant, figure)
        else:
            self.rounds[group][row][contestant].append(figure)

    def refuse(self, group, row, contestant, why):
        self.refused[f"{contestant}: {group}: {row}"] = why

    def count(self, group, row, contestant, requests):
        self.requests[group][contestant][row] = requests

    def median(self, group, row, contestant):
        values = self.rounds[group][row].get(contestant)
        return statistics.median(values) if values else None

    def spread(self, group, row, contestant):
        """Largest less smallest, by the median."""
        values = self.rounds[group][row][contestant]
        middle = statistics.median(values)
        return (max(values) - min(values)) / middle if middle else 0.0

    def document(self):
        return {"unit": "ns per operation; of memory, bytes or what the row says",
                "null_round_trip": self.round_trip, "rounds": self.rounds,
                "refused": self.refused, "requests_per_operation": self.requests}


def shown(nanoseconds):
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.2f} {unit}"
    return f"{nanoseconds / 1e3:.1f} us"


def shown_amount(amount):
    return f"{amount / (1 << 20):.1f} MiB" if amount >= 1 << 20 else f"{amount:.0f}"


def print_tables(figures, names):
    print(f"An empty FUSE round trip here: {shown(figures.round_trip)}.")
    for group, rows in figures.rounds.items():
        width = max(map(len, rows))
        columns = [max(16, len(name) + 2) for name in names]
        print(f"\n{group}: median of the rounds, and the spread (max - min, by the median)")
        print(" " * width + "".join(f"{name:>{w}}" for name, w in zip(names, columns)))
        for row in rows:
            cells = []
            for name in names:
                median = figures.median(group, row, name)
                if median is None:
                    cells.append("-")
                elif group == "memory":
                    cells.append(shown_amount(median))
                else:
                    cells.append(f"{shown(median)} +-{figures.spread(group, row, name):4.0%}")
            print(f"{row:{width}}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, columns)))
        print_ratios(figures, group, [n for n in names if n.startswith("layerfs")], names)
    print_floor(figures)
    if figures.refused:
        print("\nWithout a figure:")
        for what, why in figures.refused.items():
            print(f"  {what}: {why}")


def print_ratios(figures, group, ours, names):
    """How long layerfs takes for each unit of time of the others."""
    others = [n for n in names if n not in ours]
    rows = figures.rounds[group]
    width = max(map(len, rows))
    for own in ours:
        print(f"\n{group}: {own}, by that of")
        print(" " * width + "".join(f"{name:>16}" for name in others))
        for row in rows:
            cells = []
            for other in others:
                a, b = figures.median(group, row, own), figures.median(group, row, other)
                cells.append(f"{a / b:.2f}" if a and b else "-")
            print(f"{row:{width}}" + "".join(f"{cell:>16}" for cell in cells))


def print_floor(figures):
    for group, by_name in figures.requests.items():
        for name, requests in by_name.items():
            width = max(map(len, requests))
            print(f"\n{group}: {name}: FUSE requests, the time of as many empty ones, and what is "
                  "beside them")
            for row, count in requests.items():
                total = figures.median(group, row, name)
                if total is None:
                    continue
                floor = count * figures.round_trip
                rest = max(0.0, total - floor)
                print(f"{row:{width}}{count:>12.2f}{shown(floor):>14}{shown(rest):>14}"
                      f"{rest / total:>8.0%}")


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
