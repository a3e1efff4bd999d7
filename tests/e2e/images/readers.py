"""An image's tree as every program that people have unpacks it."""

import json
import pathlib
import tempfile


def expect_equal(expected, actual, what):
    if expected == actual:
        print(f"ok: {what}: {len(actual)} entries")
        return
    for line in sorted(set(expected) - set(actual))[:10]:
        print(f"missing: {line}")
    for line in sorted(set(actual) - set(expected))[:10]:
        print(f"unexpected: {line}")
    raise RuntimeError(f"{what}: the trees differ")


def unpacked(tools, image, store):
    """The stack of an image's layers, as layerfs unpack has it."""
    done = tools.layerfs("unpack", image, store)
    word, stack = done.stdout.split(maxsplit=1)
    assert word == "--layers", done.stdout
    return stack.strip()


def trees_of_all_readers(tools, layout, tag):
    """Name and manifest of the image's tree as each program unpacks it."""
    work = tools.work
    stack = unpacked(tools, f"oci:{layout}:{tag}", work / "store")
    with tools.mounted(stack) as tree:
        yield "layerfs unpack", tools.manifest(tree)
    oci_stack = unpacked_in_oci_form(tools, f"oci:{layout}:{tag}")
    with tools.mounted(oci_stack) as tree:
        yield "layerfs unpack --whiteout oci", tools.manifest(tree)
    bundle = pathlib.Path(tempfile.mkdtemp(dir=work)) / "bundle"
    tools.run("umoci", "unpack", "--image", f"{layout}:{tag}", bundle)
    yield "umoci unpack", tools.manifest(bundle / "rootfs")
    archive = work / f"{tag}.docker.tar"
    tools.skopeo("copy", f"oci:{layout}:{tag}", f"docker-archive:{archive}:localhost/{tag}:1")
    stack = unpacked(tools, f"docker-archive:{archive}", work / "store")
    with tools.mounted(stack) as tree:
        yield "skopeo copy to docker-archive, layerfs unpack", tools.manifest(tree)
    tools.skopeo("copy", f"oci:{layout}:{tag}", f"dir:{work / tag}.dir")
    with tools.mounted(unpacked_files(tools, work / f"{tag}.dir")) as tree:
        yield "skopeo copy to dir, layerfs unpack of its layers", tools.manifest(tree)
    for driver in "vfs", "layerfs":
        tools.containers("podman", "load", "-i", archive, driver=driver)
        mount = tools.containers("podman", "image", "mount", f"localhost/{tag}:1", driver=driver).stdout.strip()
        if driver == "layerfs" and f" {mount} fuse.layerfs " not in pathlib.Path("/proc/mounts").read_text():
            raise RuntimeError(f"{mount} is not mounted by layerfs")
        yield f"podman load, {driver}", tools.manifest(mount)
        tools.containers("podman", "image", "umount", f"localhost/{tag}:1", driver=driver)
    container = tools.containers("buildah", "from", f"oci:{layout}:{tag}").stdout.strip()
    mount = tools.containers("buildah", "mount", container).stdout.strip()
    yield BUILDAH, tools.manifest(mount)
    tools.containers("buildah", "rm", container)


def unpacked_files(tools, folder):
    """The stack of the layers that skopeo has written to a directory, each a file by its digest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    files = [folder / layer["digest"].split(":")[1] for layer in manifest["layers"]]
    done = tools.layerfs("unpack", *files, tools.work / "store")
    return done.stdout.split(maxsplit=1)[1].strip()


BUILDAH = "buildah from"


def as_vfs_copies(tree):
    """The vfs drivers of buildah and docker copy a layer's tree for the next, without trusted attributes, which
    containerd does not apply either, and without links between FIFOs."""
    out = []
    for line in tree:
        words = [word for word in line.split(" ") if not word.startswith("xattr:trusted.")]
        if "\ttype=p" in line:
            words = [word for word in words if not word.startswith(("nlink=", "link="))]
        out.append(" ".join(words))
    return out


def compare_all_readers(tools, expected, layout, tag):
    for name, tree in trees_of_all_readers(tools, layout, tag):
        if name == BUILDAH:
            expect_equal(as_vfs_copies(expected), as_vfs_copies(tree), name)
        else:
            expect_equal(expected, tree, name)


def unpacked_in_oci_form(tools, image):
    done = tools.layerfs("unpack", image, tools.work / "store", "--whiteout", "oci", "--name", "oci form")
    return done.stdout.split(maxsplit=1)[1].strip()
