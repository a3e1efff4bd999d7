"""The filesystems that are compared: how each shows the same lower layer under an upper."""

import json
import os
import pathlib
import shutil
import subprocess
import time


class Missing(Exception):
    """Why a contestant cannot run here."""


def call(*arguments):
    result = subprocess.run([str(a) for a in arguments], text=True, capture_output=True,
                            stdin=subprocess.DEVNULL, check=False)
    if result.returncode != 0:
        raise Missing(f"{' '.join(map(str, arguments))}: {(result.stderr or result.stdout).strip()}")
    return result.stdout


def is_mounted(path):
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        return any(line.split()[4] == str(path) for line in mounts)


class Contestant:
    """Shows `lower` at `place/m`; whatever it writes is below `place`."""

    def __init__(self, name):
        self.name = name

    def check(self):
        """Raises Missing where it cannot run."""

    def mount(self, lower: pathlib.Path, place: pathlib.Path) -> pathlib.Path:
        for part in ("u", "w", "m"):
            (place / part).mkdir(parents=True)
        self.start(lower, place)
        return place / "m"

    def start(self, lower, place):
        raise NotImplementedError

    def unmount(self, place):
        call("umount", place / "m")

    def requests(self, _place) -> int | None:
        """FUSE requests so far, where the contestant counts them."""
        return None


class Plain(Contestant):
    """A copy of the lower layer, without any union."""

    def start(self, lower, place):
        call("cp", "-a", f"{lower}/.", place / "m")

    def unmount(self, place):
        pass


class Overlay(Contestant):
    def start(self, lower, place):
        call("mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir={lower},upperdir={place}/u,workdir={place}/w,"
             "redirect_dir=on,metacopy=on,index=on", place / "m")


class FuseOverlayfs(Contestant):
    def __init__(self, name, program):
        super().__init__(name)
        self.program = program

    def check(self):
        if shutil.which(self.program) is None:
            raise Missing(f"{self.program} is not installed")

    def start(self, lower, place):
        call(self.program, "-o", f"lowerdir={lower},upperdir={place}/u,workdir={place}/w",
             place / "m")


class UnionfsFuse(Contestant):
    def check(self):
        if shutil.which("unionfs") is None:
            raise Missing("unionfs (Debian package unionfs-fuse) is not installed")

    def start(self, lower, place):
        call("unionfs", "-o", "cow,allow_other,dev,suid,use_ino", f"{place}/u=RW:{lower}=RO",
             place / "m")


class Layerfs(Contestant):
    def __init__(self, name, binaries, io):
        super().__init__(name)
        self.program = binaries / "layerfs"
        self.io = io

    def start(self, lower, place):
        call(self.program, "mount", "--io", self.io, lower, place / "u", place / "m")

    def unmount(self, place):
        call(self.program, "umount", place / "m")

    def requests(self, place):
        stats = json.loads(call(self.program, "stats", "--json", place / "m"))
        return sum(kind["count"] for name, kind in stats["requests"].items()
                   if "FORGET" not in name)


def all_contestants(binaries: pathlib.Path):
    """In the order of the table; the first is what ratios are taken against elsewhere."""
    return [
        Plain("plain"),
        Overlay("overlayfs"),
        FuseOverlayfs("fuse-overlayfs", "fuse-overlayfs"),
        UnionfsFuse("unionfs-fuse"),
        Layerfs("layerfs cached", binaries, "cached"),
        Layerfs("layerfs passthrough", binaries, "passthrough"),
    ]


def null_round_trip(binaries: pathlib.Path, place: pathlib.Path, count: int) -> float:
    """Nanoseconds of one request that is answered from memory (tests/bench/nullfs.cc)."""
    place.mkdir(parents=True)
    with subprocess.Popen([binaries / "bench-nullfs", place]) as daemon:
        try:
            while not is_mounted(place):
                if daemon.poll() is not None:
                    raise Missing("bench-nullfs does not mount")
                time.sleep(0.01)
            names = [f"{place}/f{i}" for i in range(count)]
            begin = time.perf_counter_ns()
            for name in names:
                os.lstat(name)
            return (time.perf_counter_ns() - begin) / count
        finally:
            subprocess.run(["umount", place], check=False)
            daemon.wait()
