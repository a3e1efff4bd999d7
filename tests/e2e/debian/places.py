"""The roots, the references and the users that the Debian tests share, made once."""

import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile

import manifests
from filesystems import WITHOUT_ACCESS_TIMES, Failure, call

HERE = pathlib.Path(__file__).resolve().parent
MAKE_ROOT = HERE.parents[2] / "scripts" / "make-debian-root"
WORK = pathlib.Path(os.environ.get("LAYERFS_E2E_DIR", "/var/tmp/layerfs-e2e"))
USER = "layerfs-test"
LAYERS = ("layer3", "layer2", "layer1")  # top first
ALL_STEPS = sorted(path.name for path in (HERE / "steps").glob("[0-9]*"))
# What a user can do who is alone in the user namespace of the chroot, without packages.
# cp -a of a tree with symlinks is not among it yet: chown of a symlink fails there.
USER_STEPS = [step for step in ALL_STEPS
              if step not in ("10-apt", "50-copy-and-tar", "60-remove-and-recreate",
                              "80-metadata", "85-calls", "90-accounts")]


class Skip(Exception):
    """Why this machine cannot run the test."""


class Place:
    """A directory with layers of one kind: made by root, made by a user in a user
    namespace, or plain files of a user."""

    def __init__(self, work: pathlib.Path, binaries: pathlib.Path, kind: str):
        self.kind = kind
        self.top = work / kind
        self.root = self.top / "root"
        self.binaries = self.top / "bin"
        self.source_binaries = binaries
        self.program = self.top / "program"

    @property
    def in_user_namespace(self):
        return self.kind == "rootless"

    @property
    def as_user(self):
        return self.kind != "root"

    def command(self, arguments, home="/root"):
        """`arguments` as the one who uses this place, with private mounts."""
        if not self.as_user:
            return ["unshare", "--mount", "--", *arguments]
        user = pwd.getpwnam(USER)
        prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups",
                  "--reset-env", "--"]
        if self.in_user_namespace:
            return [*prefix, "unshare", "--user", "--map-root-user", "--map-auto", "--mount",
                    "--", *arguments]
        # Private mounts first: they are root's to make.
        return ["unshare", "--mount", "--", *prefix, *arguments]

    def prepare(self):
        self.top.mkdir(parents=True, exist_ok=True)
        if self.as_user:
            make_user()
            shutil.chown(self.top, USER, USER)
        # A user may not reach into the directories that the build and the sources are in.
        for source, target in ((self.source_binaries, self.binaries), (HERE, self.program)):
            if target.exists():
                shutil.rmtree(target)
            target.mkdir()
            for path in source.iterdir():
                if path.name in ("layerfs", "layerfsd", "tree-manifest") or source == HERE:
                    copy = shutil.copytree if path.is_dir() else shutil.copy2
                    copy(path, target / path.name)
        self.make_layers()
        # Benchmarks and containers read the same layers in between, and set them.
        self.access_times = {
            layer: {path: entry["atime"]
                    for path, entry in manifests.parse(self.layer_manifest(layer, "--no-content")).items()}
            for layer in LAYERS}

    def make_layers(self):
        stamp = self.top / "root.stamp"
        wanted = hashlib.sha256(MAKE_ROOT.read_bytes()).hexdigest()
        if stamp.exists() and stamp.read_text() == wanted:
            return
        stamp.unlink(missing_ok=True)
        if self.root.exists():
            shutil.rmtree(self.root)
        for reference in self.top.glob("reference-*"):
            shutil.rmtree(reference)
        self.make_root()
        for layer in LAYERS:
            (self.top / f"{layer}.manifest").write_text(self.layer_manifest(layer))
        stamp.write_text(wanted)

    def make_root(self):
        if self.kind == "own-files":
            # The rootless layers, as plain files of the user.
            lenders = self.top.parent / "rootless" / "root"
            self.root.mkdir()
            for name in (*LAYERS, "flat"):
                # Without setting times of access, which the rootless test looks at.
                call(["unshare", "--mount", "sh", "-euc",
                      WITHOUT_ACCESS_TIMES + 'cp -a "$1" "$2"',
                      "sh", lenders / name, self.root / name], timeout=300)
            user = pwd.getpwnam(USER)
            call(["chown", "-R", "-h", f"{user.pw_uid}:{user.pw_gid}", self.root], timeout=300)
            # As whiteouts and not as files do those without any permission count.
            call(["find", *(self.root / name for name in (*LAYERS, "flat")), "-type", "d",
                  "-exec", "chmod", "u+rwx", "{}", "+"], timeout=300)
            return
        script = self.program / "make-debian-root"
        shutil.copy2(MAKE_ROOT, script)
        command = [script, self.root]
        environment = dict(os.environ)
        if self.as_user:
            user = pwd.getpwnam(USER)
            environment = {"HOME": user.pw_dir, "USER": USER, "PATH": os.environ["PATH"]}
            for name in ("http_proxy", "https_proxy", "no_proxy"):
                if name in os.environ:
                    environment[name] = os.environ[name]
            command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}",
                       "--init-groups", "--", *command]
        print(f"making the {self.kind} Debian root", flush=True)
        result = subprocess.run([str(word) for word in command], env=environment,
                                stdin=subprocess.DEVNULL, timeout=900, check=False)
        if result.returncode != 0:
            raise Failure(f"make-debian-root: exit {result.returncode}")

    def layer_manifest(self, layer, *options):
        """Everything that reading or writing through a mount might change in a layer."""
        return call(["unshare", "--mount", "sh", "-euc",
                     WITHOUT_ACCESS_TIMES + 'directory=$1; shift; exec "$@" "$directory"', "sh",
                     self.root / layer, self.binaries / "tree-manifest", "--atime", "--ctime",
                     "--ino", *options], timeout=300)

    def changed_layers(self):
        differences = []
        for layer in LAYERS:
            before = manifests.read(self.top / f"{layer}.manifest")
            now = manifests.parse(self.layer_manifest(layer))
            for path, entry in before.items():
                entry["atime"] = self.access_times[layer].get(path)
                # Reading sets it where no noatime mount can be had: without privilege.
                if self.as_user and path in now:
                    del entry["atime"], now[path]["atime"]
            differences += [f"{layer}/{line}" for line in manifests.same(before, now)]
        if differences:
            # The next test gets new ones, so that it does not fail by this one's fault.
            (self.top / "root.stamp").unlink(missing_ok=True)
        return differences

    def run(self, name, promises, **job):
        """Runs inner.py in the fresh directory `name`, and returns that directory."""
        directory = self.top / name
        self.remove(directory)
        directory.mkdir()
        if self.as_user:
            shutil.chown(directory, USER, USER)
        job = {"directory": str(directory), "binaries": str(self.binaries),
               "steps": str(self.program / "steps"),
               "in_user_namespace": self.in_user_namespace,
               "chroot_as_user": self.kind == "own-files",
               "packages": self.kind != "own-files",
               "promises": dataclasses.asdict(promises), **job}
        path = directory / "job.json"
        path.write_text(json.dumps(job))
        path.chmod(0o644)
        command = self.command(["/usr/bin/python3", "-B", str(self.program / "inner.py"),
                                str(path)])
        result = subprocess.run(command, stdin=subprocess.DEVNULL, cwd="/", check=False,
                                timeout=2400)
        if result.returncode != 0:
            raise Failure(f"{name}: failed, see above; what it left: {directory}")
        return directory

    def remove(self, directory):
        if directory.exists():
            call(["rm", "-rf", "--one-file-system", directory], timeout=300)

    def reference(self, steps, promises):
        """The directory with what the same steps make of a plain copy."""
        hashed = hashlib.sha256(f"{steps} {promises}".encode())
        for path in (*sorted((HERE / "steps").iterdir()), HERE / "inner.py"):
            hashed.update(path.read_bytes())
        directory = self.top / f"reference-{hashed.hexdigest()[:12]}"
        if (directory / "complete").exists():
            return directory
        print("the reference: a plain copy", flush=True)
        copy = self.top / "plain"
        self.remove(copy)
        call(["cp", "-a", self.root / "flat", copy], timeout=300)
        self.run(directory.name, kind="plain", options=[], layers=[str(copy)], chosen=steps,
                 promises=promises)
        self.remove(copy)
        (directory / "complete").touch()
        return directory


class Lock:
    """Tests that CTest runs at the same time make a place one after the other."""

    def __init__(self, work: pathlib.Path):
        work.mkdir(parents=True, exist_ok=True)
        self.file = open(work / "lock", "w")

    def __enter__(self):
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        fcntl.flock(self.file, fcntl.LOCK_UN)


def make_user():
    try:
        pwd.getpwnam(USER)
    except KeyError:
        call(["useradd", "--create-home", "--shell", "/bin/sh", USER])
    # Other tests make this user too, and need no home.
    user = pwd.getpwnam(USER)
    if not os.path.isdir(user.pw_dir):
        os.mkdir(user.pw_dir, 0o755)
        os.chown(user.pw_dir, user.pw_uid, user.pw_gid)
    for path, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
        if f"{USER}:" not in pathlib.Path(path).read_text():
            call(["usermod", option, "100000-165535", USER])
    # As udev makes it; a machine without udev has it for root only.
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        os.chmod("/dev/fuse", 0o666)


def require(*programs):
    if os.geteuid() != 0:
        raise Skip("the tests of a Debian root have to be run as root")
    if not os.path.exists("/dev/fuse"):
        raise Skip("there is no /dev/fuse; load the module fuse")
    for program in ("mmdebstrap", "unshare", *programs):
        if shutil.which(program) is None:
            raise Skip(f"{program} is not installed; run scripts/setup")


def require_passthrough(binaries):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        lower, upper, target = (pathlib.Path(directory, name) for name in ("l", "u", "m"))
        for path in (lower, upper, target):
            path.mkdir()
        try:
            call([binaries / "layerfs", "mount", lower, upper, target, "--io", "passthrough"])
        except Failure as failure:
            if "passthrough cannot be had" in str(failure):
                raise Skip(failure) from None
            raise
        call([binaries / "layerfs", "umount", target])


def main(body) -> int:
    """Runs `body`; exit 77 is CTest's word for a skipped test."""
    try:
        return body()
    except Skip as skip:
        print(f"SKIP: {skip}")
        return 77
    except Failure as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1


def report(title, differences, shown=60) -> int:
    """Prints the differences; how many there are."""
    if differences:
        print(f"FAILED: {title}: {len(differences)} differences", file=sys.stderr)
        for line in differences[:shown]:
            print(f"  {line}", file=sys.stderr)
    else:
        print(f"passed: {title}", flush=True)
    return len(differences)
