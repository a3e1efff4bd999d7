#include "tools/run/root_setup.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "layers/sys/syscalls.h"
#include "tools/common/mount_table.h"
#include "tools/run/cannot.h"
#include "tools/run/mount_calls.h"

namespace layerfs::run {
namespace {

constexpr std::uint64_t kSafe = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV;

struct KnownDevice {
  const char* name;
  unsigned major;
  unsigned minor;
};
constexpr std::array kDevices = {
    KnownDevice{"null", 1, 3},   KnownDevice{"zero", 1, 5},    KnownDevice{"full", 1, 7},
    KnownDevice{"random", 1, 8}, KnownDevice{"urandom", 1, 9}, KnownDevice{"tty", 5, 0},
};

struct Link {
  const char* name;
  const char* target;
};
constexpr std::array kLinks = {
    Link{"dev/fd", "/proc/self/fd"},       Link{"dev/stdin", "/proc/self/fd/0"},
    Link{"dev/stdout", "/proc/self/fd/1"}, Link{"dev/stderr", "/proc/self/fd/2"},
    Link{"dev/ptmx", "pts/ptmx"},
};

constexpr std::array kMasked = {
    "proc/acpi",           "proc/asound",     "proc/interrupts",    "proc/kallsyms",
    "proc/kcore",          "proc/keys",       "proc/latency_stats", "proc/sched_debug",
    "proc/scsi",           "proc/timer_list", "proc/timer_stats",   "sys/devices/virtual/powercap",
    "sys/firmware",        "sys/fs/selinux",  "sys/kernel/debug",   "sys/kernel/tracing",
    "sys/kernel/security",
};
constexpr std::array kReadOnly = {"proc/bus", "proc/fs", "proc/irq", "proc/sys",
                                  "proc/sysrq-trigger"};

template <class T>
Outcome<T> or_problem(Result<T> result, const std::string& what) {
  if (!result) {
    return cannot(what, result.error());
  }
  return std::move(result).value();
}
Outcome<void> or_problem(const Status& result, const std::string& what) {
  return result ? Outcome<void>() : Outcome<void>(cannot(what, result.error()));
}

Outcome<UniqueFd> open_place(int root, const std::string& path, int flags) {
  return or_problem(sys::open_in_root(root, path, O_PATH | flags), "open /" + path);
}

Outcome<void> mount_on(int root, const std::string& path, const UniqueFd& mount) {
  LFS_ASSIGN(const UniqueFd target, open_place(root, path, 0));
  return or_problem(attach(mount.get(), target.get()), "mount /" + path);
}

Outcome<void> make_directory(int root, const char* directory, const char* name, mode_t mode) {
  LFS_ASSIGN(const UniqueFd parent, open_place(root, directory, O_DIRECTORY));
  return or_problem(sys::mkdir_at({parent.get(), name}, mode),
                    std::string("make /") + directory + "/" + name);
}

// --- volumes ---

Outcome<PreparedVolume> prepare_volume(const Volume& volume) {
  PreparedVolume out{volume, {}};
  if (volume.source.empty()) {
    return out;
  }
  LFS_ASSIGN(out.mount, or_problem(clone_mounts(AT_FDCWD, volume.source.c_str()),
                                   "take the volume '" + volume.source + "'"));
  std::uint64_t set = 0;
  set |= volume.read_only ? std::uint64_t{MOUNT_ATTR_RDONLY} : 0;
  set |= volume.no_exec ? std::uint64_t{MOUNT_ATTR_NOEXEC} : 0;
  set |= volume.no_suid ? std::uint64_t{MOUNT_ATTR_NOSUID} : 0;
  set |= volume.no_dev ? std::uint64_t{MOUNT_ATTR_NODEV} : 0;
  LFS_TRY(or_problem(set_attributes(out.mount.get(), set, /*recursive=*/true),
                     "restrict the volume '" + volume.source + "'"));
  return out;
}

Outcome<bool> is_directory(const PreparedVolume& volume) {
  if (!volume.mount) {
    return true;
  }
  LFS_ASSIGN(const struct statx st,
             or_problem(sys::stat_at({volume.mount.get()}), "look at the volume"));
  return S_ISDIR(st.stx_mode);
}

// Component by component, each found from the root, so that no symlink leads outside.
Outcome<void> make_place(int root, const std::string& path, bool directory) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const bool last = end == std::string::npos;
    const std::string prefix = path.substr(0, end);
    const auto there = sys::open_in_root(root, prefix, O_PATH);
    if (!there && there.error().value() != ENOENT) {
      return cannot("use '" + path + "' as a mount point", there.error());
    }
    if (!there) {
      const std::size_t slash = prefix.rfind('/');
      LFS_ASSIGN(const UniqueFd parent,
                 or_problem(sys::open_in_root(root, prefix.substr(0, slash + 1), O_PATH),
                            "find the directory of '" + prefix + "'"));
      const std::string name = prefix.substr(slash + 1);
      LFS_TRY(or_problem(directory || !last
                             ? sys::mkdir_at({parent.get(), name.c_str()}, 0755)
                             : sys::mknod_at({parent.get(), name.c_str()}, S_IFREG | 0644, 0),
                         "make the mount point '" + prefix + "'"));
    }
    if (last) {
      return {};
    }
  }
}

Outcome<void> mount_volume(int root, const PreparedVolume& prepared) {
  const Volume& volume = prepared.volume;
  LFS_ASSIGN(const UniqueFd target, or_problem(sys::open_in_root(root, volume.target, O_PATH),
                                               "open the mount point '" + volume.target + "'"));
  struct statfs fs {};
  // The kernel's own files decide over the container; nothing is put among them.
  if (::fstatfs(target.get(), &fs) < 0 || fs.f_type == PROC_SUPER_MAGIC ||
      fs.f_type == SYSFS_MAGIC) {
    return failed("'" + volume.target + "' is in /proc or /sys, where nothing can be mounted");
  }
  if (prepared.mount) {
    LFS_TRY(or_problem(attach(prepared.mount.get(), target.get()),
                       "mount the volume '" + volume.source + "' at '" + volume.target + "'"));
    const std::uint64_t propagation =
        volume.propagation == 0 ? std::uint64_t{MS_PRIVATE} : volume.propagation;
    return or_problem(set_propagation(prepared.mount.get(), propagation),
                      "set the propagation of '" + volume.target + "'");
  }
  std::array<char, 16> mode{};
  std::snprintf(mode.data(), mode.size(), "%o", static_cast<unsigned>(volume.tmpfs_mode));
  std::uint64_t attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  attributes |= volume.no_exec ? std::uint64_t{MOUNT_ATTR_NOEXEC} : 0;
  attributes |= volume.read_only ? std::uint64_t{MOUNT_ATTR_RDONLY} : 0;
  auto made = volume.tmpfs_size.empty()
                  ? new_filesystem("tmpfs", {{"mode", mode.data()}}, attributes)
                  : new_filesystem("tmpfs", {{"mode", mode.data()}, {"size", volume.tmpfs_size}},
                                   attributes);
  LFS_ASSIGN(const UniqueFd mount,
             or_problem(std::move(made), "make a tmpfs for '" + volume.target + "'"));
  return or_problem(attach(mount.get(), target.get()), "mount '" + volume.target + "'");
}

// --- /proc, /sys, /dev ---

Outcome<void> mount_proc(int root, bool own_pid) {
  if (!own_pid) {
    LFS_ASSIGN(const UniqueFd copy, or_problem(clone_mounts(AT_FDCWD, "/proc"), "copy /proc"));
    LFS_TRY(or_problem(set_attributes(copy.get(), kSafe, /*recursive=*/true), "restrict /proc"));
    return mount_on(root, "proc", copy);
  }
  auto proc = new_filesystem("proc", {}, kSafe);
  if (!proc && is_not_permitted(proc.error())) {
    return failed(
        "cannot mount a new /proc: parts of the one here are covered, so that the kernel "
        "refuses one to a user namespace; run outside of the surrounding container, or as "
        "root with --share-user");
  }
  LFS_ASSIGN(const UniqueFd mount, or_problem(std::move(proc), "make a /proc"));
  return mount_on(root, "proc", mount);
}

Outcome<void> mount_sys(int root, bool own_net) {
  auto sys = new_filesystem("sysfs", {}, kSafe | MOUNT_ATTR_RDONLY);
  if (sys) {
    return mount_on(root, "sys", *sys);
  }
  // Of a network namespace that is not this user namespace's, the kernel gives no new one.
  if (own_net) {
    return cannot("make a /sys", sys.error());
  }
  LFS_ASSIGN(const UniqueFd copy, or_problem(clone_mounts(AT_FDCWD, "/sys"), "copy /sys"));
  LFS_TRY(or_problem(set_attributes(copy.get(), kSafe | MOUNT_ATTR_RDONLY, /*recursive=*/true),
                     "make /sys read-only"));
  return mount_on(root, "sys", copy);
}

// What the host has of control groups, each with the container's own group as its root.
Outcome<void> mount_cgroups(int root, const std::vector<MountEntry>& host, bool own_cgroup) {
  if (!own_cgroup) {
    return {};
  }
  constexpr std::string_view kPlace = "/sys/fs/cgroup";
  const std::uint64_t attributes = kSafe | MOUNT_ATTR_RDONLY;
  UniqueFd base;
  for (const MountEntry& entry : host) {
    if (!entry.mount_point.starts_with(kPlace) ||
        (entry.type != "cgroup" && entry.type != "cgroup2")) {
      continue;
    }
    if (entry.mount_point == kPlace) {
      LFS_ASSIGN(const UniqueFd mount,
                 or_problem(new_filesystem("cgroup2", {}, attributes), "mount cgroup2"));
      return mount_on(root, "sys/fs/cgroup", mount);
    }
    if (!base) {
      LFS_ASSIGN(base, or_problem(new_filesystem("tmpfs", {{"mode", "755"}}, kSafe),
                                  "make a tmpfs for control groups"));
      LFS_TRY(mount_on(root, "sys/fs/cgroup", base));
    }
    const std::string name = entry.mount_point.substr(kPlace.size() + 1);
    if (name.find('/') != std::string::npos) {
      continue;
    }
    LFS_TRY(make_directory(root, "sys/fs/cgroup", name.c_str(), 0755));
    // v1 takes its controllers as words of the source; a named one has "name=".
    LFS_ASSIGN(const UniqueFd place, open_place(root, "sys/fs/cgroup/" + name, O_DIRECTORY));
    const std::size_t comma = entry.super_options.find(',');
    const std::string words =
        comma == std::string::npos ? std::string() : entry.super_options.substr(comma + 1);
    const std::string path = "/proc/self/fd/" + std::to_string(place.get());
    const unsigned long flags = MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY;
    // A hierarchy that cannot be shown leaves an empty directory: nothing depends on it.
    ::mount("cgroup", path.c_str(), entry.type.c_str(), flags,
            entry.type == "cgroup" ? words.c_str() : nullptr);
  }
  if (base) {
    return or_problem(set_attributes(base.get(), MOUNT_ATTR_RDONLY, /*recursive=*/false),
                      "make /sys/fs/cgroup read-only");
  }
  return {};
}

Outcome<void> mount_mqueue(int root) {
  auto mount = new_filesystem("mqueue", {}, kSafe);
  if (!mount && mount.error().value() == ENODEV) {
    return {};  // a kernel without POSIX message queues
  }
  if (!mount) {
    mount = clone_mounts(AT_FDCWD, "/dev/mqueue");  // of the host's ipc namespace
    if (!mount) {
      return {};
    }
  }
  LFS_TRY(make_directory(root, "dev", "mqueue", 0755));
  return mount_on(root, "dev/mqueue", *mount);
}

Outcome<void> mount_device(int root, const DeviceNode& device) {
  LFS_TRY(make_place(root, "/dev/" + device.name, /*directory=*/false));
  return mount_on(root, "dev/" + device.name, device.mount);
}

Outcome<void> mount_dev(int root, const HostParts& parts) {
  LFS_ASSIGN(const UniqueFd dev,
             or_problem(new_filesystem("tmpfs", {{"mode", "755"}, {"size", "65536k"}},
                                       MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME),
                        "make a tmpfs for /dev"));
  LFS_TRY(mount_on(root, "dev", dev));
  for (const DeviceNode& device : parts.devices) {
    LFS_TRY(mount_device(root, device));
  }
  for (const Link& link : kLinks) {
    LFS_ASSIGN(const UniqueFd parent, open_place(root, "dev", O_DIRECTORY));
    LFS_TRY(or_problem(sys::symlink_at(link.target, {parent.get(), link.name + 4}),
                       std::string("make /") + link.name));
  }
  LFS_TRY(make_directory(root, "dev", "pts", 0755));
  const std::uint64_t for_pts = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
  auto made =
      parts.tty_group.empty()
          ? new_filesystem("devpts", {{"ptmxmode", "0666"}, {"mode", "0620"}}, for_pts)
          : new_filesystem("devpts",
                           {{"ptmxmode", "0666"}, {"mode", "0620"}, {"gid", parts.tty_group}},
                           for_pts);
  LFS_ASSIGN(const UniqueFd pts, or_problem(std::move(made), "make a /dev/pts"));
  LFS_TRY(mount_on(root, "dev/pts", pts));
  LFS_TRY(make_directory(root, "dev", "shm", 01777));
  LFS_ASSIGN(const UniqueFd shm,
             or_problem(new_filesystem("tmpfs", {{"mode", "1777"}, {"size", "65536k"}}, kSafe),
                        "make a tmpfs for /dev/shm"));
  LFS_TRY(mount_on(root, "dev/shm", shm));
  return mount_mqueue(root);
}

Outcome<void> cover_proc_files(int root, const std::vector<ProcFile>& files) {
  for (const ProcFile& file : files) {
    const auto place = sys::open_in_root(root, file.target, O_PATH | O_NOFOLLOW);
    if (!place && is_absence(place.error())) {
      continue;  // a kernel without it
    }
    if (!place) {
      return cannot("open /" + file.target, place.error());
    }
    LFS_TRY(or_problem(attach(file.mount.get(), place->get()), "cover /" + file.target));
  }
  return {};
}

// --- the switch ---

Outcome<void> switch_root(const UniqueFd& root) {
  const UniqueFd old(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!old || ::fchdir(root.get()) < 0 || ::syscall(SYS_pivot_root, ".", ".") < 0) {
    return cannot("make the layers the root", Errno::last());
  }
  // The old root now lies over the new one; what happens to it must not reach the host.
  if (::fchdir(old.get()) < 0 || ::mount(nullptr, ".", nullptr, MS_SLAVE | MS_REC, nullptr) < 0 ||
      ::umount2(".", MNT_DETACH) < 0 || ::chdir("/") < 0) {
    return cannot("let go of the host's root", Errno::last());
  }
  return {};
}

Outcome<UniqueFd> verified_null(int root) {
  LFS_ASSIGN(UniqueFd null, open_place(root, "dev/null", O_NOFOLLOW));
  LFS_ASSIGN(const struct statx st, or_problem(sys::stat_at({null.get()}), "look at /dev/null"));
  if (!S_ISCHR(st.stx_mode) || st.stx_rdev_major != 1 || st.stx_rdev_minor != 3) {
    return failed("/dev/null is not the null device; refused to mask files with it");
  }
  return null;
}

Outcome<void> mask(int root, const char* path, const UniqueFd& null) {
  const auto place = sys::open_in_root(root, path, O_PATH | O_NOFOLLOW);
  if (!place) {
    return is_absence(place.error()) || place.error().value() == EACCES
               ? Outcome<void>()
               : Outcome<void>(cannot(std::string("mask /") + path, place.error()));
  }
  const std::string what = std::string("mask /") + path;
  LFS_ASSIGN(const struct statx st, or_problem(sys::stat_at({place->get()}), what));
  if (S_ISDIR(st.stx_mode)) {
    LFS_ASSIGN(const UniqueFd empty,
               or_problem(new_filesystem("tmpfs", {{"nr_inodes", "2"}, {"mode", "555"}},
                                         kSafe | MOUNT_ATTR_RDONLY),
                          what));
    return or_problem(attach(empty.get(), place->get()), what);
  }
  LFS_ASSIGN(const UniqueFd copy, or_problem(clone_mounts(null.get(), ""), what));
  return or_problem(attach(copy.get(), place->get()), what);
}

Outcome<void> make_read_only(int root, const char* path) {
  const auto place = sys::open_in_root(root, path, O_PATH | O_NOFOLLOW);
  if (!place) {
    return is_absence(place.error())
               ? Outcome<void>()
               : Outcome<void>(cannot(std::string("protect /") + path, place.error()));
  }
  const std::string what = std::string("make /") + path + " read-only";
  LFS_ASSIGN(const UniqueFd copy, or_problem(clone_mounts(place->get(), ""), what));
  LFS_TRY(
      or_problem(set_attributes(copy.get(), kSafe | MOUNT_ATTR_RDONLY, /*recursive=*/true), what));
  return or_problem(attach(copy.get(), place->get()), what);
}

}  // namespace

Outcome<HostParts> prepare_host_parts(const RunConfig& config, const IdMaps& maps) {
  HostParts out;
  for (const KnownDevice& device : kDevices) {
    const std::string path = std::string("/dev/") + device.name;
    LFS_ASSIGN(UniqueFd mount, or_problem(clone_mounts(AT_FDCWD, path.c_str()), "take " + path));
    LFS_ASSIGN(const struct statx st, or_problem(sys::stat_at({mount.get()}), "look at " + path));
    if (!S_ISCHR(st.stx_mode) || st.stx_rdev_major != device.major ||
        st.stx_rdev_minor != device.minor) {
      return failed("'" + path + "' of this machine is not the device of that name");
    }
    LFS_TRY(or_problem(
        set_attributes(mount.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, /*recursive=*/true),
        "restrict " + path));
    out.devices.push_back({device.name, std::move(mount)});
  }
  for (const DeviceRule& device : config.limits_of_groups.devices) {
    LFS_ASSIGN(UniqueFd mount,
               or_problem(clone_mounts(AT_FDCWD, device.path.c_str()), "take " + device.path));
    LFS_TRY(or_problem(set_attributes(mount.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
                                      /*recursive=*/true),
                       "restrict " + device.path));
    out.devices.push_back({device.path.substr(5), std::move(mount)});
  }
  for (const Volume& volume : config.volumes) {
    LFS_ASSIGN(PreparedVolume prepared, prepare_volume(volume));
    out.volumes.push_back(std::move(prepared));
  }
  constexpr std::uint32_t kTty = 5;
  out.tty_group = is_mapped(maps.gids, kTty) ? std::to_string(kTty) : std::string();
  return out;
}

Outcome<void> make_mount_points(int root, const RunConfig& config, const HostParts& parts) {
  if (config.make_workdir) {
    LFS_TRY(make_place(root, config.workdir, /*directory=*/true));
  }
  for (const PreparedVolume& volume : parts.volumes) {
    LFS_ASSIGN(const bool directory, is_directory(volume));
    LFS_TRY(make_place(root, volume.volume.target, directory));
  }
  return {};
}

Outcome<void> enter_root(const RunConfig& config, const std::string& root, HostParts& parts) {
  if (::mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr) < 0) {
    return cannot("set the host's mounts apart", Errno::last());
  }
  LFS_ASSIGN(const auto host_mounts, read_mount_table());
  // A copy over itself: what is inherited by a user namespace cannot become a root.
  LFS_ASSIGN(const UniqueFd copy,
             or_problem(clone_mounts(AT_FDCWD, root.c_str()), "take the merged layers"));
  LFS_TRY(or_problem(set_attributes(copy.get(), MOUNT_ATTR_NODEV, /*recursive=*/true),
                     "forbid devices in the layers"));
  {
    LFS_ASSIGN(const UniqueFd below,
               or_problem(sys::open_path(root, O_PATH | O_DIRECTORY), "open the merged layers"));
    LFS_TRY(or_problem(attach(copy.get(), below.get()), "mount the merged layers"));
  }
  LFS_ASSIGN(const UniqueFd top,
             or_problem(sys::open_path(root, O_PATH | O_DIRECTORY), "open the merged layers"));
  LFS_TRY(mount_proc(top.get(), config.own.pid));
  LFS_TRY(mount_sys(top.get(), config.own.net));
  LFS_TRY(mount_cgroups(top.get(), host_mounts, config.own.cgroup));
  LFS_TRY(cover_proc_files(top.get(), parts.proc_files));
  LFS_TRY(mount_dev(top.get(), parts));
  for (const PreparedVolume& volume : parts.volumes) {
    LFS_TRY(mount_volume(top.get(), volume));
  }
  parts.devices.clear();
  parts.volumes.clear();
  parts.proc_files.clear();
  return switch_root(top);
}

Outcome<void> close_places(const RunConfig& config) {
  LFS_ASSIGN(const UniqueFd root,
             or_problem(sys::open_path("/", O_PATH | O_DIRECTORY), "open the new root"));
  LFS_ASSIGN(const UniqueFd null, verified_null(root.get()));
  for (const char* path : kMasked) {
    LFS_TRY(mask(root.get(), path, null));
  }
  for (const char* path : kReadOnly) {
    LFS_TRY(make_read_only(root.get(), path));
  }
  if (config.read_only) {
    return or_problem(set_attributes(root.get(), MOUNT_ATTR_RDONLY, /*recursive=*/false),
                      "make the root read-only");
  }
  return {};
}

}  // namespace layerfs::run
