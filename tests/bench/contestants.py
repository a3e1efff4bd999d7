"""The filesystems that are compared: how each shows the same lower layers under an upper."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import time


class Missing(Exception):
    """Why a contestant, or a row, cannot run here."""


def call(*arguments, **options):
    result = subprocess.run([str(a) for a in arguments], text=True, capture_output=True,
                            stdin=subprocess.DEVNULL, check=False, **options)
    if result.returncode != 0:
        said = (result.stderr or result.stdout).strip().splitlines()
        command = " ".join(map(str, arguments))
        raise Missing(f"{command[:200]}: {said[-1] if said else f'exit {result.returncode}'}")
    return result.stdout


def is_mounted(path):
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        return any(line.split()[4] == str(path) for line in mounts)


@dataclasses.dataclass
class Layers:
    """Lowers, topmost first, all in the directory `where`; `flat` is what they show merged."""

    where: pathlib.Path
    names: list[str]
    flat: pathlib.Path

    @staticmethod
    def one(lower: pathlib.Path):
        return Layers(lower.parent, [lower.name], lower)

    def joined(self, suffix=""):
        # Relative: 500 whole paths do not fit into the page that mount(2) takes.
        return ":".join(name + suffix for name in self.names)

    def paths(self):
        return [self.where / name for name in self.names]


class Contestant:
    """Shows layers at `place/m`; whatever it writes is below `place`."""

    def __init__(self, name):
        self.name = name

    def check(self):
        """Raises Missing where it cannot run."""

    def mount(self, layers: Layers, place: pathlib.Path, only_read=False) -> pathlib.Path:
        for part in ("u", "w", "m"):
            (place / part).mkdir(parents=True)
        self.start(layers, place, only_read)
        return place / "m"

    def start(self, layers, place, only_read):
        raise NotImplementedError

    def unmount(self, place):
        # A daemon may be about to close what it was asked to release.
        for _ in range(50):
            if subprocess.run(["umount", place / "m"], stderr=subprocess.DEVNULL,
                              check=False).returncode == 0:
                return
            time.sleep(0.1)
        call("umount", "--lazy", place / "m")

    def requests(self, _place) -> int | None:
        """FUSE requests so far, where the contestant counts them."""
        return None

    def daemon(self, place) -> int | None:
        """The process that serves the mount, if there is one."""
        for directory in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (directory / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(place / "m") in words:
                return int(directory.name)
        return None


class Plain(Contestant):
    """A copy of what the layers show, without any union; themselves if they are only read."""

    def start(self, layers, place, only_read):
        if only_read:
            call("mount", "--bind", layers.flat, place / "m")
        else:
            call("cp", "-a", f"{layers.flat}/.", place / "m")

    def unmount(self, place):
        if is_mounted(place / "m"):
            super().unmount(place)

    def daemon(self, place):
        return None


class Overlay(Contestant):
    def start(self, layers, place, only_read):
        call("mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir={layers.joined()},upperdir={place}/u,workdir={place}/w,"
             "redirect_dir=on,metacopy=on,index=on", place / "m", cwd=layers.where)

    def daemon(self, place):
        return None


class FuseOverlayfs(Contestant):
    def __init__(self, name, program):
        super().__init__(name)
        self.program = program

    def check(self):
        if shutil.which(self.program) is None:
            raise Missing(f"{self.program} is not installed")

    def start(self, layers, place, only_read):
        call(self.program, "-o",
             f"lowerdir={layers.joined()},upperdir={place}/u,workdir={place}/w",
             place / "m", cwd=layers.where)


class UnionfsFuse(Contestant):
    def check(self):
        if shutil.which("unionfs") is None:
            raise Missing("unionfs is not installed: apt-get install unionfs-fuse")

    def start(self, layers, place, only_read):
        call("unionfs", "-o", "cow,allow_other,dev,suid,use_ino",
             f"{place}/u=RW:{layers.joined('=RO')}", place / "m", cwd=layers.where)


class Layerfs(Contestant):
    def __init__(self, name, binaries, *options):
        super().__init__(name)
        self.program = binaries / "layerfs"
        self.options = options

    def start(self, layers, place, only_read):
        call(self.program, "mount", *self.options, "--layers", ":".join(map(str, layers.paths())),
             place / "u", place / "m")

    def unmount(self, place):
        call(self.program, "umount", place / "m")

    def stats(self, place):
        return json.loads(call(self.program, "stats", "--json", place / "m"))

    def requests(self, place):
        return sum(kind["count"] for name, kind in self.stats(place)["requests"].items()
                   if "FORGET" not in name)

    def daemon(self, place):
        return self.stats(place)["pid"]


class LayerfsOverIoUring(Layerfs):
    def check(self):
        switch = pathlib.Path("/sys/module/fuse/parameters/enable_uring")
        if not switch.exists() or switch.read_text().strip() != "Y":
            raise Missing(f"{switch} is not Y")
        if "io_uring" not in call(self.program, "mount", "--help"):
            raise Missing("this layerfs knows no transport but /dev/fuse")


def all_contestants(binaries: pathlib.Path):
    """In the order of the table; the first is what plots are scaled by."""
    return [
        Plain("plain"),
        Overlay("overlayfs"),
        FuseOverlayfs("fuse-overlayfs", "fuse-overlayfs"),
        UnionfsFuse("unionfs-fuse"),
        Layerfs("layerfs cached", binaries, "--io", "cached"),
        Layerfs("layerfs passthrough", binaries, "--io", "passthrough"),
        LayerfsOverIoUring("layerfs io_uring", binaries, "--transport", "io_uring"),
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
