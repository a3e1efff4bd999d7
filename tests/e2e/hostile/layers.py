"""Layers that somebody made who means harm. All paths are bytes: names need not be UTF-8."""

import dataclasses
import errno
import os
import socket
import stat
import struct

# What every file of a layer begins with, and what everything outside of the layers does.
OURS = b"of a layer\n"
SECRET = b"secret of the outside\n"

NAMESPACES = ["trusted.overlay.", "user.overlay."]
SUFFIXES = ["opaque", "redirect", "metacopy", "origin", "layerfs.origin", "impure", "nlink", "upper", "whiteout",
            "protattr", "uuid"]
OTHERS = ["user.fuseoverlayfs.opaque", "user.fuseoverlayfs.override_stat", "user.fuseoverlayfs.origin",
          "user.containers.override_stat", "security.capability", "system.posix_acl_access", "system.posix_acl_default"]
ATTRIBUTES = [prefix + suffix for prefix in NAMESPACES for suffix in SUFFIXES] + OTHERS


@dataclasses.dataclass(frozen=True)
class Outside:
    """Where the layers must not lead to: `path` has a file "file" and a directory "dir" with one in it."""
    path: bytes

    def ways(self):
        """What names a place outside, for whoever follows it: from a layer, its work directory, the mount or the root."""
        name = os.path.basename(self.path)
        below = [b"", b"/file", b"/dir", b"/dir/file"]
        starts = [self.path, b"/.." + self.path, b"/../../../../../../../.." + self.path, b"../" + name, b"../../" + name,
                  b"/../" + name, b"/../../" + name, b"a/../../" + name, b"/a/../../" + name, b"//" + self.path]
        return [start + end for start in starts for end in below]


def values(outside):
    """For any attribute; what none of them means, and what one of them does elsewhere."""
    number = 0xffffffffffffffff
    acl = struct.pack("<I", 2)
    return [b"", b"y", b"x", b"n", b"yes", b"\0", b"y\0", b"/", b"//", b".", b"..", b"/.", b"/..", b"/a/.", b"/a/..", b"/a/",
            b"/a//b", b"a/b", b"/a", b"/b", b"/c", b"a", b"b", b"c", b"/a/b", b"/a/b/c", b"/a\0b", b"a\0", b"\0/a",
            b"/" + b"n" * 255, b"n" * 255, b"n" * 256, b"/" + b"n" * 256, b"/a" * 1500, b"/" + b"a/" * 20000 + b"a",
            b"\xff\xfe\xfd", b"/.wh.a", b".wh.a", b"/.wh..wh..opq", b"/a/.wh..wh..opq", b"v1 0 0 0", b"v1 ffffffffffffffff 1 1",
            b"v1 10000000000000000 1 1", b"v1 -1 -1 -1", b"v1 ", b"v2 0 0 0", b"v1 0 0 " + b"0" * 60000, b"U+1", b"U-1", b"L+1",
            b"U+0", b"U+99999999999999999999", b"U-2147483648", b"U+2147483647", b"U", b"U+", b"-1", b"0:0:0", b"0:0:0644",
            b"0:0:0644:dir", b"0:0:0755:file", b"0:0:0777:symlink", b"0:0:0:char-0-0", b"0:0:0666:char-1-5",
            b"0:0:0:block-4095-1048575", b"0:0:0:block-99999999999-0", b"4294967295:4294967295:0777", b"-1:-1:-1", b"0:0:7777777",
            b"0:0:0644:" + b"x" * 60000, b"0:0:0644:socket", b"0:0:0644:pipe", b":::", b"::::::::::::", b"%s%s%n",
            b"\0\xfb\x15\0\0" + b"\0" * 16, bytes([0, 0xfb, 255, 0, 255]) + b"\xff" * 250, b"\0" * 65536, b"x" * 65536,
            acl, acl[:3], acl + b"\1\0\7\0" + b"\xff" * 4, acl + b"\xff" * 65532, acl + b"\1\0\xff\xff\xff\xff\xff\xff" * 8000,
            struct.pack("<IQQ", 0x03000001, number, number)] + outside.ways()


NAMES = [b"a", b"b", b"c", b"d", b"e", b"f", b"n" * 255, b".wh..a", b"-rf", b"\xff\xfe", b"\xed\xa0\x80", b"a\nb", b" ", b"%s%n",
         b"...", b"..a", b"#0", b"layerfs-probe", b"\x1b[31m"]
RESERVED = [b".wh.", b".wh..", b".wh...", b".wh.a", b".wh.b", b".wh.c", b".wh..wh.", b".wh..wh.a", b".wh..wh..opq",
            b".wh..wh..opq.", b".wh..wh..wh..opq", b".wh..wh.layerfs-convert", b".wh..wh.plnk", b".wh..wh.aufs",
            b".wh." + b"n" * 251, b".wh.\xff\xfe", b".wh.n/"[:5], b".wh.\n", b".wh..a"]


def ignoring(*errors):
    """The storage may refuse a harm: what it cannot hold, nobody meets there."""
    class Ignoring:
        def __enter__(self):
            return self

        def __exit__(self, kind, error, trace):
            return isinstance(error, OSError) and (not errors or error.errno in errors)
    return Ignoring()


def set_attribute(path, name, value):
    """True: it is there."""
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError:
        return False
    return True


def put(path, content=b""):
    with open(path, "xb") as file:
        file.write(OURS + content)


def device(path, major, minor, kind=stat.S_IFCHR):
    os.mknod(path, kind | 0o666, os.makedev(major, minor))


def make_socket(path):
    # By a short name: the address holds 107 bytes.
    above = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    here = os.open(".", os.O_PATH)
    try:
        os.fchdir(above)
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(b"s%d" % above)
        os.rename(b"s%d" % above, os.path.basename(path))
    finally:
        os.fchdir(here)
        os.close(above)
        os.close(here)


class Generator:
    """Random layers, the same for one `rng` state."""

    def __init__(self, rng, outside):
        self.rng = rng
        self.outside = outside
        self.values = values(outside)
        self.ways = outside.ways()

    def make(self, root):
        os.makedirs(root, exist_ok=True)
        self._fill(root, 3)
        if self.rng.random() < 0.3:
            self._mark(root, self.rng.randrange(1, 3))

    def _fill(self, directory, depth):
        for _ in range(self.rng.randrange(2, 9)):
            name = self.rng.choice(RESERVED if self.rng.random() < 0.25 else NAMES[:6] if self.rng.random() < 0.7 else NAMES)
            path = directory + b"/" + name
            with ignoring():
                self._object(path, depth)
            if self.rng.random() < 0.5:
                self._mark(path, self.rng.randrange(1, 4))

    def _object(self, path, depth):
        kind = self.rng.random()
        if kind < 0.45 and depth > 0:
            os.mkdir(path, self.rng.choice([0o755, 0o700, 0o1777, 0o2755, 0]))
            self._fill(path, depth - 1)
        elif kind < 0.65:
            put(path, b"x" * self.rng.choice([0, 1, 5000]))
            os.chmod(path, self.rng.choice([0o644, 0o4755, 0o2755, 0, 0o600]))
        elif kind < 0.70:
            open(path, "xb").close()
        elif kind < 0.82:
            os.symlink(self.rng.choice(self.ways + [b".", b"..", b"/", b"a", b"b", path, os.path.basename(path),
                                                    b"/proc/self/root", b"/proc/self/fd/3", b"x" * 4000]), path)
        elif kind < 0.88:
            device(path, *self.rng.choice([(0, 0), (0, 0), (0, 1), (1, 0), (1, 3), (1, 5), (10, 229), (4095, 1048575)]))
        elif kind < 0.90:
            device(path, *self.rng.choice([(0, 0), (7, 0), (250, 1)]), stat.S_IFBLK)
        elif kind < 0.93:
            os.mkfifo(path)
        elif kind < 0.95:
            make_socket(path)
        else:
            os.link(os.path.dirname(path) + b"/" + self.rng.choice(NAMES[:6]), path, follow_symlinks=False)

    def _mark(self, path, count):
        for _ in range(count):
            name = self.rng.choice(ATTRIBUTES)
            # What means something as often as what does not.
            value = self.rng.choice(self._sensible(name) if self.rng.random() < 0.5 else self.values)
            set_attribute(path, name, value)

    def _sensible(self, name):
        if name.endswith("opaque"):
            return [b"y", b"x"]
        if name.endswith("redirect"):
            return [b"/a", b"/b", b"/a/b", b"/c/a", b"a", b"b", b"c", b"/a/a/a", *self.ways]
        if name.endswith("override_stat"):
            return [b"0:0:0755:dir", b"1:1:0644:file", b"0:0:0777:symlink", b"0:0:0:char-0-0", b"0:0:06755"]
        if name.endswith("nlink"):
            return [b"U+1", b"U-1", b"U-5", b"U+3"]
        return [b"", b"y"]


def opaque(path, value=b"y"):
    os.setxattr(path, "trusted.overlay.opaque", value, follow_symlinks=False)


def redirect(path, value, namespace="trusted.overlay."):
    os.setxattr(path, namespace + "redirect", value, follow_symlinks=False)


def metacopy(path, target=None, namespace="trusted.overlay.", size=len(OURS)):
    """A file that is to have the data of what it is redirected to."""
    with ignoring(errno.EEXIST):
        os.mknod(path, 0o644)
    os.truncate(path, size)
    os.setxattr(path, namespace + "metacopy", b"")
    if target is not None:
        set_attribute(path, namespace + "redirect", target)


def show_marks_to_users(layer):
    """Of those that only root sees a copy in the namespace that all see."""
    for above, folders, files in os.walk(layer):
        for path in [above, *(above + b"/" + name for name in folders + files)]:
            with ignoring():
                for name in os.listxattr(path, follow_symlinks=False):
                    if name.startswith(NAMESPACES[0]):
                        value = os.getxattr(path, name, follow_symlinks=False)
                        set_attribute(path, NAMESPACES[1] + name[len(NAMESPACES[0]):], value)
