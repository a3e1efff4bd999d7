"""Small trees that have every kind of object, and changes of every kind."""

import os
import pathlib
import socket
import stat

# A file capability, revision 2: cap_net_raw, permitted and effective (linux/capability.h).
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


def put(path: pathlib.Path, content=b"", mode=0o644, owner=(0, 0), time_ns=1_000_000_000_123_456_789):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.chown(path, *owner)
    os.chmod(path, mode)
    os.utime(path, ns=(time_ns, time_ns))


def make_lower(root: pathlib.Path):
    root.mkdir(exist_ok=True)
    put(root / "etc/passwd", "root:x:0:0::/:/bin/sh\n")
    put(root / "etc/gone", "to be deleted\n")
    put(root / "bin/suid", "x", mode=0o4755)
    put(root / "bin/ping", "x", mode=0o755)
    os.setxattr(root / "bin/ping", "security.capability", CAPABILITY)
    put(root / "big-owner", "x", owner=(3_000_000, 4_000_000))
    put(root / "links/a", "linked\n")
    for name in "b", "c":
        os.link(root / "links/a", root / "links" / name)
    put(root / "opaque/old", "old\n")
    put(root / "opaque/deep/er", "old\n")
    put(root / "moved/sub/file", "moved\n")
    put(root / "private/f", "f\n")
    os.chmod(root / "private", 0o700)
    os.chown(root / "private", 5, 6)
    put(root / "type/file-to-dir", "f\n")
    (root / "type/dir-to-file").mkdir()
    put(root / "type/dir-to-file/x", "x\n")
    os.symlink("../etc/passwd", root / "type/link")
    os.symlink("dangling/" + "x" * 150, root / "long-target")
    put(root / ("n" * 200) / ("m" * 250), "long\n")
    put(pathlib.Path(os.fsdecode(bytes(root) + b"/caf\xe9")), "latin1\n")
    put(root / "e\u0301-decomposed", "x\n")
    put(root / "spaces and\nnewline", "x\n")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "loop", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    with open(root / "sparse", "wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"middle")
    put(root / "attributes", "x")
    os.setxattr(root / "attributes", "user.text", b"value")
    os.setxattr(root / "attributes", "user.binary", b"\x00\xff=\n")
    os.setxattr(root / "attributes", "trusted.mine", b"1")
    os.mkdir(root / "sticky")
    os.chmod(root / "sticky", 0o1777)
    put(root / "old", "x", time_ns=-5_500_000_000)


def make_changes(root: pathlib.Path):
    put(root / "etc/passwd", "root:x:0:0::/:/bin/bash\n")
    os.unlink(root / "etc/gone")
    put(root / "etc/fresh", "new\n")
    os.unlink(root / "links/b")
    with open(root / "links/a", "a") as file:
        file.write("more\n")
    for name in "old", "deep/er":
        os.unlink(root / "opaque" / name)
    os.rmdir(root / "opaque/deep")
    os.rmdir(root / "opaque")
    os.mkdir(root / "opaque")
    put(root / "opaque/new", "new\n")
    os.rename(root / "moved", root / "renamed")
    put(root / "renamed/added", "x\n")
    os.unlink(root / "type/file-to-dir")
    put(root / "type/file-to-dir/inside", "x\n")
    os.unlink(root / "type/dir-to-file/x")
    os.rmdir(root / "type/dir-to-file")
    put(root / "type/dir-to-file", "now a file\n")
    os.unlink(root / "type/link")
    os.symlink("elsewhere", root / "type/link")
    os.chmod(root / "private", 0o711)
    os.chmod(root / "bin/suid", 0o755)
    os.chown(root / "big-owner", 1, 2)
    os.setxattr(root / "attributes", "user.text", b"changed")
    os.removexattr(root / "attributes", "user.binary")
    put(root / "hard/one", "linked anew\n")
    os.link(root / "hard/one", root / "hard/two")
    os.mkfifo(root / "hard/pipe")
    os.link(root / "hard/pipe", root / "hard/pipe2")
    with open(root / "sparse", "r+b") as file:
        file.seek(2 << 20)
        file.write(b"again")
    os.utime(root / "old", ns=(7_000_000_001, 7_000_000_001))
    put(root / "temporary", "x")
    os.unlink(root / "temporary")


def _remove_tree(path: pathlib.Path):
    for parent, folders, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(parent, name))
        for name in folders:
            os.rmdir(os.path.join(parent, name))
    os.rmdir(path)


def _opaque(root, names):
    _remove_tree(root / "d")
    for name in names:
        put(root / "d" / name, name + "\n")


def _links(root, names):
    put(root / "d" / names[0], "linked " + names[0] + "\n")
    for name in names[1:]:
        os.link(root / "d" / names[0], root / "d" / name)


# Each changes what the ones before have made.
TEN_LAYERS = [
    lambda root: (put(root / "d/one", "1\n"), put(root / "d/sub/two", "2\n"), put(root / "keep", "k\n")),
    lambda root: _links(root, ["l1", "l2", "l3"]),
    lambda root: os.unlink(root / "d/l2"),
    lambda root: _opaque(root, ["a", "b"]),
    lambda root: _links(root, ["l1", "l2"]),
    lambda root: (os.unlink(root / "d/a"), put(root / "d/sub/three", "3\n")),
    lambda root: (os.rename(root / "d/sub", root / "d/renamed"), put(root / "d/sub/four", "4\n")),
    lambda root: (os.unlink(root / "d/l1"), os.link(root / "d/l2", root / "d/l4")),
    lambda root: (_remove_tree(root / "d/renamed"), put(root / "d/renamed", "a file\n")),
    lambda root: (os.unlink(root / "d/renamed"), put(root / "d/renamed/dir", "again\n"), os.unlink(root / "keep")),
]
