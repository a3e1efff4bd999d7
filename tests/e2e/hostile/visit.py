"""Whoever uses a mount of hostile layers: looks at all of it, changes of it what he can. Any error may come of it but that
of a mount whose daemon is gone."""

import ctypes
import errno
import os
import stat

from layers import OURS, SECRET

WRITTEN = b"written by the user\n"
# Of which all that is in a file is made: no file of a layer has a hole, nor has a device been read in its place.
BYTES = set(OURS + WRITTEN + b"x")
MOST_OBJECTS = 3000
MOST_BYTES = 1 << 17

_libc = ctypes.CDLL(None, use_errno=True)


class Escape(Exception):
    """What must not be."""


def exchange(one, other):
    if _libc.renameat2(-100, one, -100, other, 2) != 0:
        raise OSError(ctypes.get_errno(), "exchange")


class Visitor:
    def __init__(self, root):
        self.root = root
        self.errors = {}

    def attempt(self, call, *arguments, **options):
        """What it returns, or None after an error."""
        try:
            return call(*arguments, **options)
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                raise Escape(f"the daemon is gone at {call.__name__} {arguments}") from error
            self.errors[error.errno] = self.errors.get(error.errno, 0) + 1
            return None

    def walk(self):
        """All paths below the root, a directory before what is in it."""
        found, waiting = [], [self.root]
        while waiting:
            directory = waiting.pop()
            for name in self.attempt(os.listdir, directory or b"/") or []:
                path = directory + b"/" + name
                if name.startswith(b".wh."):
                    raise Escape(f"{path} is shown")
                found.append(path)
                if len(found) > MOST_OBJECTS:
                    raise Escape(f"more than {MOST_OBJECTS} objects of layers that have fewer, at {path}")
                status = self.attempt(os.lstat, path)
                if status is not None and stat.S_ISDIR(status.st_mode):
                    waiting.append(path)
        return found

    def read(self, paths):
        for path in paths:
            status = self.attempt(os.lstat, path)
            for name in self.attempt(os.listxattr, path, follow_symlinks=False) or []:
                if "overlay" in name or name.startswith("user.containers.override_"):
                    raise Escape(f"{path} shows {name}")
                self._no_secret(path, self.attempt(os.getxattr, path, name, follow_symlinks=False))
            if status is None:
                continue
            if stat.S_ISLNK(status.st_mode):
                self.attempt(os.readlink, path)
            elif stat.S_ISREG(status.st_mode):
                self._no_secret(path, self.attempt(self._content, path), status)

    def _content(self, path):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return os.read(fd, MOST_BYTES)
        finally:
            os.close(fd)

    @staticmethod
    def _no_secret(path, data, status=None):
        if data is None:
            return
        if SECRET[:10] in data:
            raise Escape(f"{path} has what is outside of the layers")
        if status is not None and not set(data) <= BYTES:
            raise Escape(f"{path} has {data[:40]}, which no layer has")

    def modify(self, paths, rng, count):
        """`count` changes of random objects, and all of them removed at last as far as they can be."""
        changes = [self._write, self._truncate, self._chmod, self._chown, self._attribute, self._times, self._rename, self._move,
                   self._exchange, self._link, self._unlink, self._rmdir, self._create_in, self._mkdir_in, self._map]
        for number in range(count):
            path = rng.choice(paths) if paths else self.root + b"/a"
            self.attempt(rng.choice(changes), path, rng, paths, number)

    def _write(self, path, rng, paths, number):
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | rng.choice([0, os.O_TRUNC, os.O_APPEND]))
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.pwrite(fd, WRITTEN, 0)
        finally:
            os.close(fd)

    def _map(self, path, rng, paths, number):
        self._write(path, rng, paths, number)
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fsync(fd)
                os.posix_fallocate(fd, 0, 1)
        finally:
            os.close(fd)

    def _truncate(self, path, rng, paths, number):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            os.truncate(path, min(status.st_size, rng.choice([0, 1, len(OURS)])))

    def _chmod(self, path, rng, paths, number):
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            os.chmod(path, rng.choice([0o755, 0o700, 0o4711]))

    def _chown(self, path, rng, paths, number):
        os.chown(path, rng.choice([0, 1000]), 0, follow_symlinks=False)

    def _attribute(self, path, rng, paths, number):
        if rng.random() < 0.3:
            for name in os.listxattr(path, follow_symlinks=False):
                os.removexattr(path, name, follow_symlinks=False)
        os.setxattr(path, rng.choice(["user.x", "trusted.x"]), b"v", follow_symlinks=False)

    def _times(self, path, rng, paths, number):
        os.utime(path, (1, 1), follow_symlinks=False)

    def _rename(self, path, rng, paths, number):
        new = os.path.dirname(path) + b"/r%d" % number
        os.rename(path, new)
        if rng.random() < 0.5:
            os.rename(new, path)
        else:
            paths.append(new)

    def _move(self, path, rng, paths, number):
        os.rename(path, rng.choice(paths))

    def _exchange(self, path, rng, paths, number):
        exchange(path, rng.choice(paths))

    def _link(self, path, rng, paths, number):
        os.link(path, os.path.dirname(path) + b"/l%d" % number, follow_symlinks=False)

    def _unlink(self, path, rng, paths, number):
        os.unlink(path)
        if rng.random() < 0.5:
            self._create_in(os.path.dirname(path), rng, paths, number, os.path.basename(path))

    def _rmdir(self, path, rng, paths, number):
        for name in os.listdir(path):
            self.attempt(os.unlink, path + b"/" + name)
        os.rmdir(path)
        if rng.random() < 0.5:
            os.mkdir(path)

    def _create_in(self, path, rng, paths, number, name=None):
        fd = os.open(path + b"/" + (name or rng.choice([b"a", b"b", b"c", b"n" * 255])), os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644)
        try:
            os.write(fd, WRITTEN)
        finally:
            os.close(fd)

    def _mkdir_in(self, path, rng, paths, number):
        new = path + b"/" + rng.choice([b"a", b"b", b"d"])
        os.mkdir(new)
        paths.append(new)

    def remove_all(self):
        """From the leaves up; what stays is counted by its error."""
        for path in reversed(self.walk()):
            status = self.attempt(os.lstat, path)
            if status is not None:
                self.attempt(os.rmdir if stat.S_ISDIR(status.st_mode) else os.unlink, path)
