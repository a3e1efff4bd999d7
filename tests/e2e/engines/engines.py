"""podman and buildah with a storage of their own, as root or as an unprivileged user."""
import contextlib
import ctypes
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile

SKIP = 77
BUSYBOX = "/bin/busybox"
USER = "layerfs-test"
CLONE_NEWNS = 0x20000

DOCKERFILE = """FROM scratch
COPY busybox /bin/busybox
COPY busybox /bin/sh
RUN /bin/busybox mkdir -p /etc /tmp /var/spool && /bin/busybox chmod 1777 /tmp && /bin/busybox --install -s /bin && echo a > /etc/one && echo b > /etc/two && echo root:x:0:0:root:/:/bin/sh > /etc/passwd
RUN rm /etc/one && mkdir /d && touch /d/x && ln /d/x /d/y && ln -s two /etc/link && mkfifo /d/fifo
RUN chmod 4755 /d/x && chown 7:8 /etc/two && mv /var/spool /var/moved && rm -r /d && mkdir /d && echo again > /d/z
COPY --chown=5:6 Dockerfile /d/copied
"""


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(SKIP)


# Where the tests on a Debian root keep theirs, and the layer that is a whole system.
DEBIAN_LAYER = (pathlib.Path(os.environ.get("LAYERFS_E2E_DIR", "/var/tmp/layerfs-e2e"))
                / "root" / "root" / "layer1")

# Installs, upgrades nothing and removes; what tells of the time or of inode numbers goes.
DEBIAN_FORGET = ("rm -rf /var/log/* /var/lib/apt/lists /var/cache/apt/*.bin "
                 "/var/cache/ldconfig /var/lib/dpkg/*-old /tmp/*")
DEBIAN_DOCKERFILE = f"""FROM scratch
ADD base.tar /
ENV DEBIAN_FRONTEND=noninteractive
COPY layerfs-greeting.deb /tmp/
RUN apt-get -o APT::Sandbox::User=root -q -y --no-install-recommends install /tmp/layerfs-greeting.deb && {DEBIAN_FORGET}
RUN apt-get -q -y purge nano && {DEBIAN_FORGET}
RUN useradd -m bob && chown -R bob /usr/share/layerfs-greeting && mv /usr/share/layerfs-greeting /srv/moved && rm -f /etc/*- && {DEBIAN_FORGET}
COPY --chown=bob:games Dockerfile /srv/copied
RUN rm -rf /usr/share/common-licenses && mkdir /usr/share/common-licenses && chmod 700 /srv
"""


def make_debian_context(directory):
    """What a build on a Debian root needs, or why it cannot be."""
    if not DEBIAN_LAYER.is_dir():
        return f"{DEBIAN_LAYER} is missing; the tests on a Debian root make it"
    directory.mkdir()
    subprocess.run(["tar", "-C", DEBIAN_LAYER, "--numeric-owner", "--xattrs",
                    *(f"--exclude=./usr/share/{name}/*" for name in ("doc", "locale", "man")),
                    "-cf", directory / "base.tar", "."], check=True)
    tree = directory / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: layerfs-greeting\nVersion: 1\nArchitecture: all\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: a file and a program\n")
    (tree / "DEBIAN/postinst").write_text("#!/bin/sh\nln -sf greeting /usr/bin/greet\n")
    (tree / "DEBIAN/postinst").chmod(0o755)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/greeting").write_text("#!/bin/sh\ncat /srv/moved/text\n")
    (tree / "usr/bin/greeting").chmod(0o755)
    (tree / "usr/share/layerfs-greeting").mkdir(parents=True)
    (tree / "usr/share/layerfs-greeting/text").write_text("hello\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree,
                    directory / "layerfs-greeting.deb"], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    (directory / "Dockerfile").write_text(DEBIAN_DOCKERFILE)
    return None


class Storage:
    """One driver's images and containers, below a directory of the caller's."""

    def __init__(self, ground, name, driver, mount_program=None, options=()):
        assert len(f"{ground.own}/{name}/run") <= 50, name
        self.ground = ground
        self.driver = driver
        self.options = options
        self.dir = ground.own / name
        self.dir.mkdir()
        self.use(mount_program)
        ground.give(self.dir, self.dir / "storage.conf")

    def use(self, mount_program):
        """From now on; None is the kernel's own."""
        self.mount_program = mount_program
        lines = ["[storage]", f'driver = "{self.driver}"', f'graphroot = "{self.dir}/graph"',
                 f'runroot = "{self.dir}/run"', f'rootless_storage_path = "{self.dir}/graph"']
        lines.append("[storage.options.overlay]")
        if mount_program:
            lines.append(f'mount_program = "{mount_program}"')
        lines += self.options
        (self.dir / "storage.conf").write_text("\n".join(lines) + "\n")

    def call(self, program, *words, check=True, timeout=120):
        done = subprocess.run(
            [*self.ground.become, program, "--cgroup-manager", "cgroupfs",
             *map(str, words)],
            env={**self.ground.environment, "CONTAINERS_STORAGE_CONF": f"{self.dir}/storage.conf"},
            cwd=self.ground.own, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{program} {' '.join(map(str, words))}: exit {done.returncode}\n"
                                 f"{done.stdout}{done.stderr}")
        return done

    def podman(self, *words, **options):
        return self.call("podman", "--runtime", "runc", "--log-level", "error", *words, **options)

    def build(self, tag, context=None):
        """Times pinned, a layer a step: so that the digests can be compared. What it says."""
        done = self.call("buildah", "bud", "--isolation", "chroot", "--layers", "--timestamp", "0",
                         "-t", tag, context or self.ground.context, timeout=400)
        return done.stdout + done.stderr

    def layers(self, image):
        text = self.podman("image", "inspect", image, "--format",
                           "{{range .RootFS.Layers}}{{println .}}{{end}}").stdout
        return text.split()

    def end(self):
        with contextlib.suppress(Exception):
            self.podman("rm", "-a", "-f", "-t", "0", check=False)
        with contextlib.suppress(Exception):
            self.podman("rmi", "-a", "-f", check=False)


class Ground:
    def __init__(self, caller):
        self.caller = caller
        if os.geteuid() != 0:
            skip("needs root, also to become another user")
        if not os.path.exists("/dev/fuse"):
            skip("there is no /dev/fuse")
        for program in ("podman", "buildah", "runc", BUSYBOX):
            if not shutil.which(program):
                skip(f"{program} is not installed")
        # Short: podman's cleanup of a container refuses a runroot of over 50 bytes, and the
        # podman that waits for it takes 20 s to notice.
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lfs.", dir="/var/tmp"))
        self.dir.chmod(0o755)
        self.own = self.dir / "own"
        self.own.mkdir()
        self.context = self.dir / "context"
        self.context.mkdir()
        shutil.copy(BUSYBOX, self.context / "busybox")
        (self.context / "Dockerfile").write_text(DOCKERFILE)
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                            "HOME": str(self.own), "XDG_RUNTIME_DIR": str(self.own / "xdg"),
                            "TMPDIR": str(self.own)}
        (self.own / "xdg").mkdir(mode=0o700)
        self.become = []
        self.private_mounts()
        if caller == "user":
            self.take_user()
        # The limits of this machine may be below those that podman asks for.
        self.run_words = (["--ulimit", "host"] if caller == "user" else
                          ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"])
        self.run_words += ["--network", "none"]

    def private_mounts(self):
        """Nothing of this is seen outside, nor left behind."""
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
            skip("no mount namespace can be made")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        node = self.dir / "fuse"
        os.mknod(node, 0o666 | 0o020000, os.makedev(10, 229))
        node.chmod(0o666)
        subprocess.run(["mount", "--bind", str(node), "/dev/fuse"], check=True)

    def take_user(self):
        try:
            entry = pwd.getpwnam(USER)
        except KeyError:
            subprocess.run(["useradd", USER], check=True)
            entry = pwd.getpwnam(USER)
        if USER + ":" not in pathlib.Path("/etc/subuid").read_text():
            skip(f"/etc/subuid has no ids for {USER}")
        self.become = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}",
                       "--init-groups"]
        self.user = entry
        self.give(self.own, self.own / "xdg")

    def give(self, *paths):
        for path in paths:
            if self.become:
                os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def end(self):
        # What the user's ids made belongs to nobody outside of the user's namespace.
        subprocess.run("awk '{print $5}' /proc/self/mountinfo | grep -F " + f"{self.own}/ | "
                       "xargs -r umount -l", shell=True, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)
