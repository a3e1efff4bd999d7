"""Each makes three lowers, the first on top, and an upper, with one harm. What can be in a lower is in the upper too."""

import os
import stat

from layers import (ATTRIBUTES, OURS, RESERVED, device, ignoring, make_socket, metacopy, opaque, put, redirect, set_attribute,
                    values)


def tree(root, *names):
    """Directories end with a slash."""
    for name in names:
        path = root + b"/" + name
        os.makedirs(path if name.endswith(b"/") else os.path.dirname(path), exist_ok=True)
        if not name.endswith(b"/"):
            put(path)


def symlinks_in_the_middle(lowers, upper, outside):
    """A directory in one layer is a symlink to the outside in another, above and below."""
    for number, target in enumerate(outside.ways()[:24]):
        name = b"/s%d" % number
        tree(lowers[number % 3], name[1:] + b"/dir/file", name[1:] + b"/file")
        os.symlink(target, lowers[(number + 1) % 3] + name)
        tree(upper, name[1:] + b"/dir/new")
        os.symlink(target, lowers[(number + 1) % 3] + b"/only%d" % number)


def redirect_through_symlinks(lowers, upper, outside):
    """The way that a redirect names has symlinks in it, in some of the layers below."""
    tree(lowers[1], b"real/file", b"real/dir/file")
    for number, target in enumerate([outside.path, b"../outside", b"real", b"/real", b"."]):
        os.symlink(target, lowers[0] + b"/s%d" % number)
        os.symlink(target, lowers[2] + b"/t%d" % number)
        for way in b"/s%d", b"/t%d", b"/s%d/dir", b"/t%d/dir", b"s%d", b"t%d":
            name = b"/r%d" % number + way.replace(b"/", b"_").replace(b"%d", b"")
            os.mkdir(upper + name)
            redirect(upper + name, way % number)
            metacopy(upper + b"/m" + name[1:], (way % number) + b"/file")


def redirects_outside(lowers, upper, outside):
    """Of directories and of files that say that their data is elsewhere, in every layer."""
    for layer in [*lowers, upper]:
        tree(layer, b"plain/file")
        for number, way in enumerate(outside.ways()):
            for namespace in "trusted.overlay.", "user.overlay.":
                directory = layer + b"/d%d" % number
                os.makedirs(directory, exist_ok=True)
                redirect(directory, way, namespace)
                metacopy(layer + b"/f%d" % number, way, namespace)


def redirects_of_any_text(lowers, upper, outside):
    for layer in lowers[0], upper:
        for number, value in enumerate(values(outside)):
            os.mkdir(layer + b"/d%d" % number)
            if set_attribute(layer + b"/d%d" % number, "trusted.overlay.redirect", value):
                put(layer + b"/d%d/in" % number)
            metacopy(layer + b"/f%d" % number, value)


def redirects_in_circles(lowers, upper, outside):
    """Each layer's directories lead to one another, to themselves and to what they are in."""
    for layer in [*lowers, upper]:
        tree(layer, b"a/b/c/file", b"b/a/c/file", b"c/a/b/file")
        for path, target in ((b"a", b"/b"), (b"b", b"/c"), (b"c", b"/a"), (b"a/b", b"/a"), (b"b/a", b"/b/a"), (b"c/a", b"/c/a/b"),
                             (b"a/b/c", b"/a"), (b"b/a/c", b"c"), (b"c/a/b", b"/b/a/c")):
            redirect(layer + b"/" + path, target)


def metacopies_in_circles(lowers, upper, outside):
    for layer in [*lowers, upper]:
        for name, target in ((b"a", b"/b"), (b"b", b"/c"), (b"c", b"/a"), (b"d", b"d"), (b"e", b"/e"), (b"f", None)):
            metacopy(layer + b"/" + name, target)
    tree(lowers[2], b"x/a")


def metacopies_of_what_is_no_file(lowers, upper, outside):
    """The data of a file is said to be a directory, a symlink, a FIFO, a socket, a device."""
    below = lowers[1]
    tree(below, b"dir/")
    os.symlink(outside.path + b"/file", below + b"/symlink")
    os.mkfifo(below + b"/fifo")
    make_socket(below + b"/socket")
    device(below + b"/zero", 1, 5)
    device(below + b"/whiteout", 0, 0)
    device(below + b"/nothing", 4095, 1048575)
    for layer in lowers[0], upper:
        for name in b"dir", b"symlink", b"fifo", b"socket", b"zero", b"whiteout", b"nothing":
            metacopy(layer + b"/to-" + name, b"/" + name, size=4096)
            metacopy(layer + b"/" + name, size=4096)


def metacopies_of_other_sizes(lowers, upper, outside):
    """More, or less, than the data that is below."""
    for number, size in enumerate([0, 1, len(OURS) - 1, len(OURS)]):
        tree(lowers[0], b"f%d" % number)
        metacopy(upper + b"/f%d" % number, size=size)


def metacopies_of_more_than_there_is(lowers, upper, outside):
    """What is missing reads as an error, or as the end."""
    tree(lowers[2], b"f0", b"f1", b"f2")
    for layer in lowers[0], upper:
        for number, size in enumerate([1 << 20, 1 << 40, (1 << 43) - 1]):
            with ignoring():
                metacopy(layer + b"/f%d" % number, size=size)


def overrides_of_the_type(lowers, upper, outside):
    """override_stat says of every kind of object that it is of another."""
    types = [b"file", b"dir", b"symlink", b"pipe", b"socket", b"char-1-5", b"block-7-0", b"char-0-0"]
    for layer in [*lowers, upper]:
        for attribute in "user.containers.override_stat", "user.fuseoverlayfs.override_stat":
            os.setxattr(layer, attribute, b"0:0:0755:dir")
        for number, type_ in enumerate(types):
            directory = layer + b"/%d" % number
            os.mkdir(directory)
            tree(directory, b"dir/file", b"file")
            os.mkfifo(directory + b"/fifo")
            make_socket(directory + b"/socket")
            device(directory + b"/zero", 1, 5)
            device(directory + b"/null", 1, 3, stat.S_IFCHR)
            os.symlink(outside.path + b"/file", directory + b"/symlink")
            for name in os.listdir(directory):
                for attribute in "user.containers.override_stat", "user.fuseoverlayfs.override_stat":
                    set_attribute(directory + b"/" + name, attribute, b"0:0:0755:" + type_)
        # The lower is to be seen too.
        if layer == upper:
            tree(layer, b"other/file")
            set_attribute(layer + b"/other", "user.containers.override_stat", b"0:0:0644:file")


def overrides_of_a_root(lowers, upper, outside):
    for layer in [*lowers, upper]:
        os.setxattr(layer, "user.containers.override_stat", b"0:0:0755:file")
        tree(layer, b"a/b")


def overrides_of_any_text(lowers, upper, outside):
    for layer in lowers[0], upper:
        os.setxattr(layer, "user.containers.override_stat", b"0:0:0755:dir")
        for number, value in enumerate(values(outside)):
            put(layer + b"/f%d" % number)
            set_attribute(layer + b"/f%d" % number, "user.containers.override_stat", value)


def whiteouts_with_odd_names(lowers, upper, outside):
    """`.wh.` alone, of `.`, of `..`, of a whiteout, of 255 bytes."""
    for layer in [*lowers, upper]:
        tree(layer, b"a/a", b"b/b", b"c")
        for name in RESERVED:
            with ignoring():
                put(layer + b"/a/" + name)
    for name in RESERVED:
        if name != b".wh..wh..opq":
            with ignoring():
                put(upper + b"/" + name)


def whiteouts_of_odd_kinds(lowers, upper, outside):
    """Directories with something in them, symlinks, FIFOs, sockets and devices by names of whiteouts."""
    for layer in [*lowers, upper]:
        for number, make in enumerate([lambda path: tree(path, b"in/file", b".wh.x"), lambda path: os.symlink(outside.path, path), os.mkfifo,
                                       make_socket, lambda path: device(path, 0, 0), lambda path: device(path, 1, 5)]):
            directory = layer + b"/d%d" % number
            tree(directory, b"a/in", b"b", b"x", b"sub/a/b")
            for name in b".wh.a", b".wh.b", b".wh.c", b".wh..wh..opq", b".wh..wh.layerfs-convert":
                with ignoring():
                    make(directory + b"/" + name)
            with ignoring():
                make(directory + b"/sub/.wh..wh..opq")
            with ignoring():
                make(layer + b"/.wh.d%d" % number)


def device_whiteouts_of_other_numbers(lowers, upper, outside):
    tree(lowers[2], b"a", b"b", b"c", b"d/e", b"e")
    for layer in lowers[0], upper:
        for name, numbers in ((b"a", (0, 1)), (b"b", (1, 0)), (b"c", (0, 0)), (b"d", (0, 0)), (b"e", (4095, 1048575))):
            device(layer + b"/" + name, *numbers)
        device(layer + b"/block", 0, 0, stat.S_IFBLK)


def opaque_marks_on_what_is_no_directory(lowers, upper, outside):
    for layer in [*lowers, upper]:
        tree(layer, b"file", b"dir/file")
        os.symlink(outside.path, layer + b"/symlink")
        device(layer + b"/null", 1, 3)
        os.mkfifo(layer + b"/fifo")
        for name in b"file", b"symlink", b"null", b"fifo":
            for suffix in "opaque", "redirect", "impure", "whiteout", "metacopy", "nlink":
                set_attribute(layer + b"/" + name, "trusted.overlay." + suffix, b"y")


def opaque_layers(lowers, upper, outside):
    """All of it hidden, by all marks at once."""
    for layer in [*lowers, upper]:
        tree(layer, b"a/a")
        for value in b"y", b"x":
            opaque(layer, value)
        redirect(layer, b"/a")
        os.setxattr(layer, "user.fuseoverlayfs.opaque", b"y")


def whiteouts_by_attribute(lowers, upper, outside):
    tree(lowers[2], b"a/b", b"b")
    for layer in lowers[0], lowers[1], upper:
        tree(layer, b"a/a", b"c")
        opaque(layer + b"/a", b"x")
        opaque(layer, b"x")
        for name in b"a/b", b"b", b"a/c":
            os.mknod(layer + b"/" + name, 0o644)
            os.setxattr(layer + b"/" + name, "user.overlay.whiteout", b"")
        os.symlink(outside.path, layer + b"/s")
        set_attribute(layer + b"/s", "trusted.overlay.whiteout", b"")


def every_attribute_with_every_value(lowers, upper, outside):
    """On one object each, so that the harm of one does not hide that of another."""
    texts = values(outside)
    for layer in lowers[0], upper:
        for number, name in enumerate(ATTRIBUTES):
            directory = layer + b"/%d" % number
            os.mkdir(directory)
            for index in range(number % 3, len(texts), 3):
                path = directory + b"/%d" % index
                if index % 2:
                    put(path)
                else:
                    tree(path, b"in")
                set_attribute(path, name, texts[index])


def huge_attributes(lowers, upper, outside):
    """64 KiB each, which is the most."""
    for layer in lowers[0], upper:
        for number, name in enumerate(ATTRIBUTES):
            path = layer + b"/%d" % number
            put(path)
            set_attribute(path, name, b"/" + b"x" * 65535)
            for more in range(8):
                set_attribute(path, "trusted.x%d" % more, b"x" * 65536)


def more_attributes_than_can_be_listed(lowers, upper, outside):
    """10^5 on one object, of which the kernel lists no more than 64 KiB of names."""
    for layer, count in ((lowers[0], 100_000), (upper, 5000)):
        tree(layer, b"dir/file", b"file", b"other")
        for path in b"/dir", b"/file":
            for number in range(count if path == b"/dir" else 3000):
                os.setxattr(layer + path, "trusted.overlay.%d-of-very-many-attributes" % number, b"")


def as_many_attributes_as_can_be_listed(lowers, upper, outside):
    for layer in lowers[0], upper:
        tree(layer, b"dir/file", b"file")
        for path in b"/dir", b"/file":
            for number in range(2300):
                os.setxattr(layer + path, "trusted.%d-of-many-more" % number, b"v" * 20)


def names_as_long_as_they_get(lowers, upper, outside):
    """With the prefix of a whiteout they do not fit."""
    for layer in [*lowers, upper]:
        tree(layer, b"n" * 255, b"m" * 252, b"o" * 251, b"d" * 255 + b"/" + b"e" * 255 + b"/" + b"f" * 255)
        redirect(layer + b"/" + b"d" * 255, b"/" + b"d" * 255)


def names_that_are_no_text(lowers, upper, outside):
    for layer in [*lowers, upper]:
        for name in b"\xff", b"\xff\xfe\n", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\n", b"\\", b"\x1b]0;x\x07", b"a\tb", b":", b"-", b"\x7f":
            tree(layer, name + b"/" + name, b"f" + name)
            os.symlink(name, layer + b"/s" + name)
            redirect(layer + b"/" + name, name)
            os.setxattr(layer + b"/f" + name, b"user." + name, name)


def directories_deeper_than_a_path(lowers, upper, outside):
    for layer in lowers[2], upper:
        here = os.open(layer, os.O_PATH)
        for depth in range(60):
            os.mkdir(b"d" * 200, dir_fd=here)
            below = os.open(b"d" * 200, os.O_PATH, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open(b"f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)


def a_symlink_where_others_have_the_root_of_all(lowers, upper, outside):
    """Each layer has nothing but symlinks, some by names of whiteouts."""
    for layer in [*lowers, upper]:
        for name in b"a", b"b", b".wh.a", b".wh..wh..opq", b"outside":
            os.symlink(outside.path, layer + b"/" + name)


def forged_links(lowers, upper, outside):
    """The counts and origins of hard links are those of others, and so is what the index has."""
    tree(lowers[0], b"a", b"b")
    for name in b"l1", b"l2", b"l3":
        os.link(lowers[0] + b"/a", lowers[0] + b"/" + name)
    status = os.lstat(lowers[0] + b"/a")
    fsid = os.statvfs(lowers[0]).f_fsid
    os.setxattr(upper, "trusted.overlay.impure", b"y")
    for number, count in enumerate([b"U+1", b"U-1", b"U-100", b"U+2147483647", b"U-2147483648", b"L+1", b"U+99999999999"]):
        path = upper + b"/u%d" % number
        put(path)
        os.link(path, path + b"-2")
        os.setxattr(path, "trusted.overlay.nlink", count)
        os.setxattr(path, "trusted.overlay.layerfs.origin", b"v1 %x %x %x" % (fsid, status.st_ino, os.lstat(path).st_ino))
    index = upper.replace(b"/u", b"/.u.layerfs-work") + b"/layerfs.index"
    os.makedirs(index)
    names = [b"%016x-%016x" % (fsid, status.st_ino), b"0" * 16 + b"-" + b"0" * 16, b"f" * 16 + b"-" + b"f" * 16, b"x", b"..."]
    for layer in lowers:
        # Whatever order the halves of the id are in.
        swapped = (fsid >> 32) | ((fsid & 0xffffffff) << 32)
        names += [b"%016x-%016x" % (swapped, os.lstat(layer).st_ino + more) for more in range(6)]
    for number, name in enumerate(names):
        path = index + b"/" + name
        with ignoring():
            if number % 4 == 0:
                os.symlink(outside.path + b"/file", path)
            elif number % 4 == 1:
                tree(path, b"in/file")
            elif number % 4 == 2:
                os.mkfifo(path)
            else:
                put(path)
                os.setxattr(path, "trusted.overlay.nlink", b"U+2147483647")


def a_work_directory_of_symlinks(lowers, upper, outside):
    """What is in the work directory leads outside, which is to be emptied."""
    work = upper.replace(b"/u", b"/.u.layerfs-work")
    os.makedirs(work + b"/work/dir")
    os.symlink(outside.path, work + b"/work/outside")
    os.symlink(outside.path, work + b"/work/dir/outside")
    os.symlink(outside.path + b"/file", work + b"/work/layerfs-probe")
    os.symlink(outside.path + b"/file", work + b"/work/layerfs-owner-probe")
    os.symlink(outside.path, work + b"/work/#0")
    tree(lowers[0], b"a/file")


def a_work_directory_that_is_elsewhere(lowers, upper, outside):
    work = upper.replace(b"/u", b"/.u.layerfs-work")
    os.mkdir(work)
    os.symlink(outside.path, work + b"/work")
    os.symlink(outside.path + b"/dir", work + b"/layerfs.index")
    tree(lowers[0], b"a/file")


def special_files(lowers, upper, outside):
    """What nobody may open to look at it."""
    for layer in [*lowers, upper]:
        os.mkfifo(layer + b"/fifo")
        make_socket(layer + b"/socket")
        for number, numbers in enumerate([(1, 5), (1, 3), (5, 1), (10, 229), (0, 1)]):
            device(layer + b"/char%d" % number, *numbers)
            device(layer + b"/block%d" % number, *numbers, stat.S_IFBLK)
            for name in b"/char%d", b"/block%d":
                for suffix in "metacopy", "redirect":
                    set_attribute(layer + name % number, "trusted.overlay." + suffix, b"/char0")
                set_attribute(layer + name % number, "user.containers.override_stat", b"0:0:0644:file")


def directories_nobody_may_enter(lowers, upper, outside):
    """Modes of nothing, sticky and set-id bits on everything."""
    for layer in [*lowers, upper]:
        for mode in 0, 0o7777, 0o1000, 0o111:
            tree(layer, b"d%o/d/f" % mode)
            os.chmod(layer + b"/d%o/d/f" % mode, mode)
            os.chmod(layer + b"/d%o/d" % mode, mode)
            os.chown(layer + b"/d%o" % mode, 4294967294, 4294967294)


CASES = [case for case in list(globals().values())
         if callable(case) and getattr(case, "__module__", None) == __name__ and case is not tree]
# Those that a mount may refuse, all other are there to be used.
REFUSED_TO_USERS = []
REFUSED = [overrides_of_a_root, a_work_directory_that_is_elsewhere]
