"""How much memory commit and unpack take at most."""

import os
import pathlib
import stat
import subprocess
import tarfile

from skip import Skip

ENTRIES = 100_000
# Enough that what holds the names of one directory, or of all linked files, exceeds the limit.
MANY = 200_000
MIB = 1 << 20


def in_folders(root: pathlib.Path, count=ENTRIES):
    for number in range(count):
        folder = root / f"d{number // 1000}"
        if number % 1000 == 0:
            folder.mkdir()
        yield number, folder / f"the-name-number-{number}"


def touch(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def files(root):
    for _, path in in_folders(root):
        touch(path)


def one_folder(root):
    for number in range(MANY):
        touch(root / f"the-name-number-{number}")


def one_folder_of_deletions(root):
    for number in range(MANY):
        os.mknod(root / f"the-name-number-{number}", stat.S_IFCHR, 0)


def folders(root):
    for _, path in in_folders(root):
        path.mkdir()


def deletions(root):
    for _, path in in_folders(root):
        os.mknod(path, stat.S_IFCHR, 0)


def links(root):
    """Five names of each file, one after the other."""
    for number, path in in_folders(root):
        if number % 5 == 0:
            first = path
            touch(path)
        else:
            os.link(first, path)


def far_links(root):
    """Five names of each file, with all other files between them."""
    paths = [path for _, path in in_folders(root, MANY)]
    count = MANY // 5
    for number, path in enumerate(paths):
        if number < count:
            touch(path)
        else:
            os.link(paths[number % count], path)


def sockets(root):
    """What no layer can carry."""
    for number in range(MANY):
        os.mknod(root / f"the-name-number-{number}", stat.S_IFSOCK | 0o600)


# What is made, over what.
TREES = {files: None, folders: None, deletions: files, links: None, one_folder: None,
         one_folder_of_deletions: one_folder, far_links: None, sockets: None}
LIMIT = 24


def memory(tools):
    """However many entries there are, commit, unpack and squash hold few in memory."""
    if tools.run("grep", "-q", "__asan_init", tools.binaries / "layerfs", check=False).returncode == 0:
        raise Skip("a sanitizer takes memory of its own")
    compressed(tools)
    without_directories(tools)
    work = tools.work / "ram"
    work.mkdir()
    for make in TREES:
        tools.run("mount", "-t", "tmpfs", "tmpfs", work)
        try:
            peaks = peaks_of(tools, work, make)
        finally:
            tools.run("umount", work)
        print(f"{make.__name__}: " + ", ".join(f"{name} {size / MIB:.0f} MiB" for name, size in peaks.items()))
        if max(peaks.values()) > LIMIT * MIB:
            raise RuntimeError(f"{make.__name__}: more than {LIMIT} MiB")


def compressed(tools):
    """Each compression of much data, by more threads than any machine has processors."""
    (tools.work / "nothing").mkdir()
    for codec, size in COMPRESSIONS.items():
        noise = tools.work / f"noise{size}"
        if not noise.exists():
            noise.mkdir()
            with open(noise / "file", "wb") as file:
                for _ in range(size):  # all at once would count as the programs' memory
                    file.write(os.urandom(MIB))
        layer = tools.work / "noise.tar"
        taken = {"commit": peak(tools, "commit", noise, "--lower", tools.work / "nothing", "-o", layer,
                                "--compression", codec, "--threads", "256"),
                 "unpack": peak(tools, "unpack", layer, tools.work / "noise-store", "--volatile")}
        print(f"{codec}: " + ", ".join(f"{name} {size / MIB:.0f} MiB" for name, size in taken.items()))
        if max(taken.values()) > 64 * MIB:
            raise RuntimeError(f"{codec}: more than 64 MiB")


# MiB that are compressed: more than the windows of the slow ones.
COMPRESSIONS = {"gzip": 100, "gzip:9": 100, "none": 100, "zstd": 100} | {
    f"zstd:{level}": 24 for level in (1, 4, 6, 8, 9, 12, 13, 19)}


def without_directories(tools):
    """A layer that names no directory that it has files in."""
    layer = tools.work / "implied.tar"
    if os.fork() == 0:
        with tarfile.open(layer, "w") as tar:
            for number in range(MANY // 4):
                tar.addfile(tarfile.TarInfo(f"the-directory-number-{number}/in/it/f"))
        os._exit(0)
    if os.wait()[1] != 0:
        raise RuntimeError("cannot make the layer")
    size = peak(tools, "unpack", layer, tools.work / "implied-store", "--volatile")
    print(f"directories without entries: {size / MIB:.0f} MiB")
    if size > LIMIT * MIB:
        raise RuntimeError(f"directories without entries: more than {LIMIT} MiB")


def peaks_of(tools, work, make):
    makers = [make] if TREES[make] is None else [TREES[make], make]
    (work / "empty").mkdir()
    for maker in makers:
        (work / maker.__name__).mkdir()
        # The list of far_links would count as the programs' memory.
        if os.fork() == 0:
            maker(work / maker.__name__)
            os._exit(0)
        if os.wait()[1] != 0:
            raise RuntimeError(f"cannot make {maker.__name__}")
    tree, below = work / make.__name__, work / (TREES[make].__name__ if TREES[make] else "empty")
    return {"commit": peak(tools, "commit", tree, "--lower", below, "-o", work / "layer.tar"),
            "unpack": peak(tools, "unpack", work / "layer.tar", work / "store", "--volatile"),
            "squash": peak(tools, "squash", f"{tree}:{below}", work / "squashed"),
            "convert": peak(tools, "convert", "--whiteout", "oci", work / "squashed")}


def peak(tools, *words):
    log = tools.work / "peak.log"
    with open(log, "w") as err:
        child = subprocess.Popen([tools.binaries / "layerfs", *words], env=tools.env, stdout=subprocess.DEVNULL, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        raise RuntimeError(f"layerfs {' '.join(str(word) for word in words)}: status {status}\n{log.read_text()[-2000:]}")
    return usage.ru_maxrss * 1024
