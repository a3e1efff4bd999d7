"""Containers for the tests: a root of busybox alone, and who starts layerfs-run."""
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIP = 77


class Skip(Exception):
    """Why a test cannot run here."""


BUSYBOX = "/bin/busybox"
USER = 12345  # has one id only
RANGED = "layerfs-test"  # has ranges in /etc/subuid and /etc/subgid


def _ranged_user():
    """The uid of a real user with subordinate ids, made if it is missing."""
    if not shutil.which("newuidmap"):
        skip("newuidmap is missing (Debian package uidmap)")
    try:
        found = pwd.getpwnam(RANGED)
    except KeyError:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", RANGED], check=True)
        found = pwd.getpwnam(RANGED)
    for path, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
        if f"{RANGED}:" not in pathlib.Path(path).read_text():
            subprocess.run(["usermod", option, "100000-165535", RANGED], check=True)
    return found.pw_uid


def as_root_only(test):
    """Of a test that says nothing about unprivileged callers."""
    test.root_only = True
    return test


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(SKIP)


class Ground:
    """A temporary directory with the root, and the caller: "root", "user" or "ranged"."""

    def __init__(self, binaries, caller):
        self.program = f"{binaries}/layerfs-run"
        self.caller = caller
        if os.geteuid() != 0:
            skip("the tests of layerfs-run need root")
        if not os.path.exists("/dev/fuse"):
            skip("there is no /dev/fuse")
        if not os.path.exists(BUSYBOX):
            skip(f"{BUSYBOX} is missing (Debian package busybox-static)")
        self.uid = {"root": lambda: 0, "user": lambda: USER, "ranged": _ranged_user}[caller]()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="layerfs-run-test."))
        self.dir.chmod(0o755)
        self.layer = self.dir / "layer"
        self.make_layer()
        self.own = self.dir / "own"
        self.own.mkdir(mode=0o755)
        os.chown(self.own, self.uid, self.uid)
        self.groups = []  # that the caller is in
        self.made_groups = []
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(self.own)}
        if caller != "root":
            self.environment["XDG_RUNTIME_DIR"] = str(self.own)
            self.private_fuse_device()

    def delegate_groups(self):
        """Control groups of the caller's own, in which it starts what it starts."""
        if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
            self._delegate_unified()
            return
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            parent = pathlib.Path(f"/sys/fs/cgroup/{controllers}{own}")
            if controllers and "=" not in controllers and (parent / "tasks").exists():
                group = parent / f"delegated-{self.dir.name}"
                group.mkdir()
                self.groups.append(group)
                self.made_groups.append(group)
                for name in ("cpuset.mems", "cpuset.cpus"):
                    if controllers == "cpuset":
                        (group / name).write_text((parent / name).read_text())
                for path in (group, group / "cgroup.procs", group / "tasks"):
                    os.chown(path, self.uid, self.uid)

    def _delegate_unified(self):
        """As systemd delegates a scope, with the caller in a leaf of it: this process too, for
        who has no right to the group above could not go there."""
        root = pathlib.Path("/sys/fs/cgroup")
        group = root / f"delegated-{self.dir.name}"
        leaf = group / "session"
        (root / "cgroup.subtree_control").write_text("+cpu +cpuset +io +memory +pids")
        leaf.mkdir(parents=True)
        for path in (group, leaf, group / "cgroup.subtree_control", group / "cgroup.procs",
                     leaf / "cgroup.procs"):
            os.chown(path, self.uid, self.uid)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        self.groups = [leaf]
        self.made_groups = [leaf, group]

    def enter_groups(self):
        for group in self.groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    def private_fuse_device(self):
        """This process's /dev/fuse becomes one for everybody, as udev makes it."""
        libc_unshare = getattr(os, "unshare", None)
        if libc_unshare:
            os.unshare(os.CLONE_NEWNS)
        else:
            import ctypes
            if ctypes.CDLL(None, use_errno=True).unshare(0x20000) != 0:
                skip("no mount namespace can be made")
        run = lambda *command: subprocess.run(command, check=True)
        run("mount", "--make-rprivate", "/")
        node = self.dir / "fuse"
        os.mknod(node, 0o666 | 0o020000, os.makedev(10, 229))
        node.chmod(0o666)
        run("mount", "--bind", str(node), "/dev/fuse")

    def make_layer(self):
        for name in ("bin", "etc", "tmp", "root", "home"):
            (self.layer / name).mkdir(parents=True)
        (self.layer / "tmp").chmod(0o1777)
        shutil.copy(BUSYBOX, self.layer / "bin/busybox")
        listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True)
        for name in listed.stdout.split():
            if name != "busybox":
                (self.layer / "bin" / name).symlink_to("busybox")
        (self.layer / "etc/passwd").write_text(
            "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home:/bin/sh\n")
        (self.layer / "etc/group").write_text("root:x:0:\nbob:x:1000:\nwheel:x:50:bob\n")
        subprocess.run(["chown", "-hR", f"{self.uid}:{self.uid}", str(self.layer)], check=True)

    def words(self, *arguments, layers=None):
        return [self.program, "--layers", str(layers or self.layer), *map(str, arguments)]

    def start(self, *arguments, layers=None, words=None, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("env", self.environment)
        if self.caller != "root":
            options.update(user=self.uid, group=self.uid, extra_groups=[])
        if self.groups:
            options["preexec_fn"] = self.enter_groups
        return subprocess.Popen(words or self.words(*arguments, layers=layers), text=True,
                                cwd="/", **options)

    def run(self, *arguments, timeout=60, layers=None, words=None, **options):
        """The finished process, with .code, .out and .err."""
        process = self.start(*arguments, layers=layers, words=words, **options)
        try:
            process.out, process.err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.out, process.err = process.communicate()
            raise AssertionError(f"hangs: {arguments}\n{process.out}\n{process.err}") from None
        process.code = process.returncode
        return process

    def shell(self, script, *options, **more):
        return self.run(*options, "--", "sh", "-c", script, **more)

    def leftovers(self):
        """What a container that is gone must not leave: directories, mounts, processes."""
        # os.walk passes over what goes while it looks.
        found = [os.path.join(folder, name) for folder, folders, files in os.walk(self.own)
                 for name in folders + files if name.startswith("layerfs-run") and name != "layerfs-run"]
        # Filters that are kept for the next start have a dot.
        found += [str(p) for p in (self.own / "layerfs-run").glob("[!.]*")]
        for line in pathlib.Path("/proc/mounts").read_text().splitlines():
            if "fuse.layerfs" in line and "layerfs-run" in line:
                found.append(line)
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes()
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(self.own).encode() in environ and b"layerfs" in command:
                found.append(f"{entry.name} {command.replace(bytes(1), b' ').decode()}")
        return found

    def end_all(self):
        """What a failed test has left running."""
        for line in self.leftovers():
            word = line.split()[0]
            if word.isdigit():
                try:
                    os.kill(int(word), signal.SIGTERM)
                except ProcessLookupError:
                    pass

    def wait_until_clean(self, seconds=15):
        limit = time.monotonic() + seconds
        while self.leftovers() and time.monotonic() < limit:
            time.sleep(0.05)
        assert not self.leftovers(), f"left behind: {self.leftovers()}"

    def _leave_groups(self):
        groups, self.groups = self.groups, []
        if groups != self.made_groups:
            pathlib.Path("/sys/fs/cgroup/cgroup.procs").write_text(str(os.getpid()))
        return groups

    @contextlib.contextmanager
    def outside_of_groups(self):
        """The caller has none that are delegated to it."""
        groups = self._leave_groups()
        yield
        self.groups = groups
        if groups != self.made_groups:
            self.enter_groups()

    def close(self):
        self._leave_groups()
        for group in self.made_groups:
            for _ in range(50):
                try:
                    group.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)
        for _ in range(5):
            shutil.rmtree(self.dir, ignore_errors=True)
            if not self.dir.exists():
                return
            time.sleep(0.2)


def eventually(condition, what, seconds=10):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def expect(process, code=0, out=None):
    assert process.code == code, f"code {process.code}, not {code}:\n{process.out}\n{process.err}"
    if out is not None:
        assert process.out == out, f"{process.out!r}, not {out!r}"


def main(tests, argv):
    """check SUBJECT --binaries DIR --as root|user|ranged [NAME...]"""
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--as", dest="caller", choices=["root", "user", "ranged"], default="root")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    ground = Ground(given.binaries, given.caller)
    failed = 0
    left_out = []
    try:
        for test in tests:
            if given.names and test.__name__ not in given.names:
                continue
            if given.caller != "root" and getattr(test, "root_only", False):
                continue
            begin = time.monotonic()
            try:
                test(ground)
            except Skip as reason:
                left_out.append(f"{test.__name__}: {reason}")
                continue
            except AssertionError as error:
                failed += 1
                print(f"FAILED {test.__name__}: {error}", flush=True)
                ground.end_all()
                continue
            print(f"ok  {test.__name__}  {time.monotonic() - begin:.2f} s", flush=True)
    finally:
        ground.close()
    for line in left_out:
        print(f"SKIP: {line}", flush=True)
    return 1 if failed else SKIP if left_out else 0
