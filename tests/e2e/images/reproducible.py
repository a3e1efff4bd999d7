"""The same bytes whenever and wherever a layer is made."""

import contextlib
import datetime
import hashlib
import json
import os
import shutil
import tarfile

from readers import expect_equal, unpacked
from skip import Skip
from trees import make_changes, make_lower, put

EPOCH = 1_300_000_000
TARGETS = {"-o": "l.tar.gz", "--oci-archive": "a.tar:t", "--docker-archive": "d.tar:localhost/t:1"}


def source_date_epoch(tools):
    """SOURCE_DATE_EPOCH caps times as GNU tar --clamp-mtime does: what is made is the same at any later time."""
    work = tools.work
    lower, upper = work / "lower", work / "upper"
    make_lower(lower)
    kept = {"older": (EPOCH - 1) * 10**9 + 5, "equal": EPOCH * 10**9, "ancient": -1_500_000_000}
    files = []
    for later in EPOCH * 10**9 + 1, (EPOCH + 1) * 10**9, 2_000_000_000 * 10**9:
        for name, time in kept.items():
            put(upper / "d" / name, name, time_ns=time)
        put(upper / "d/later", "later", time_ns=later)
        for name in "d", "":
            os.utime(upper / name, ns=(later, later))
        files.append({})
        for option, target in TARGETS.items():
            tools.layerfs("commit", upper, "--lower", lower, option, work / target, SOURCE_DATE_EPOCH=str(EPOCH))
            name = target.split(":")[0]
            files[-1][name] = hashlib.sha256((work / name).read_bytes()).hexdigest()
    if any(one != files[0] for one in files):
        raise RuntimeError(f"what is made depends on the times behind SOURCE_DATE_EPOCH: {files}")
    with tarfile.open(work / "l.tar.gz") as layer:
        times = {entry.name: entry.pax_headers.get("mtime", str(int(entry.mtime))) for entry in layer}
    by_tar = {"d": str(EPOCH), "d/ancient": "-1.5", "d/equal": str(EPOCH), "d/later": str(EPOCH),
              "d/older": f"{EPOCH - 1}.000000005"}
    if times != by_tar:
        raise RuntimeError(f"times {times}, not {by_tar}")
    tools.layerfs("commit", upper, "--lower", lower, "--oci", work / "layout:t", SOURCE_DATE_EPOCH=str(EPOCH))
    config = config_of(work / "layout")
    date = datetime.datetime.fromtimestamp(EPOCH, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    dates = {config["created"], *(step["created"] for step in config["history"])}
    if dates != {date}:
        raise RuntimeError(f"the image is of {dates}, not {date}")
    for wrong in "soon", "-1", "1.5":
        done = tools.layerfs("commit", upper, "--lower", lower, "-o", work / "x.tar", check=False, SOURCE_DATE_EPOCH=wrong)
        if done.returncode != 1 or "SOURCE_DATE_EPOCH" not in done.stderr or (work / "x.tar").exists():
            raise RuntimeError(f"SOURCE_DATE_EPOCH={wrong}: exit {done.returncode}, {done.stderr}")
    print("ok: three times, one image")


def config_of(layout):
    def blob(digest):
        return json.loads((layout / "blobs/sha256" / digest.split(":")[1]).read_text())

    manifest = blob(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    return blob(manifest["config"]["digest"])


FILESYSTEMS = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}


@contextlib.contextmanager
def filesystem(tools, kind):
    place = tools.work / kind
    place.mkdir()
    if kind == "tmpfs":
        tools.run("mount", "-t", "tmpfs", "tmpfs", place)
    else:
        image = tools.work / f"{kind}.img"
        with open(image, "wb") as file:
            file.truncate(512 << 20)
        tools.run(*FILESYSTEMS[kind], image)
        tools.run("mount", "-o", "loop", image, place)
    try:
        yield place
    finally:
        tools.run("umount", place)


def same_on_all_filesystems(tools):
    """The same changes made on ext4, xfs, btrfs and tmpfs are the same layer, byte by byte."""
    kinds = ["tmpfs", *(kind for kind, words in FILESYSTEMS.items() if shutil.which(words[0]))]
    if len(kinds) < 2:
        raise Skip(f"none of {', '.join(words[0] for words in FILESYSTEMS.values())} is installed")
    digests = {}
    for kind in kinds:
        with filesystem(tools, kind) as place:
            make_lower(place / "lower")
            (place / "upper").mkdir()
            # More names than one block of a directory has, in the filesystem's own order.
            for number in range(500):
                put(place / "lower/many" / f"{number * 7919 % 500}", str(number))
            with tools.mounted(place / "lower", place / "upper") as point:
                make_changes(point)
                for number in range(0, 500, 3):
                    os.unlink(point / "many" / str(number))
                # The times of the changes themselves.
                live = layer_of(tools, place, point)
                expected = tools.manifest(point)
            offline = layer_of(tools, place, place / "upper", "--lower", place / "lower")
            digests[kind] = live, offline
            # A copy has other inodes, and links where the upper has names of an index.
            tools.layerfs("commit", place / "lower", "--squash", "--oci", place / "layout:base")
            tools.layerfs("commit", place / "upper", "--lower", place / "lower", "--base", f"oci:{place / 'layout'}:base",
                          "--oci", place / "layout:top")
            with tools.mounted(unpacked(tools, f"oci:{place / 'layout'}:top", place / "store")) as tree:
                expect_equal(expected, tools.manifest(tree), f"unpacked on {kind}")
        print(f"{kind}: {live}")
    if len({digest for pair in digests.values() for digest in pair}) != 1:
        raise RuntimeError(f"the layers differ: {digests}")
    print(f"ok: the same layer on {', '.join(kinds)}")


def layer_of(tools, place, *what):
    tools.layerfs("commit", *what, "-o", place / "l.tar.gz", SOURCE_DATE_EPOCH=str(EPOCH))
    return hashlib.sha256((place / "l.tar.gz").read_bytes()).hexdigest()
