"""Filesystems to have layers on, each made in a file of the test's own folder."""

import contextlib
import os
import pathlib
import shutil
import subprocess

from work import LONGEST

SIZE = 400 << 20


class Skip(Exception):
    """What the machine lacks."""


def call(*words, timeout=120):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: exit {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def known_to_the_kernel(kind):
    with open("/proc/filesystems") as known:
        if kind in (line.split()[-1] for line in known):
            return
    if not shutil.which("modprobe") or subprocess.run(["modprobe", "-q", kind], check=False).returncode != 0:
        raise Skip(f"this kernel has no {kind}")


def need(kind, program=None):
    known_to_the_kernel(kind)
    if program and not shutil.which(program):
        raise Skip(f"{program} is not installed")


MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}


@contextlib.contextmanager
def mounted(*words):
    """`words`: of mount(8), the mount point last."""
    pathlib.Path(words[-1]).mkdir(exist_ok=True)
    call("mount", *words)
    try:
        yield pathlib.Path(words[-1])
    finally:
        call("umount", words[-1])


@contextlib.contextmanager
def on_disk(kind, folder):
    need(kind, MAKE[kind][0])
    image = folder / f"{kind}.img"
    with open(image, "wb") as file:
        file.truncate(SIZE)
    call(*MAKE[kind], image)
    with mounted("-o", "loop", image, folder / kind) as place:
        yield place
    image.unlink()


@contextlib.contextmanager
def in_memory(kind, folder):
    need(kind)
    with mounted("-t", kind, kind, folder / kind) as place:
        yield place


@contextlib.contextmanager
def on_layerfs(kind, folder):
    """A writable mount of one empty lower."""
    for name in "lower", "upper", "m":
        (folder / kind / name).mkdir(parents=True)
    call("layerfs", "mount", folder / kind / "lower", folder / kind / "upper", folder / kind / "m")
    try:
        yield folder / kind / "m"
    finally:
        call("layerfs", "umount", folder / kind / "m")


@contextlib.contextmanager
def on_overlay(kind, folder):
    need("overlay")
    for name in "lower", "upper", "work", "m":
        (folder / kind / name).mkdir(parents=True)
    where = ",".join(f"{name}dir={folder / kind / name}" for name in ("lower", "upper", "work"))
    with mounted("-t", "overlay", "-o", where, "overlay", folder / kind / "m") as place:
        yield place


# Of each, a directory to write to. ramfs stores no attributes.
WRITABLE = {"ext4": on_disk, "xfs": on_disk, "btrfs": on_disk, "tmpfs": in_memory, "ramfs": in_memory, "layerfs": on_layerfs,
            "overlay": on_overlay}


@contextlib.contextmanager
def squashfs(source, folder):
    need("squashfs", "mksquashfs")
    call("mksquashfs", source, folder / "image", "-quiet", "-no-progress", "-xattrs")
    with mounted("-t", "squashfs", "-o", "loop", folder / "image", folder / "squashfs") as place:
        yield place


@contextlib.contextmanager
def erofs(source, folder):
    need("erofs", "mkfs.erofs")
    # It fails at a name of 255 bytes (version 1.5).
    call("mkfs.erofs", "--quiet", f"--exclude-path={'n' * LONGEST}", folder / "image", source)
    with mounted("-t", "erofs", "-o", "loop", folder / "image", folder / "erofs") as place:
        yield place


@contextlib.contextmanager
def layerfs_of_lowers(source, folder):
    """A read-only mount."""
    place = folder / "m"
    place.mkdir()
    call("layerfs", "mount", source, place)
    try:
        yield place
    finally:
        call("layerfs", "umount", place)


@contextlib.contextmanager
def overlay_of_lowers(source, folder):
    need("overlay")
    (folder / "empty").mkdir()
    with mounted("-t", "overlay", "-o", f"lowerdir={folder / 'empty'}:{source}", "overlay", folder / "m") as place:
        yield place


@contextlib.contextmanager
def copied(kind, source, folder):
    with WRITABLE[kind](kind, folder) as place:
        tree = place / "tree"
        done = subprocess.run(["cp", "-a", source, tree], capture_output=True, text=True, check=False)
        if done.returncode != 0 and kind != "ramfs":
            raise RuntimeError(done.stderr)
        yield tree


def reader(kind):
    return lambda source, folder: copied(kind, source, folder)


# Of each, a directory that shows what `source` has.
READABLE = {kind: reader(kind) for kind in ("ext4", "xfs", "btrfs", "tmpfs", "ramfs")} | {
    "squashfs": squashfs, "erofs": erofs, "layerfs": layerfs_of_lowers, "overlay": overlay_of_lowers}


def holds_attributes(place, name):
    try:
        os.setxattr(place, name, b"v")
        os.removexattr(place, name)
    except OSError:
        return False
    return True
