"""A tree, and everything that one can do with it; what each step said."""

import ctypes
import errno
import mmap
import os
import shutil
import stat

_libc = ctypes.CDLL(None, use_errno=True)
# Bytes of a name, and of one that .wh. fits before.
LONGEST, LONGEST_OF_DOT_WH = 255, 251
# Names of one file of the lower, of which those that the work does not write through are known to the work directory only.
LINKED = ["link2", "dir/link3"]
TIME = 1_000_000_000_123_456_789


def make_tree(root):
    os.makedirs(root / "dir/sub/deep")
    os.makedirs(root / "many")
    os.makedirs(root / "moved/in")
    os.makedirs(root / "gone/a/b")
    for name, size in (("empty", 0), ("small", 10), ("page", 4096), ("large", 3_000_000), ("dir/file", 5), ("dir/sub/f", 70_000),
                       ("dir/sub/deep/f", 1), ("moved/in/f", 100), ("moved/g", 9), ("gone/a/b/c", 3), ("program", 20), ("link1", 30),
                       ("private", 8)):
        (root / name).write_bytes(bytes(range(251)) * (size // 251 + 1) if size > 251 else b"x" * size)
        os.truncate(root / name, size)
    with open(root / "sparse", "wb") as file:
        os.pwrite(file.fileno(), b"a", 0)
        os.pwrite(file.fileno(), b"z", 2_000_000)
    for number in range(200):
        (root / f"many/{number}").write_text(str(number))
    for name in "link2", "dir/link3":
        os.link(root / "link1", root / name)
    os.symlink("small", root / "symlink")
    os.symlink("x" * 900, root / "long-symlink")
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for length in LONGEST, LONGEST_OF_DOT_WH:
        (root / ("n" * length)).write_text("long")
    open(os.fsencode(root) + b"/\xff\xfe not text", "wb").close()
    os.chmod(root / "program", 0o4755)
    os.chmod(root / "private", 0o600)
    os.chown(root / "private", 1234, 4321)
    os.chown(root / "symlink", 1234, 4321, follow_symlinks=False)
    os.chmod(root / "dir", 0o2775)
    for name in "small", "dir", "page":
        try:
            os.setxattr(root / name, "user.of-the-lower", b"value")
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
    for above, folders, files in os.walk(os.fsencode(root), topdown=False):
        for name in files + folders:
            os.utime(above + b"/" + name, ns=(TIME, TIME), follow_symlinks=False)


def steps(root, attributes, longest):
    """(name, what it does), in order. `longest`: bytes of a name that can be deleted."""
    at = root.__truediv__

    def write(name, data, offset=0, flags=0):
        fd = os.open(at(name), os.O_WRONLY | flags, 0o644)
        try:
            os.pwrite(fd, data, offset) if not flags & os.O_APPEND else os.write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)

    def mapped():
        with open(at("page"), "r+b") as file, mmap.mmap(file.fileno(), 4096) as one:
            one[100:106] = b"mapped"
            one.flush()

    def reader_sees():
        with open(at("dir/sub/f"), "rb") as reader:
            reader.read(1)
            write("dir/sub/f", b"seen", 10)
            return os.pread(reader.fileno(), 4, 10)

    def unlinked_but_open():
        with open(at("many/7"), "r+b") as file:
            os.unlink(at("many/7"))
            os.pwrite(file.fileno(), b"more", 0)
            return os.pread(file.fileno(), 10, 0), os.fstat(file.fileno()).st_nlink

    def nameless():
        fd = os.open(at("dir"), os.O_TMPFILE | os.O_RDWR, 0o640)
        try:
            os.write(fd, b"nameless")
            os.link(f"/proc/self/fd/{fd}", at("dir/named"))
        finally:
            os.close(fd)

    def exchange(one, other):
        if _libc.renameat2(-100, os.fsencode(at(one)), -100, os.fsencode(at(other)), 2) != 0:
            raise OSError(ctypes.get_errno(), "exchange")

    def move(old, new):
        try:
            os.rename(at(old), at(new))
        except OSError as error:
            if error.errno != errno.EXDEV or attributes:
                raise
            shutil.copytree(at(old), at(new), symlinks=True)
            shutil.rmtree(at(old))

    def holes():
        fd = os.open(at("new-sparse"), os.O_CREAT | os.O_WRONLY, 0o644)
        os.pwrite(fd, b"end", 5_000_000)
        os.close(fd)

    def attribute(name, key):
        try:
            os.setxattr(at(name), key, b"new", follow_symlinks=False)
        except OSError as error:
            return "refused" if error.errno == errno.EOPNOTSUPP and not attributes else error.errno
        return None

    yield "append", lambda: write("small", b"more", flags=os.O_APPEND)
    yield "write in the middle", lambda: write("large", b"changed", 1_000_000)
    yield "truncate", lambda: os.truncate(at("sparse"), 1_000_000)
    yield "enlarge", lambda: os.truncate(at("page"), 10_000)
    yield "map", mapped
    yield "a reader sees what is written", reader_sees
    yield "unlinked but open", unlinked_but_open
    yield "chmod", lambda: os.chmod(at("dir/file"), 0o640)
    yield "chown", lambda: os.chown(at("program"), 77, 88)
    yield "chown of a symlink", lambda: os.chown(at("symlink"), 5, 6, follow_symlinks=False)
    yield "chown of a directory", lambda: os.chown(at("dir/sub"), 9, 9)
    yield "chmod of a device", lambda: os.chmod(at("device"), 0o666)
    yield "times", lambda: os.utime(at("many/1"), ns=(5, 6))
    yield "set attribute", lambda: attribute("small", "user.new")
    yield "set attribute of a directory", lambda: attribute("dir/sub", "user.new")
    yield "write through a link", lambda: write("link2", b"linked")
    yield "read the other link", lambda: at("dir/link3").read_bytes()[:10]
    yield "unlink a link", lambda: os.unlink(at("link1"))
    yield "links left", lambda: os.lstat(at("link2")).st_nlink
    yield "new link", lambda: os.link(at("dir/file"), at("new-link"))
    yield "link of a symlink", lambda: os.link(at("long-symlink"), at("symlink-2"), follow_symlinks=False)
    yield "create", lambda: write("dir/new", b"new", flags=os.O_CREAT)
    yield "create deep", lambda: write("dir/sub/deep/new", b"new", flags=os.O_CREAT)
    yield "nameless file", nameless
    yield "holes", holes
    yield "mkdir", lambda: os.mkdir(at("dir/made"))
    yield "symlink", lambda: os.symlink("elsewhere", at("dir/made/symlink"))
    yield "fifo", lambda: os.mkfifo(at("dir/made/fifo"))
    yield "device", lambda: os.mknod(at("dir/made/device"), stat.S_IFBLK | 0o600, os.makedev(7, 1))
    yield "rename a file", lambda: os.rename(at("empty"), at("dir/renamed"))
    yield "rename over", lambda: os.rename(at("many/2"), at("many/3"))
    yield "rename of a directory", lambda: move("moved", "dir/moved")
    yield "write in it", lambda: write("dir/moved/in/f", b"in")
    yield "the old name again", lambda: os.mkdir(at("moved"))
    yield "a file in it", lambda: write("moved/g", b"another", flags=os.O_CREAT)
    yield "exchange", lambda: exchange("many/4", "many/5")
    yield "unlink", lambda: os.unlink(at("many/6"))
    yield "unlink a long name", lambda: os.unlink(at("n" * longest))
    yield "unlink no text", lambda: os.unlink(os.fsencode(root) + b"/\xff\xfe not text")
    yield "full", lambda: os.rmdir(at("gone"))
    yield "remove a tree", lambda: shutil.rmtree(at("gone"))
    yield "the same name again", lambda: os.mkdir(at("gone"))
    yield "nothing shines through", lambda: sorted(os.listdir(at("gone")))
    yield "a file for a directory", lambda: (shutil.rmtree(at("dir/sub/deep")), write("dir/sub/deep", b"file", flags=os.O_CREAT))
    yield "a directory for a file", lambda: (os.unlink(at("private")), os.mkdir(at("private")))
    yield "listing", lambda: sorted(os.listdir(at("many")))
    yield "read", lambda: at("large").read_bytes()[999_990:1_000_020]


def do(root, attributes, longest):
    """What each step said."""
    said = []
    for name, step in steps(root, attributes, longest):
        try:
            result = step()
        except OSError as error:
            result = errno.errorcode.get(error.errno, error.errno)
        said.append((name, result))
    return said
