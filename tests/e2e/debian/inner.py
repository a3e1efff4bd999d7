#!/usr/bin/python3
"""Mounts the layers, runs the steps in a chroot and records the trees.

Started by `run` with private mounts, and possibly in a user namespace. The only argument
is a JSON file (see `Job` for its fields). Exit 0: done; 1: failed, with the reason.
"""

import dataclasses
import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import filesystems
from filesystems import Failure, call

STEP_TIMEOUT = 400


@dataclasses.dataclass
class Job:
    kind: str                 # of filesystems.KINDS
    options: list[str]        # for the mount
    layers: list[str]         # top first
    directory: str            # upper, work, mount point and results go here
    binaries: str
    steps: str                # the directory with the step programs
    chosen: list[str]         # the names of those to run; may be none
    in_user_namespace: bool
    chroot_as_user: bool      # the chroot needs a user namespace of its own
    packages: bool            # whether the steps may install packages
    promises: dict[str, bool]  # filesystems.Promises
    upper: str = ""           # one that is there already
    read_only: bool = False   # without an upper
    finds_holes: bool = True  # whether SEEK_DATA and SEEK_HOLE tell where holes are


def step_environment(job: Job) -> list[str]:
    def word(value):
        return "yes" if value else "no"

    return [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME=/root", "LC_ALL=C.UTF-8", "TZ=UTC", "SOURCE_DATE_EPOCH=1700000000",
        # The compiled files of modules would hold the times of sources that steps write.
        "PYTHONDONTWRITEBYTECODE=1",
        "E2E_STEPS=/mnt",
        *(f"E2E_{name.upper()}={word(value)}" for name, value in job.promises.items()),
        f"E2E_FINDS_HOLES={word(job.finds_holes)}",
        f"E2E_USER_NAMESPACE={word(job.in_user_namespace or job.chroot_as_user)}",
        f"E2E_PACKAGES={word(job.packages)}",
    ]


# The root of a step: its own processes and mounts, the machine's devices, the steps.
ENTER = """
set -eu
root=$1 steps=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$steps" "$root/mnt"
umask 022
exec env -i "$@"
"""


def run_in_root(job: Job, target: pathlib.Path, command: list[str], log) -> int:
    namespaces = ["--mount", "--pid", "--fork", "--kill-child"]
    if job.chroot_as_user:
        namespaces += ["--user", "--map-root-user"]
    arguments = ["unshare", *namespaces, "--", "sh", "-c", ENTER, "sh", str(target), job.steps,
                 *step_environment(job), "chroot", str(target), *command]
    with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
        try:
            return process.wait(timeout=STEP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failure(f"{command[0]}: not done in {STEP_TIMEOUT} s") from None


def run_steps(job: Job, target: pathlib.Path) -> None:
    log_path = pathlib.Path(job.directory, "steps.log")
    with log_path.open("w") as log:
        if run_in_root(job, target, ["/bin/mkdir", "-p", "/srv/journal"], log) != 0:
            raise Failure(f"cannot enter the root: {log_path.read_text().strip()[-500:]}")
        for step in job.chosen:
            log.write(f"=== {step}\n")
            log.flush()
            start = time.monotonic()
            code = run_in_root(job, target, [f"/mnt/{step}"], log)
            if code != 0:
                tail = "\n".join(log_path.read_text().splitlines()[-15:])
                raise Failure(f"step {step}: exit {code}; the end of {log_path}:\n{tail}")
            print(f"  {step}: {time.monotonic() - start:.1f} s", flush=True)


def refuse_writes(target: pathlib.Path) -> None:
    """Everything that would change a read-only mount has to fail with EROFS."""
    passwd = target / "etc" / "passwd"
    changes = {
        "open for writing": lambda: os.open(passwd, os.O_WRONLY),
        "open to truncate": lambda: os.open(passwd, os.O_RDONLY | os.O_TRUNC),
        "create": lambda: os.open(target / "etc" / "new", os.O_CREAT | os.O_WRONLY),
        "unlink": lambda: os.unlink(passwd),
        "mkdir": lambda: os.mkdir(target / "new"),
        "rmdir": lambda: os.rmdir(target / "home"),
        "rename": lambda: os.rename(passwd, target / "etc" / "new"),
        "link": lambda: os.link(passwd, target / "etc" / "new"),
        "symlink": lambda: os.symlink("x", target / "etc" / "new"),
        "chmod": lambda: os.chmod(passwd, 0o600),
        "chown": lambda: os.chown(passwd, 1, 1),
        "utime": lambda: os.utime(passwd),
        "truncate": lambda: os.truncate(passwd, 0),
        "setxattr": lambda: os.setxattr(passwd, "user.x", b"1"),
        "mkfifo": lambda: os.mkfifo(target / "etc" / "new"),
    }
    for name, change in changes.items():
        try:
            change()
        except OSError as error:
            if error.errno != errno.EROFS:
                raise Failure(f"{name} on a read-only mount: expected EROFS, got {error}") from None
        else:
            raise Failure(f"{name} on a read-only mount: expected EROFS, but it succeeded")


def record(job: Job, target: pathlib.Path, name: str, *options: str) -> None:
    text = call([pathlib.Path(job.binaries, "tree-manifest"), "--check-readdir", *options, target],
                timeout=600)
    pathlib.Path(job.directory, name).write_text(text)


def main() -> int:
    job = Job(**json.loads(pathlib.Path(sys.argv[1]).read_text()))
    directory = pathlib.Path(job.directory)
    target, upper, work = (directory / name for name in ("mount", "upper", "work"))
    target.mkdir()
    if job.read_only:
        upper = None
    elif job.upper:
        upper = pathlib.Path(job.upper)
    else:
        upper.mkdir()
        # The upper's own attributes are those of the merged root, in every union filesystem.
        shutil.copystat(job.layers[0], upper)
    filesystem = filesystems.KINDS[job.kind](pathlib.Path(job.binaries), job.options,
                                             job.in_user_namespace)
    layers = [pathlib.Path(layer) for layer in job.layers]
    try:
        filesystem.mount(layers, upper, work, target)
        filesystem.check(target)
        if job.read_only:
            refuse_writes(target)
        start = time.time()
        if job.chosen:
            run_steps(job, target)
        end = time.time()
        record(job, target, "tree.manifest")
        record(job, target, "tree-with-inodes.manifest", "--ino")
        filesystem.check(target)
        filesystem.unmount(target)
        filesystem.mount(layers, upper, work, target)
        record(job, target, "remounted.manifest", "--ino")
        filesystem.unmount(target)
    except Failure as failure:
        print(f"{job.kind}: {failure}", file=sys.stderr)
        filesystem.abandon(target)
        return 1
    (directory / "window.json").write_text(json.dumps([start, end]))
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
