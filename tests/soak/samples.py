"""What the daemon takes, over time: a CSV, a plot, and whether it is flat in the end."""

import csv
import html
import os
import pathlib
import statistics
import threading
import time

FIELDS = ["seconds", "io", "load", "rss_kib", "hwm_kib", "descriptors", "cpu_percent", "at_rest"]
# How much more in the last quarter of the rounds than in the second still is flat.
MORE_MEMORY = 1.10
MORE_KIB = 8 << 10
MORE_DESCRIPTORS = 16


def of_process(pid):
    """(RSS and its highest in KiB, descriptors, seconds of CPU)"""
    proc = pathlib.Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return (int(status["VmRSS"].split()[0]), int(status["VmHWM"].split()[0]), len(os.listdir(proc / "fd")),
            ticks / os.sysconf("SC_CLK_TCK"))


class Sampler:
    """Every few seconds, and when it is asked to."""

    def __init__(self, path, seconds):
        self.rows = []
        self.seconds = seconds
        self.begin = time.monotonic()
        self.pid = None
        self.io = self.load = ""
        self.cpu = None
        self.lock = threading.Lock()
        self.file = open(path, "w", newline="")
        self.writer = csv.DictWriter(self.file, FIELDS)
        self.writer.writeheader()
        threading.Thread(target=self._run, daemon=True).start()

    def watch(self, pid, io):
        with self.lock:
            self.pid, self.io, self.cpu = pid, io, None

    def _run(self):
        while True:
            time.sleep(self.seconds)
            self.take(False)

    def take(self, at_rest):
        with self.lock:
            if self.pid is None:
                return
            try:
                rss, hwm, descriptors, cpu = of_process(self.pid)
            except (FileNotFoundError, ProcessLookupError, KeyError):
                return  # that it is gone is noticed by whoever uses it
            now = time.monotonic()
            percent = 100 * (cpu - self.cpu[1]) / max(now - self.cpu[0], 0.001) if self.cpu else 0
            self.cpu = now, cpu
            row = dict(zip(FIELDS, (round(now - self.begin, 1), self.io, self.load, rss, hwm, descriptors, round(percent, 1),
                                    int(at_rest))))
            self.rows.append(row)
            self.writer.writerow(row)
            self.file.flush()


def unflat(rows):
    """A line for each figure of one mode that grew between the second and the last quarter of its rounds."""
    rest = [row for row in rows if row["at_rest"]]
    quarter = max(len(rest) // 4, 1)
    before, after = rest[quarter:2 * quarter], rest[-quarter:]
    if len(rest) < 4:
        return [f"only {len(rest)} rounds: too few to tell"]
    found = []
    for field, unit, most in (("rss_kib", "KiB", lambda value: value * MORE_MEMORY + MORE_KIB),
                              ("descriptors", "descriptors", lambda value: value + MORE_DESCRIPTORS)):
        was, now = (statistics.median(row[field] for row in part) for part in (before, after))
        if now > most(was):
            found.append(f"{now:.0f} {unit} at rest in the last quarter, {was:.0f} in the second")
    return found


COLOURS = {"rss_kib": "#1f77b4", "hwm_kib": "#aec7e8", "descriptors": "#d62728", "cpu_percent": "#2ca02c"}
WIDTH, HEIGHT, LEFT = 1000, 150, 110


def plot(rows, path):
    """A graph a figure, one above the other; points at rest are dots."""
    parts = []
    end = max((row["seconds"] for row in rows), default=1) or 1
    for index, (field, colour) in enumerate(COLOURS.items()):
        top = 20 + index * (HEIGHT + 30)
        highest = max((row[field] for row in rows), default=1) or 1
        points = [(LEFT + WIDTH * row["seconds"] / end, top + HEIGHT * (1 - row[field] / highest), row["at_rest"]) for row in rows]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        parts.append(f'<text x="5" y="{top + 10}">{html.escape(field)}</text><text x="5" y="{top + 25}">{highest:g}</text>'
                     f'<text x="5" y="{top + HEIGHT}">0</text>'
                     f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#ccc"/>'
                     f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y, at_rest in points if at_rest]
    bottom = 20 + len(COLOURS) * (HEIGHT + 30)
    for before, row in zip([None, *rows], rows):
        if before is None or before["io"] != row["io"]:
            x = LEFT + WIDTH * row["seconds"] / end
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{bottom - 20}" stroke="#888" stroke-dasharray="4"/>'
                         f'<text x="{x + 3:.1f}" y="14">{html.escape(row["io"])}</text>')
    parts.append(f'<text x="{LEFT}" y="{bottom}">0</text><text x="{LEFT + WIDTH - 60}" y="{bottom}">{end:.0f} s</text>')
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 20}" height="{bottom + 10}" '
                    f'font-family="sans-serif" font-size="11">{"".join(parts)}</svg>\n')
