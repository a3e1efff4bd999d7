"""How time, memory and descriptors grow: with lowers, entries, files and client processes."""

import os
import pathlib
import subprocess
import time

import contestants

SHARED = 20  # directories that every lower has
OWN = 20     # files that one lower has in each


def sizes(quick):
    return {"lowers": (1, 100) if quick else (1, 10, 100, 500),
            "wide": (100_000,) if quick else (100_000, 1_000_000),
            "tree": 100_000 if quick else 1_000_000,
            "clients": (1, 4, 16),
            "client_files": 500 if quick else 2000}


def prepare(binaries, base, quick):
    want = sizes(quick)
    micro = binaries / "bench-micro"
    for count in want["lowers"]:
        where = base / f"lowers{count}"
        for number in range(count):
            for d in range(SHARED):
                directory = where / f"l{number}/usr/d{d}"
                directory.mkdir(parents=True)
                # The same files in all, whatever the number of lowers.
                for i in range(number, OWN, count):
                    (directory / f"f{i}").write_text("x")
    for count in want["wide"]:
        # Below the root, which fuse-overlayfs reads when it mounts.
        subprocess.run([micro, "wide", base / f"wide{count}/wide", "--files", str(count)],
                       check=True)
    subprocess.run([micro, "deep", base / "deep", "--files", str(want["tree"])], check=True)


def flat(base, count):
    """What `count` lowers show merged, for the contestant without a union."""
    merged = base / f"flat{count}"
    if not merged.exists():
        for number in range(count):
            contestants.call("cp", "-a", f"{base}/lowers{count}/l{number}/.", merged)
    return merged


def nanoseconds(action):
    begin = time.perf_counter_ns()
    action()
    return time.perf_counter_ns() - begin


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Mounted:
    """A mount of its own for a few rows."""

    def __init__(self, contestant, layers, place, only_read=True):
        self.contestant, self.place = contestant, place
        begin = time.perf_counter_ns()
        self.path = contestant.mount(layers, place, only_read)
        # Ready is who answers.
        os.lstat(self.path)
        self.took = time.perf_counter_ns() - begin
        self.pid = contestant.daemon(place)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.contestant.unmount(self.place)


def stat_all(top):
    # find(1) asks for what it compares: one lstat(2) a file.
    subprocess.run(["find", top, "-size", "+1000000000k"], check=True, stdout=subprocess.DEVNULL)


def lookups(top):
    for d in range(SHARED):
        for i in range(OWN):
            os.lstat(f"{top}/usr/d{d}/f{i}")


def lower_rows(contestant, base, place, want):
    for count in want["lowers"]:
        layers = contestants.Layers(base / f"lowers{count}", [f"l{i}" for i in range(count)],
                                    flat(base, count))
        # The first mount of a program also loads it.
        with Mounted(contestant, layers, place / f"warm{count}"):
            pass
        with Mounted(contestant, layers, place / f"lowers{count}") as mounted:
            yield "scale", f"mount to ready, {count} lowers", mounted.took
            if mounted.pid:
                yield "memory", f"resident idle, {count} lowers", resident(mounted.pid)
            each = SHARED * OWN
            yield "scale", f"lstat first, {count} lowers", nanoseconds(
                lambda: lookups(mounted.path)) / each
            yield "scale", f"lstat again, {count} lowers", nanoseconds(
                lambda: lookups(mounted.path)) / each
            if mounted.pid:
                yield "memory", f"descriptors, {count} lowers", descriptors(mounted.pid)


def wide_rows(contestant, base, place, want):
    for count in want["wide"]:
        layers = contestants.Layers.one(base / f"wide{count}")
        with Mounted(contestant, layers, place / f"wide{count}") as mounted:
            wide = mounted.path / "wide"
            for when in ("first", "again"):
                yield "scale", f"readdir {when}, {count} entries", nanoseconds(
                    lambda: [None for _ in os.scandir(wide)]) / count
            yield "scale", f"ls -l, {count} entries", nanoseconds(
                lambda: stat_all(wide)) / count
            if mounted.pid:
                yield "memory", f"resident, {count} entries", resident(mounted.pid)


def tree_rows(contestant, base, place, want):
    count = want["tree"]
    with Mounted(contestant, contestants.Layers.one(base / "deep"), place / "deep") as mounted:
        idle = resident(mounted.pid) if mounted.pid else 0
        for when in ("first", "again"):
            yield "scale", f"walk {when}, {count} files", nanoseconds(
                lambda: stat_all(mounted.path)) / count
        if mounted.pid:
            walked = resident(mounted.pid)
            yield "memory", f"resident, {count} files walked", walked
            yield "memory", "resident a file walked", (walked - idle) / count
            yield "memory", f"descriptors, {count} files walked", descriptors(mounted.pid)


def client_rows(contestant, binaries, base, place, want):
    for count in want["clients"]:
        with Mounted(contestant, contestants.Layers.one(base / "lowers1/l0"),
                     place / f"clients{count}", only_read=False) as mounted:
            said = contestants.call(binaries / "bench-micro", "clients", mounted.path,
                                    "--processes", count, "--files", want["client_files"])
            for line in said.splitlines():
                row, operations, spent = line.split("\t")
                yield "scale", f"{row}, {count} clients", int(spent) / int(operations)


def rows(contestant, binaries, base, place, quick):
    """Group, row and figure; a figure that is text says why there is none."""
    want = sizes(quick)
    for part in (lower_rows(contestant, base, place, want),
                 wide_rows(contestant, base, place, want),
                 tree_rows(contestant, base, place, want),
                 client_rows(contestant, binaries, base, place, want)):
        try:
            yield from part
        except (contestants.Missing, OSError, subprocess.SubprocessError) as why:
            yield "scale", part.__name__.replace("_", " "), str(why)
