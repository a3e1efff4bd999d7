"""How much memory commit and unpack take at most."""

import os
import pathlib
import stat
import subprocess

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


# What is made, over what.
TREES = {files: None, folders: None, deletions: files, links: None, one_folder: None,
         one_folder_of_deletions: one_folder, far_links: None}
LIMIT = 24


def memory(tools):
    """However many entries there are, commit, unpack and squash hold few in memory."""
    if tools.run("grep", "-q", "__asan_init", tools.binaries / "layerfs", check=False).returncode == 0:
        raise Skip("a sanitizer takes memory of its own")
    compressed(tools)
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
    """Each compression of much data, by as many threads as it ever takes by itself."""
    (tools.work / "noise").mkdir()
    (tools.work / "nothing").mkdir()
    with open(tools.work / "noise" / "file", "wb") as file:
        for _ in range(100):  # all at once would count as the programs' memory
            file.write(os.urandom(MIB))
    for codec in "gzip", "zstd", "none":
        size = peak(tools, "commit", tools.work / "noise", "--lower", tools.work / "nothing", "-o",
                    tools.work / "noise.tar", "--compression", codec, "--threads", "12")
        print(f"{codec}: {size / MIB:.0f} MiB")
        if size > 64 * MIB:
            raise RuntimeError(f"{codec}: more than 64 MiB")


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
            "squash": peak(tools, "squash", f"{tree}:{below}", work / "squashed")}


def peak(tools, *words):
    child = subprocess.Popen([tools.binaries / "layerfs", *words], env=tools.env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        raise RuntimeError(f"layerfs {' '.join(str(word) for word in words)}: status {status}")
    return usage.ru_maxrss * 1024
