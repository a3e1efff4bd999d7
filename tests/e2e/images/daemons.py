"""Images as containerd and docker load them, each by a daemon of the test's own."""

import contextlib
import json
import pathlib
import subprocess
import time

from readers import as_vfs_copies, expect_equal
from trees import make_changes, make_lower


def make_images(tools):
    """A live mount as an image of each form; returns its manifest and what commit says of each."""
    work = tools.work
    make_lower(work / "lower")
    (work / "upper").mkdir()
    made = {}
    with tools.mounted(work / "lower", work / "upper") as point:
        make_changes(point)
        expected = tools.manifest(point)
        for option, target in ("--oci-archive", work / "oci.tar:localhost/oci:1"), (
                "--docker-archive", work / "docker.tar:localhost/docker:1"):
            made[option] = json.loads(tools.layerfs("commit", point, option, target, "--json").stdout)
    return expected, made


@contextlib.contextmanager
def daemon(tools, *command, ready):
    """Ends it with the block; `ready` fails until it answers."""
    log = tools.work / f"{command[0]}.log"
    with open(log, "w") as out:
        process = subprocess.Popen([str(word) for word in command], env=tools.env, stdout=out, stderr=out)
    try:
        for attempt in range(200):
            if process.poll() is not None or ready().returncode == 0:
                break
            time.sleep(0.1)
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} ends with {process.returncode}\n{log.read_text()[-2000:]}")
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def containerd_daemon(tools):
    """Yields a function that runs ctr with it."""
    root = tools.work / "containerd"
    root.mkdir()
    config = root / "config.toml"
    config.write_text(f'version = 2\nroot = "{root}/root"\nstate = "{root}/state"\n'
                      f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{root}/socket"\n')

    def ctr(*words, check=True):
        return tools.run("ctr", "--address", root / "socket", "--namespace", "layerfs", *words, check=check)

    with daemon(tools, "containerd", "--config", config, ready=lambda: ctr("version", check=False)):
        yield ctr


def containerd(tools):
    """ctr image import takes both archives, and unpacks the tree that was mounted."""
    tools.need("containerd", "ctr")
    expected, made = make_images(tools)
    with containerd_daemon(tools) as ctr:
        for option, archive, name in ("--oci-archive", "oci.tar", "localhost/oci:1"), (
                "--docker-archive", "docker.tar", "localhost/docker:1"):
            ctr("images", "import", "--snapshotter", "overlayfs", tools.work / archive)
            images = ctr("images", "ls").stdout
            line = next((line for line in images.splitlines() if line.startswith(name + " ")), "")
            if made[option]["digest"] not in line:
                raise RuntimeError(f"{name} is not {made[option]['digest']}:\n{images}")
            tree = tools.work / f"mounted{option}"
            tree.mkdir()
            ctr("images", "mount", "--snapshotter", "overlayfs", name, tree)
            try:
                actual = tools.manifest(tree)
            finally:
                tools.run("umount", tree)
            expect_equal(as_vfs_copies(expected), as_vfs_copies(actual), f"containerd, {option}")


def docker(tools):
    """docker load takes the docker archive as the image that commit named, with its layers."""
    tools.need("containerd", "dockerd", "docker")
    expected, made = make_images(tools)
    root = tools.work / "docker"
    root.mkdir()
    socket = f"unix://{root / 'socket'}"

    def client(*words, check=True):
        return tools.run("docker", "--host", socket, *words, check=check)

    with containerd_daemon(tools), daemon(
            tools, "dockerd", "--containerd", tools.work / "containerd/socket", "--data-root", root / "root", "--exec-root",
            root / "exec", "--host", socket, "--pidfile", root / "pid", "--iptables=false", "--ip6tables=false",
            "--ip-forward=false", "--bridge=none", "--storage-driver", "vfs", ready=lambda: client("version", check=False)):
        said = client("load", "-i", tools.work / "docker.tar").stdout
        if "Loaded image: localhost/docker:1" not in said:
            raise RuntimeError(said)
        found = json.loads(client("image", "inspect", "localhost/docker:1").stdout)[0]
        wanted = made["--docker-archive"]
        if found["Id"] != wanted["id"] or found["RootFS"]["Layers"] != [layer["diff_id"] for layer in wanted["layers"]]:
            raise RuntimeError(f"docker has {found['Id']}, {found['RootFS']}\nof {wanted}")
        tree = pathlib.Path(newest_vfs(root))
        expect_equal(as_vfs_copies(expected), as_vfs_copies(tools.manifest(tree)), "docker load")


def newest_vfs(root):
    """Where the vfs driver has the topmost layer: the last that was made."""
    folders = (root / "root/vfs/dir").iterdir()
    return max(folders, key=lambda folder: folder.stat().st_ctime_ns)
