"""What Ctrl-C and SIGKILL leave of long work."""

import os
import signal
import subprocess
import time

from readers import expect_equal, unpacked
from trees import put


def start(tools, *words):
    return subprocess.Popen([tools.binaries / "layerfs", *words], env=tools.env, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def wait_for_io(child, key, amount):
    """Until it ends or has done so much (proc(5), /proc/PID/io)."""
    while child.poll() is None:
        with open(f"/proc/{child.pid}/io", encoding="ascii") as file:
            done = dict(line.split(": ") for line in file)
        if int(done[key]) >= amount:
            return
        time.sleep(0.001)


def interrupted(tools):
    """Ctrl-C and SIGKILL leave no part of an image or a layer under its name."""
    work = tools.work
    lower, upper = work / "lower", work / "upper"
    lower.mkdir()
    upper.mkdir()
    for number in range(40):
        (upper / f"f{number}").write_bytes(os.urandom(4 << 20))
    (work / "out").mkdir()
    targets = {"--oci": "out/layout:t", "--oci-archive": "out/a.tar:t", "--docker-archive": "out/d.tar:x:1", "-o": "out/l.tar.gz"}
    for sign in signal.SIGINT, signal.SIGTERM, signal.SIGKILL:
        for option, target in targets.items():
            child = start(tools, "commit", upper, "--lower", lower, option, work / target)
            wait_for_io(child, "rchar", 20 << 20)
            child.send_signal(sign)
            if child.wait() != -sign:
                raise RuntimeError(f"commit {option} ended with {child.returncode} before signal {sign}")
            left = [name for name in os.listdir(work / "out") if not (sign == signal.SIGKILL and name.startswith(".layerfs-"))]
            if left:
                raise RuntimeError(f"signal {sign} during commit {option} left {left}")
    tools.layerfs("commit", upper, "--lower", lower, "--squash", "--oci", work / "layout:t")
    for sign in signal.SIGINT, signal.SIGKILL:
        child = start(tools, "unpack", f"oci:{work / 'layout'}:t", work / "store")
        while child.poll() is None and not list(work.glob("store/tmp/.layerfs-*/diff")):
            time.sleep(0.01)
        child.send_signal(sign)
        if child.wait() != -sign:
            raise RuntimeError(f"unpack ended with {child.returncode} before signal {sign}")
        left = os.listdir(work / "store/layers") + os.listdir(work / "store/images")
        if left:
            raise RuntimeError(f"signal {sign} during unpack left {left}")
    with tools.mounted(unpacked(tools, f"oci:{work / 'layout'}:t", work / "store")) as tree:
        expect_equal(tools.manifest(upper), tools.manifest(tree), "unpacked after interruptions")
    tools.layerfs("store", "gc", work / "store")
    if os.listdir(work / "store/tmp"):
        raise RuntimeError("gc leaves what was interrupted")


def squash_interrupted(tools):
    """Ctrl-C of a squash leaves nothing, SIGKILL no part of it under its name."""
    work = tools.work
    layers = work / "top", work / "bottom"
    for layer in layers:
        for number in range(3000):
            put(layer / f"d{number % 100}" / f"{layer.name}{number}", os.urandom(20000))
    stack = ":".join(str(layer) for layer in layers)
    out = work / "out"
    out.mkdir()
    for sign in signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL:
        child = start(tools, "squash", stack, out / "layer")
        # Half-way: it has made directories, and not all of them.
        while child.poll() is None and not 10 <= sum(len(os.listdir(out / name)) for name in os.listdir(out)):
            pass
        child.send_signal(sign)
        if child.wait() != -sign:
            raise RuntimeError(f"squash ended with {child.returncode} before signal {sign}")
        left = os.listdir(out)
        if [name for name in left if not (sign == signal.SIGKILL and name.startswith(".layerfs-"))]:
            raise RuntimeError(f"signal {sign} during squash left {left}")
    tools.layerfs("squash", stack, out / "layer")
    with tools.mounted(stack) as before, tools.mounted(out / "layer") as tree:
        expect_equal(tools.manifest(before), tools.manifest(tree), "squashed after interruptions")


def forms_of(layer):
    """Of which forms the whiteouts of the layer are."""
    found = set()
    for _, _, files in os.walk(layer):
        found |= {"oci" if name.startswith(".wh.") else "overlay" for name in files}
    return found


def without_directory_times(tree):
    return [line.split(" mtime=")[0] if "\ttype=d" in line else line for line in tree]


def convert_interrupted(tools):
    """At whatever moment a convert is ended the layer means the same, and the next one completes it."""
    work = tools.work
    lower, layer = work / "lower", work / "layer"
    layer.mkdir()
    for number in range(300):
        for name in range(8):
            put(lower / f"d{number}" / f"f{name}")
    with tools.mounted(lower, layer, "-o", "whiteout=overlay") as point:
        for number in range(300):
            for name in range(7):
                os.unlink(point / f"d{number}" / f"f{name}")
        whole = tools.manifest(point)
    halfway = 0
    for attempt in range(24):
        expected = whole
        form = ("oci", "overlay")[attempt % 2]
        sign = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[attempt % 3]
        child = start(tools, "convert", "--whiteout", form, layer)
        # A write for each directory that it turns to.
        wait_for_io(child, "syscw", 25 * (attempt // 2))
        child.send_signal(sign)
        if child.wait() not in (0, -sign):
            raise RuntimeError(f"signal {sign}: convert ended with {child.returncode}")
        forms = forms_of(layer)
        halfway += len(forms) == 2
        if sign != signal.SIGKILL and (left := [name for name in os.listdir(layer) if name not in os.listdir(lower)]):
            raise RuntimeError(f"signal {sign} during convert left {left}")
        with tools.mounted(f"{layer}:{lower}") as tree:
            actual = tools.manifest(tree)
        if sign == signal.SIGKILL:
            # It cannot give the directory at hand its time again; the next one does.
            expected, actual = without_directory_times(whole), without_directory_times(actual)
        expect_equal(expected, actual, f"signal {sign} of convert, forms {sorted(forms)}")
        tools.layerfs("convert", "--whiteout", form, layer)
        if forms_of(layer) != {form}:
            raise RuntimeError(f"after an interruption convert leaves {forms_of(layer)}")
        if left := [name for name in os.listdir(layer) if name.startswith(".wh..wh.")]:
            raise RuntimeError(f"convert leaves {left}")
        with tools.mounted(f"{layer}:{lower}") as tree:
            actual = tools.manifest(tree)
        # With the times that one that was killed could not give back.
        expect_equal(whole, actual, f"converted to {form}")
    if halfway < 3:
        raise RuntimeError(f"only {halfway} of the interruptions were half-way")


def convert_in_use(tools):
    """A layer of a mount is not converted, and the mount is named."""
    work = tools.work
    for name in "lower", "upper", "other", "work", "overlay":
        (work / name).mkdir()
    put(work / "lower" / "d/f")

    def refused(layer, mount):
        done = tools.layerfs("convert", "--whiteout", "oci", layer, check=False)
        if done.returncode != 1 or f"'{mount}'; unmount it first" not in done.stderr:
            raise RuntimeError(f"convert of {layer}, used at {mount}: exit {done.returncode}\n{done.stderr}")
        print(f"ok: {done.stderr.strip()}")

    with tools.mounted(work / "lower", work / "upper") as point:
        refused(work / "lower", point)
        refused(work / "upper", point)
        # Where it is mounted cannot be seen here, who serves it can.
        done = tools.run("unshare", "--mount", "--propagation", "private", "sh", "-c",
                         f"umount {point} && layerfs convert --whiteout oci {work / 'lower'}", check=False)
        if done.returncode != 1 or "(layerfsd) that cannot be seen from here; unmount it first" not in done.stderr:
            raise RuntimeError(f"exit {done.returncode}\n{done.stderr}")
        print(f"ok: {done.stderr.strip()}")
    options = f"lowerdir={work / 'lower'},upperdir={work / 'other'},workdir={work / 'work'}"
    # By whatever name an engine calls it.
    program = work / "mount-program"
    program.symlink_to(tools.binaries / "layerfs-overlay")
    tools.run(program, "-o", options, work / "overlay")
    try:
        refused(work / "lower", work / "overlay")
    finally:
        tools.layerfs("umount", work / "overlay")
    tools.run("mount", "-t", "overlay", "-o", options, "overlay", work / "overlay")
    try:
        refused(work / "lower", work / "overlay")
        refused(work / "other", work / "overlay")
    finally:
        tools.run("umount", work / "overlay")
    for layer in "lower", "upper", "other":
        tools.layerfs("convert", "--whiteout", "oci", work / layer)
