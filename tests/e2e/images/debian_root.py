"""A Debian root, changed by apt-get and by hand."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess

from readers import compare_all_readers, expect_equal, unpacked
from skip import Skip
from trees import make_changes, make_lower

ROOT = pathlib.Path(os.environ.get("LAYERFS_E2E_DIR", "/var/tmp/layerfs-e2e")) / "root/root"
LAYERS = ("layer3", "layer2", "layer1")  # top first

# Of the steps of tests/e2e/debian, what leaves every kind of change behind.
BY_APT = """
export DEBIAN_FRONTEND=noninteractive
apt-get -q -y --no-download --no-install-recommends install iputils-ping cron tree
apt-get -q -y purge tree
apt-get -q -y --no-download --reinstall install sensible-utils
useradd --create-home someone
su someone -c 'echo mine >~/file'
"""


@contextlib.contextmanager
def layers_without_atime(work):
    """The shared root's layers: other tests look at their times of access."""
    shown = work / "root"
    shown.mkdir()
    subprocess.run(["mount", "--bind", ROOT, shown], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro,noatime", shown], check=True)
        yield [shown / name for name in LAYERS]
    finally:
        subprocess.run(["umount", shown], check=True)


def change_by_apt(tools, point):
    script = (f"mount -t proc proc {point}/proc; mount --rbind /dev {point}/dev; mount -t tmpfs tmpfs {point}/tmp; "
              f"exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot {point} sh -eux -c '{BY_APT.replace(chr(39), chr(34))}'")
    tools.run("unshare", "--mount", "sh", "-euc", script, timeout=300)


def change_by_hand(point):
    make_changes(point / "srv/kinds")
    os.rename(point / "usr/share/perl5", point / "usr/share/perl5-moved")
    shutil.rmtree(point / "usr/share/zoneinfo")
    (point / "usr/share/zoneinfo").mkdir()
    (point / "usr/share/zoneinfo/UTC").write_text("again\n")
    for folder, _, files in os.walk(point / "usr/lib/apt"):
        for name in files:
            os.chown(os.path.join(folder, name), 7, 8, follow_symlinks=False)
    os.unlink(point / "etc/motd") if (point / "etc/motd").exists() else os.unlink(point / "etc/issue")


def need_root():
    if not all((ROOT / name).is_dir() for name in LAYERS):
        raise Skip("there is no Debian root; the test 'a root and its reference' makes it")


def debian(tools):
    """A Debian root that apt-get and hands have changed, as every program unpacks it."""
    tools.need("umoci", "skopeo", "podman", "buildah")
    need_root()
    work = tools.work
    kinds, upper = work / "kinds", work / "upper"
    (kinds / "srv").mkdir(parents=True)
    make_lower(kinds / "srv/kinds")
    upper.mkdir()
    with layers_without_atime(work) as layers:
        stack = ":".join(str(layer) for layer in [kinds, *layers])
        with tools.mounted(stack, upper) as point:
            change_by_apt(tools, point)
            change_by_hand(point)
            expected = tools.manifest(point)
            changes = [json.loads(line) for line in tools.layerfs("diff", "--json", point).stdout.splitlines()]
            # The base as one layer: the engines' vfs copies the whole for each.
            tools.layerfs("commit", kinds, "--lower", ":".join(str(layer) for layer in layers), "--squash",
                          "--compression", "gzip:1", "--oci", work / "layout:base", timeout=300)
            tools.layerfs("commit", point, "--base", f"oci:{work / 'layout'}:base", "--strict",
                          "--oci", work / "layout:debian", timeout=300)
    compare_all_readers(tools, expected, work / "layout", "debian")
    compare_with_podman_diff(tools, changes)


def compare_with_podman_diff(tools, changes):
    """`changes`: what layerfs diff says of the mount."""
    work = tools.work
    tools.skopeo("copy", f"oci:{work / 'layout'}:base", f"docker-archive:{work / 'base.tar'}:localhost/base:1")
    tools.containers("podman", "load", "-i", work / "base.tar", driver="layerfs")
    theirs = tools.containers("podman", "diff", "localhost/debian:1", "localhost/base:1", driver="layerfs").stdout
    theirs = set(theirs.splitlines())
    # It does not look at the times of directories: in some something came and went.
    ours = {f"{change['change'][0].upper()} {change['path']}" for change in changes}
    only_times = {f"C {change['path']}" for change in changes
                  if change["type"] == "directory" and change.get("what") == ["time"]}
    expect_equal(sorted(theirs), sorted(ours - (only_times - theirs)), "podman diff")


def debian_by_others(tools):
    """A Debian root that buildah and umoci have made an image of unpacks to the tree that umoci unpacks."""
    tools.need("umoci", "buildah")
    need_root()
    work = tools.work
    layout = work / "layout"
    container = tools.containers("buildah", "from", "scratch").stdout.strip()
    mount = pathlib.Path(tools.containers("buildah", "mount", container).stdout.strip())
    with layers_without_atime(work) as layers:
        with tools.mounted(":".join(str(layer) for layer in layers)) as tree:
            tools.run("cp", "-a", f"{tree}/.", mount)
    make_lower(mount / "srv/kinds")
    tools.containers("buildah", "commit", container, f"oci:{layout}:one")
    change_by_apt(tools, mount)
    change_by_hand(mount)
    tools.containers("buildah", "commit", container, f"oci:{layout}:two")
    tools.run("umoci", "unpack", "--image", f"{layout}:one", work / "bundle")
    change_by_apt(tools, work / "bundle/rootfs")
    tools.run("umoci", "repack", "--image", f"{layout}:three", work / "bundle")
    for tag in "one", "two", "three":
        reference = work / f"reference-{tag}"
        tools.run("umoci", "unpack", "--image", f"{layout}:{tag}", reference)
        with tools.mounted(unpacked(tools, f"oci:{layout}:{tag}", work / "store")) as tree:
            expect_equal(tools.manifest(reference / "rootfs"), tools.manifest(tree), f"image {tag}")
        shutil.rmtree(reference)
