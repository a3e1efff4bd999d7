"""Mounting layers with the filesystem under test, or with one that it is compared to."""

import dataclasses
import json
import os
import pathlib
import subprocess
import time


class Failure(Exception):
    """One line for the person who runs the test: the thing, and what was seen."""


def call(arguments, timeout=120, **options):
    try:
        result = subprocess.run([str(a) for a in arguments], timeout=timeout, text=True,
                                capture_output=True, stdin=subprocess.DEVNULL, **options)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{' '.join(map(str, arguments))}: no answer in {timeout} s") from error
    if result.returncode != 0:
        raise Failure(f"{' '.join(map(str, arguments))}: exit {result.returncode}: "
                      f"{(result.stdout + result.stderr).strip()}")
    return result.stdout


# Binds the directory $1 to itself so that reading it sets no times of access.
WITHOUT_ACCESS_TIMES = 'mount --bind "$1" "$1"; mount -o remount,bind,noatime "$1"; '


def is_mounted(path: pathlib.Path) -> bool:
    with open("/proc/self/mountinfo") as mounts:
        return any(line.split()[4] == str(path) for line in mounts)


@dataclasses.dataclass(frozen=True)
class Promises:
    """What the steps may rely on, and the comparisons, too."""

    # rename(2) of a lower directory; otherwise it may be EXDEV.
    directory_rename: bool = True
    # The names of a lower file stay one file when one of them is written.
    hard_links: bool = True
    # A descriptor from before the copy-up sees what is written after it.
    reader_sees_copy_up: bool = True
    # st_ino is the same after a remount.
    stable_inodes: bool = True


LAYERFS = Promises()
OVERLAY = Promises(reader_sees_copy_up=False)
# Without privilege overlayfs has neither redirects nor an index.
OVERLAY_IN_USER_NAMESPACE = Promises(False, False, False, False)
FUSE_OVERLAYFS = Promises(False, False, False, False)


class Filesystem:
    def __init__(self, binaries: pathlib.Path, options: list[str], in_user_namespace: bool):
        self.binaries = binaries
        self.options = options
        self.in_user_namespace = in_user_namespace

    def mount(self, layers, upper, work, target):
        """Without `upper` (None), read-only."""
        raise NotImplementedError

    def unmount(self, target):
        call(["umount", target])

    def check(self, target):
        """Whatever else the filesystem says of itself while it is mounted."""

    def abandon(self, target):
        """After a failure: leaves nothing mounted, however broken it is."""
        subprocess.run(["umount", "--lazy", str(target)], stderr=subprocess.DEVNULL, check=False)


class Plain(Filesystem):
    """The reference. The only layer is a directory, which is moved to the mount point: a
    user without privilege cannot bind it there."""

    def mount(self, layers, upper, work, target):
        target.rmdir()
        layers[0].rename(target)
        self.origin = layers[0]

    def unmount(self, target):
        target.rename(self.origin)
        target.mkdir()


def directories(layers, upper, work):
    """As overlayfs and fuse-overlayfs take them."""
    where = [f"lowerdir={':'.join(map(str, layers))}"]
    if upper is not None:
        os.makedirs(work, exist_ok=True)
        where += [f"upperdir={upper}", f"workdir={work}"]
    return where


class Overlay(Filesystem):
    def mount(self, layers, upper, work, target):
        if self.options:
            features = self.options
        elif self.in_user_namespace:
            features = ["userxattr"]
        else:
            features = ["redirect_dir=on", "metacopy=on", "index=on", "xino=on"]
        call(["mount", "-t", "overlay", "overlay",
              "-o", ",".join(directories(layers, upper, work) + features), target])


class FuseOverlayfs(Filesystem):
    def mount(self, layers, upper, work, target):
        # It sets times of access in its layers; they are shared with other tests.
        for layer in layers:
            if not is_mounted(layer):
                call(["sh", "-euc", WITHOUT_ACCESS_TIMES, "sh", layer])
        call(["fuse-overlayfs", "-o", ",".join(directories(layers, upper, work) + self.options),
              target])


class Layerfs(Filesystem):
    pid = None

    def mount(self, layers, upper, work, target):
        del work  # its default place is part of what is tried
        call([self.binaries / "layerfs", "mount", *self.options,
              ":".join(map(str, layers)), *([upper] if upper else []), target])
        if not is_mounted(target):
            raise Failure(f"layerfs mount returned 0 without {target} being mounted")
        self.pid = self.stats(target)["pid"]

    def stats(self, target):
        return json.loads(call([self.binaries / "layerfs", "stats", "--json", target]))

    def check(self, target):
        stats = self.stats(target)
        if "--io" in self.options:
            wanted = self.options[self.options.index("--io") + 1]
            if stats["io"] != wanted:
                raise Failure(f"layerfs stats: io is {stats['io']}, asked for {wanted}")
        call([self.binaries / "layerfs", "which", target / "usr/bin/python3"])

    def unmount(self, target):
        call([self.binaries / "layerfs", "umount", target])
        if is_mounted(target):
            raise Failure(f"layerfs umount returned 0 with {target} still mounted")
        if self.is_daemon_alive():
            raise Failure(f"layerfs umount returned 0 with the daemon, pid {self.pid}, alive")

    def is_daemon_alive(self):
        try:
            state = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state != "Z"

    def abandon(self, target):
        super().abandon(target)
        if self.pid is None:
            return
        for number in (15, 9):
            if self.is_daemon_alive():
                try:
                    os.kill(self.pid, number)
                except (ProcessLookupError, PermissionError):
                    return
                time.sleep(2)


class LayerfsByUser(Layerfs):
    """Mounted by fusermount3, without a user namespace of its own."""

    def check(self, target):
        super().check(target)
        with open("/proc/self/mountinfo") as mounts:
            line = next(line for line in mounts if line.split()[4] == str(target))
        for word in ("nosuid", "nodev", f"user_id={os.getuid()}"):
            if word not in line:
                raise Failure(f"mounted by fusermount3, but without {word}: {line.strip()}")

    def abandon(self, target):
        subprocess.run(["fusermount3", "-uz", str(target)], stderr=subprocess.DEVNULL, check=False)
        super().abandon(target)


KINDS = {
    "plain": Plain,
    "overlay": Overlay,
    "fuse-overlayfs": FuseOverlayfs,
    "layerfs": Layerfs,
    "layerfs-by-user": LayerfsByUser,
}
