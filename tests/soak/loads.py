"""What works on the mount in turn: each load takes a folder of the mount, a scratch folder outside and how many seconds it has,
and raises Wrong for what a filesystem must not do."""

import errno
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

PROCESSES = 16
# What a random operation may meet when others work on the same names.
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.ENODATA,
            errno.EXDEV, errno.EBUSY, errno.EMLINK, errno.ETXTBSY, errno.ENXIO,
            # of a link to a directory and of attributes of what takes none; of what is a FIFO
            errno.EPERM, errno.ESPIPE, errno.EAGAIN, errno.EPIPE}


class Wrong(Exception):
    """What a load reports against the filesystem."""


def call(words, seconds, cwd=None, env=None):
    """It has to end by itself, a while after its time at most."""
    words = [str(word) for word in words]
    with subprocess.Popen(words, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, start_new_session=True, errors="replace") as process:
        try:
            out, _ = process.communicate(timeout=seconds + 300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise Wrong(f"{' '.join(words)}: no end 300 s after its time") from None
        if process.returncode != 0:
            raise Wrong(f"{' '.join(words)}: exit {process.returncode}\n{out[-3000:]}")
        return out


STRESSORS = ("access chmod chown copy-file dentry dir dirdeep dirmany dup fallocate fcntl fiemap file-ioctl filename flock fpunch "
             "fsize fstat getdent hdd iomix io inotify link locka lockf lockofd metamix mknod mmap msync open readahead rename revio "
             "seek sendfile sync-file symlink touch unlink utime xattr").split()


def stress_ng(folder, _scratch, seconds):
    known = set(call(["stress-ng", "--stressors"], 10).split())
    words = [word for name in STRESSORS if name in known for word in (f"--{name}", "1")]
    limits = ["--hdd-bytes", "16M", "--iomix-bytes", "16M", "--fallocate-bytes", "16M", "--mmap-bytes", "8M", "--seek-size", "4M",
              "--revio-bytes", "8M", "--readahead-bytes", "8M", "--sync-file-bytes", "8M", "--dirdeep-inodes", "2000"]
    call(["stress-ng", *words, *limits, "--verify", "--timeout", f"{max(seconds, 2):.0f}s", "--temp-path", folder], seconds)


def random_load(folder, _scratch, seconds):
    """As fsstress: many processes, one small set of names, whatever comes of it; only some errors may."""
    deadline = time.monotonic() + seconds
    children = []
    for number in range(PROCESSES):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = random_process(folder, random.Random(f"{number} {deadline}"), deadline)
            finally:
                os._exit(code)
        children.append(child)
    codes = {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
    bad = codes - {0}
    if bad:
        raise Wrong(f"random load: {', '.join(errno.errorcode.get(code, f'exit {code}') for code in sorted(bad))}")


def random_process(folder, rng, deadline):
    """0, or the first error that must not be."""
    names = ["a", "b", "c", "d"]

    def path():
        return os.path.join(folder, *(rng.choice(names) for _ in range(rng.randrange(1, 4))))

    def data():
        return rng.randbytes(rng.choice([1, 100, 5000, 100_000]))

    def write(flags):
        fd = os.open(path(), os.O_CREAT | os.O_RDWR | os.O_NONBLOCK | flags, 0o644)
        try:
            os.pwrite(fd, data(), rng.randrange(200_000))
            rng.choice([lambda: None, lambda: os.fsync(fd), lambda: os.pread(fd, 5000, 0), lambda: os.ftruncate(fd, 1000),
                        lambda: os.posix_fallocate(fd, 0, 50_000)])()
        finally:
            os.close(fd)

    def read():
        fd = os.open(path(), os.O_RDONLY | os.O_NONBLOCK)
        try:
            while os.read(fd, 65536):
                pass
        finally:
            os.close(fd)

    operations = [lambda: write(0), lambda: write(os.O_TRUNC), lambda: write(os.O_APPEND), read, lambda: os.mkdir(path()),
                  lambda: os.mkdir(path()), lambda: os.rmdir(path()), lambda: os.unlink(path()), lambda: os.rename(path(), path()),
                  lambda: os.link(path(), path()), lambda: os.symlink(rng.choice(names), path()), lambda: os.mkfifo(path()),
                  lambda: os.chmod(path(), 0o755), lambda: os.chown(path(), 1, 1, follow_symlinks=False),
                  lambda: os.utime(path(), (1, 2)), lambda: os.setxattr(path(), "user.x", b"v" * 50),
                  lambda: os.removexattr(path(), "user.x"), lambda: os.listdir(path()), lambda: os.stat(path()),
                  lambda: os.truncate(path(), 5000), lambda: subprocess.run(["rm", "-rf", path()], stderr=subprocess.DEVNULL, check=False)]
    weights = [1] * (len(operations) - 1) + [0.02]
    while time.monotonic() < deadline:
        try:
            rng.choices(operations, weights)[0]()
        except OSError as error:
            if error.errno not in EXPECTED:
                print(f"random load: {error}", flush=True)
                return error.errno
    return 0


def dbench(folder, _scratch, seconds):
    out = call(["dbench", "-D", folder, "-t", f"{max(seconds, 2):.0f}", "8"], seconds)
    if "Throughput" not in out or "failed" in out.lower():
        raise Wrong(f"dbench:\n{out[-2000:]}")


def fio(folder, scratch, seconds):
    """Whole passes of writing and verifying, for a pass that is cut off verifies nothing."""
    deadline = time.monotonic() + seconds
    number = 0
    while number == 0 or time.monotonic() < deadline:
        for pattern in ("randwrite", "write"):
            call(["fio", "--name=verify", f"--directory={folder}", f"--rw={pattern}", "--bsrange=512-128k", "--size=24m", "--numjobs=4",
                  "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", f"--randseed={number}", "--fallocate=none", "--unlink=1",
                  f"--ioengine={('psync', 'mmap')[number % 2]}", "--group_reporting"], 120, cwd=scratch)
        number += 1


def git(folder, scratch, seconds):
    """Work in a clone of the lower's repository, which fsck finds whole each time."""
    env = dict(os.environ, HOME=str(scratch), GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a",
               GIT_CONFIG_GLOBAL="/dev/null")
    deadline = time.monotonic() + seconds
    clone = pathlib.Path(folder) / "clone"
    number = 0
    while number == 0 or time.monotonic() < deadline:
        call(["git", "clone", "-q", pathlib.Path(folder).parent / "repository", clone], 60, env=env)
        for step in range(5):
            for file in range(20):
                (clone / f"file{file}").write_text(f"{number} {step} {file}\n" * 50)
            call(["git", "add", "-A"], 60, cwd=clone, env=env)
            call(["git", "commit", "-q", "-m", f"{step}"], 60, cwd=clone, env=env)
        call(["git", "checkout", "-q", "-b", "other", "HEAD~3"], 60, cwd=clone, env=env)
        call(["git", "gc", "-q"], 60, cwd=clone, env=env)
        call(["git", "fsck", "--full", "--strict"], 60, cwd=clone, env=env)
        if call(["git", "status", "--porcelain"], 60, cwd=clone, env=env):
            raise Wrong("git: the clone is not clean after a checkout")
        shutil.rmtree(clone)
        number += 1


LOADS = {"stress-ng": stress_ng, "random": random_load, "dbench": dbench, "fio": fio, "git": git}
PROGRAMS = {"stress-ng": "stress-ng", "dbench": "dbench", "fio": "fio", "git": "git"}


def make_lower(root):
    """Names that the loads find below, and a repository."""
    for name in "abcd":
        os.makedirs(root / f"random/{name}/a")
        for other in "bcd":
            (root / f"random/{name}/{other}").write_bytes(b"lower" * 5000)
    repository = root / "repository"
    repository.mkdir(parents=True)
    env = dict(os.environ, GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a",
               GIT_CONFIG_GLOBAL="/dev/null", HOME=str(root))
    call(["git", "init", "-q", repository], 60, env=env)
    for step in range(10):
        for file in range(50):
            (repository / f"file{file}").write_text(f"{step} {file}\n" * 100)
        call(["git", "add", "-A"], 60, cwd=repository, env=env)
        call(["git", "commit", "-q", "-m", f"{step}"], 60, cwd=repository, env=env)
