"""Whole jobs, as people run them; each is timed from a fresh mount with an empty upper."""

import os
import pathlib
import shutil
import subprocess


def run(*arguments, where, **options):
    subprocess.run([str(a) for a in arguments], cwd=where, check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


def prepare(lower: pathlib.Path, files: int):
    """A tree of `files` small files in the lower, a tarball of it and a git repository."""
    tree = lower / "job/tree"
    for i in range(files):
        path = tree / f"d{i // 100}" / f"e{i // 10 % 10}" / f"file{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{i}\n" * (1 + i % 300))
    run("tar", "cf", lower / "job/tree.tar", "tree", where=lower / "job")
    if shutil.which("git"):
        repository = lower / "job/repository"
        shutil.copytree(tree, repository)
        environment = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null"}
        run("git", "init", "-q", where=repository, env=environment)
        run("git", "add", ".", where=repository, env=environment)
        run("git", "-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "-qm", "all",
            where=repository, env=environment)


def git(*arguments, where):
    run("git", "-c", "safe.directory=*", *arguments, where=where)


# Name, and what is run in the mount. `find` comes first, before anything is in a cache.
JOBS = [
    ("find first", lambda m: run("find", ".", "-ls", where=m / "job/tree")),
    ("find again", lambda m: run("find", ".", "-ls", where=m / "job/tree")),
    ("tar c", lambda m: run("sh", "-c", "tar cf - tree | wc -c", where=m / "job")),
    ("untar", lambda m: run("sh", "-c", "mkdir out && tar xf tree.tar -C out", where=m / "job")),
    ("git status", lambda m: git("status", where=m / "job/repository")),
    ("git clone", lambda m: git("clone", "-q", "repository", "clone", where=m / "job")),
    ("cp -a", lambda m: run("cp", "-a", "tree", "copy", where=m / "job")),
    ("chown -R lower", lambda m: run("chown", "-R", "1000:1000", "tree", where=m / "job")),
    ("rm -rf upper", lambda m: run("rm", "-rf", "out", where=m / "job")),
    ("rm -rf lower", lambda m: run("rm", "-rf", "tree", where=m / "job")),
]
