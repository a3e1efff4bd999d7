"""What each option of fuse-overlayfs does, seen from outside."""
import shutil
import subprocess

from engines import skip

# Words after the layers, what is done with the mount m, and what that prints. The upper is u.
CASES = (
    ("", "flags", "rw,nodev,noatime"),
    ("dev,suid", "flags", "rw,noatime"),
    ("ro", "flags; touch m/x", "ro,nodev,noatime|Read-only file system"),
    ("nosuid,noexec", "flags", "rw,nosuid,nodev,noexec,noatime"),
    ("atime,nodiratime", "flags", "rw,nodev,nodiratime,relatime"),
    ("squash_to_root", "stat -c %u:%g m/d/x; touch m/n; chown 9:9 m/n; stat -c %u:%g m/n u/n",
     "0:0|0:0|9:9"),
    ("squash_to_uid=3,squash_to_gid=4", "stat -c %u:%g m/one m/d/x", "3:4|3:4"),
    ("uidmapping=:0:1000:1:1:2000:99,gidmapping=:0:1000:1:1:2000:99",
     "stat -c %u:%g m/one m/d/x; chown 2006:2007 m/one; stat -c %u:%g m/one u/one",
     "1000:1000|2004:2005|2006:2007|7:8"),
    # Root has no place in that map, and engines work as root in such mounts.
    ("uidmapping=:0:1000:1:1:2000:99,gidmapping=:0:1000:1:1:2000:99",
     "mkdir m/new; touch m/new/f; chown 7:2003 m/new/f; stat -c %u:%g u/new u/new/f m/new",
     "65534:65534|65534:4|65534:65534"),
    ("static_nlink", "mkdir m/d/a m/d/b; stat -c %h m/d", "1"),
    ("noxattrs=1", "attribute m/one user.a", "Operation not supported"),
    ("noxattrs=0", "attribute m/one user.a", "b'value'"),
    ("noacl", "cat m/one", "1"),
    ("xattr_permissions=2",
     "echo a > m/f; chown 7:8 m/f; chmod 4640 m/f; mkfifo m/fifo; stat -c '%u:%g %a %F' "
     "m/f m/fifo; stat -c '%u %F' u/f u/fifo; attributes u/f u/fifo",
     "7:8 4640 regular file|0:0 644 fifo|0 regular file|0 regular empty file|"
     "7:8:4640:file|0:0:0644:pipe"),
    ("volatile", "mounted_again", "kept"),
    ("fsync=0", "mounted_again", "kept"),
    ("fsync=1", "mounted_again", "kept"),
    ("timeout=0.5,threaded=1,fast_ino=1,writeback=0,xino=on,ino32_t,max_write=65536", "cat m/one",
     "1"),
    ('context="system_u:object_r:container_file_t:s0:c1,c2"', "cat m/one", "1"),
    ("redirect_dir=off", "rename m/d m/e", "Invalid cross-device link"),
    ("redirect_dir=on", "rename m/d m/e; ls m/e", "x"),
    ("wobble,colour=red", "cat m/one err",
     "1|unknown argument ignored: wobble|unknown argument ignored: colour=red"),
)

# Uppers as fuse-overlayfs 1.16 makes and reads them with xattr_permissions; in those of
# user.containers.override_stat it has `security.` attributes under names of its own.
SWITCHED = (
    ("xattr_permissions=2",
     "cp /bin/true m/f; capability m/f; names m/f; names u/f; remove m/f; names m/f; names u/f",
     "security.capability|"
     "user.containers.override_security.capability user.containers.override_stat||"
     "user.containers.override_stat"),
    ("xattr_permissions=2",
     "again 'put u user.containers.override_stat 0:0:555; echo f > u/f; "
     "put u/f user.containers.override_stat 7:8:100751; "
     "capability u/f user.containers.override_security.capability; "
     "put u/f user.containers.override_security.x x'; "
     "stat -c '%u:%g %a %F' m m/f; names m/f; get m/f security.x; has_capability m/f; "
     "echo more >> m/f; names m/f",
     "0:0 555 directory|7:8 751 regular file|security.capability security.x|x|True|security.x"),
    ("xattr_permissions=2",
     "again 'put l1 user.containers.override_stat 0:9:711:dir; "
     "put l1/one user.containers.override_stat 3:4:755:file; "
     "capability l1/one user.containers.override_security.capability; "
     "remove u user.containers.override_stat'; stat -c '%u:%g %a' m; has_capability m/one; "
     "touch m/one; has_capability m/one; names u/one; stat -c %u:%g m/one",
     "0:9 711|True|True|"
     "user.containers.override_security.capability user.containers.override_stat|3:4"),
    ("xattr_permissions=2",
     "again 'put u user.fuseoverlayfs.override_stat 0:0:40755; echo f > u/f; "
     "remove u user.containers.override_stat; "
     "put u/f user.fuseoverlayfs.override_stat 7:8:100751'; "
     "stat -c '%u:%g %a' m/f; chown 3:4 m/f; chmod 4640 m/f; stat -c '%u:%g %a' m/f; names u/f; "
     "get u/f user.fuseoverlayfs.override_stat",
     "7:8 751|3:4 4640|user.fuseoverlayfs.override_stat|3:4:4640:file"),
)
SWITCHED_AS = {
    "root": (
        ("xattr_permissions=1",
         "echo f > m/f; chown 3:4 m/f; names m/f; names u; names u/f; "
         "get u/f security.fuseoverlayfs.override_stat",
         "|security.fuseoverlayfs.override_stat|security.fuseoverlayfs.override_stat|"
         "3:4:0644:file"),
        ("xattr_permissions=1",
         "again 'put u security.fuseoverlayfs.override_stat 0:0:555; echo f > u/f; "
         "put u/f security.fuseoverlayfs.override_stat 7:8:100751; capability u/f'; "
         "stat -c '%u:%g %a' m m/f; names m/f",
         "0:0 555|7:8 751|security.capability"),
    ),
    # Nor can fuse-overlayfs: such attributes are the first user namespace's.
    "user": (
        ("xattr_permissions=1", "",
         "layerfs-overlay: upper directory $PWD/u: cannot record owners in "
         "security.fuseoverlayfs.override_stat: Operation not permitted; use a filesystem with "
         "user attributes, or mount as root"),
    ),
}

PRELUDE = r"""
# put FILE NAME VALUE, get FILE NAME, remove FILE NAME, names FILE, capability FILE NAME,
# has_capability FILE
x() { python3 -c '
import os, sys
call, path, name, value, *_ = *sys.argv[1:], "", ""
name = name or "security.capability"
cap = bytes.fromhex("0100000200200000" + 12 * "00")
if call == "put": os.setxattr(path, name, value.encode())
elif call == "get": print(os.getxattr(path, name).decode())
elif call == "remove": os.removexattr(path, name)
elif call == "capability": os.setxattr(path, name, cap)
elif call == "has_capability": print(os.getxattr(path, name) == cap)
else: print(*sorted(n for n in os.listxattr(path) if "overlay.l" not in n and "selinux" not in n))
' "$@"; }
put() { x put "$@"; }
get() { x get "$@"; }
remove() { x remove "$@"; }
names() { x names "$@"; }
capability() { x capability "$@"; }
has_capability() { x has_capability "$@"; }
again() { umount m; flock w true; eval "$1"; mounts || cat err; }
flags() { awk -v m="$PWD/m" '$2 == m { sub(/,user_id=.*/, "", $4); print $4 }' /proc/self/mounts; }
touch() { command touch "$@" 2>err2 || sed 's/.*: //' err2; }
rename() { python3 -c '
import os, sys
try:
    os.rename(*sys.argv[1:])
except OSError as e: print(e.strerror)' "$@"; }
attribute() { python3 -c '
import os, sys
try:
    os.setxattr(sys.argv[1], sys.argv[2], b"value"); print(os.getxattr(*sys.argv[1:]))
except OSError as e: print(e.strerror)' "$@"; }
attributes() { python3 -c '
import os, sys
for p in sys.argv[1:]: print(os.getxattr(p, "user.containers.override_stat").decode())' "$@"; }
# Its daemon is killed, and the next mount takes the place.
mounted_again() {
  echo kept > m/kept
  before=$(pgrep -x 'layerfsd|fuse-overlayfs')
  for pid in $before; do
    test "$(readlink /proc/$pid/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" &&
      ls -l /proc/$pid/fd | grep -q " $PWD/u$" && kill -9 $pid
  done
  until stat m 2>&1 | grep -q 'not connected'; do sleep 0.05; done
  mounts && cat m/kept
}
mounts() { "$PROGRAM" -o "lowerdir=$PWD/l2:$PWD/l1,upperdir=$PWD/u,workdir=$PWD/w,$words" m 2>err; }
try() {
  words=$1
  rm -rf l1 l2 u w m; mkdir l1 l1/d l2 u w m; echo 1 > l1/one; echo x > l1/d/x; chown 5:6 l1/d/x
  mounts || { cat err; return; }
  eval "$2"
  umount m
  # The daemon empties the work directory when it ends.
  flock w true
}
"""


def each_option_has_its_effect(ground, storage):
    if not shutil.which("flock"):
        skip("flock is not installed")
    place = ground.own / "options"
    place.mkdir()
    ground.give(place)
    inside = (["unshare", "--map-root-user", "--map-auto", "--mount"] if ground.caller == "user"
              else [])
    wrong = []
    for words, script, expected in (*CASES, *SWITCHED, *SWITCHED_AS[ground.caller]):
        done = subprocess.run(
            [*ground.become, *inside, "sh", "-c", PRELUDE + 'try "$@"', "sh", words, script],
            cwd=place, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            env={**ground.environment, "PROGRAM": str(storage.mount_program)}, check=False)
        seen = done.stdout.rstrip("\n").replace("\n", "|").replace(str(place), "$PWD")
        if seen != expected:
            wrong.append(f"{words!r}, {script}: {seen!r}, not {expected!r} {done.stderr}")
    if wrong:
        raise AssertionError("\n".join(wrong))
