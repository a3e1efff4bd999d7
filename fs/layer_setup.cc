#include "fs/layer_setup.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "layers/override_stat.h"

namespace layerfs {
namespace {

// Descriptors of layers objects kept open; beside them one for each layer, one for each
// thread and file being copied. A mount of one lower has 17 at rest.
constexpr std::size_t kCachedDescriptors = 256;
constexpr std::size_t kOtherDescriptors = 64;
constexpr std::size_t kFewestOtherDescriptors = 40;
constexpr std::size_t kFewestCachedDescriptors = 16;

Result<std::string, Failure> resolve(const std::string& path, const char* what) {
  char* real = ::realpath(path.c_str(), nullptr);
  if (real == nullptr) {
    return Failure{std::string(what) + " " + path + ": " + describe(Errno::last()) +
                   "; create the directory first"};
  }
  std::string resolved = real;
  std::free(real);
  return resolved;
}

std::uint32_t overflow_id(const char* file) {
  std::uint32_t id = IdMap::kDefaultOverflowId;
  std::ifstream(file) >> id;
  return id;
}

Result<IdMap, Failure> id_map(const std::vector<IdRange>& ranges, std::int64_t squash,
                              bool unmapped_as_overflow, const char* overflow_file,
                              const char* option) {
  std::vector<std::array<std::uint32_t, 3>> triples;
  for (const IdRange& range : ranges) {
    triples.push_back({range.stored, range.shown, range.count});
  }
  auto map = IdMap::from_triples(triples, overflow_id(overflow_file));
  if (!map) {
    return Failure{std::string("option ") + option +
                   ": ranges are empty, too large or overlap; "
                   "give stored:shown:count triples that do not"};
  }
  if (unmapped_as_overflow) {
    map = map->writing_overflow();
  }
  return squash < 0 ? std::move(*map) : map->squashed_to(static_cast<std::uint32_t>(squash));
}

// Whether files can be given to other owners here. Tried with an id other than the
// process' own; one that the user namespace does not map is as good as forbidden.
Result<bool> may_set_owner(int work) {
  constexpr const char* kProbe = "layerfs-owner-probe";
  const sys::At at{work, kProbe};
  LFS_TRY(sys::mknod_at(at, S_IFREG | 0600, 0));
  const uid_t other = ::geteuid() == 1 ? 2 : 1;
  const auto owned = sys::chown_at(at, other, other);
  LFS_TRY(sys::unlink_at(at, sys::UnlinkKind::File));
  if (!owned && !is_not_permitted(owned.error()) && owned.error().value() != EINVAL) {
    return owned.error();
  }
  return owned.ok();
}

MarkWishes wishes_of(const MountConfig& config) {
  MarkWishes wishes;
  if (config.whiteout != MountConfig::Whiteout::Auto) {
    wishes.form =
        config.whiteout == MountConfig::Whiteout::Oci ? WhiteoutForm::DotWh : WhiteoutForm::Overlay;
  }
  if (config.xattr != MountConfig::Xattr::Auto) {
    wishes.xattrs =
        config.xattr == MountConfig::Xattr::User ? XattrNamespace::User : XattrNamespace::Trusted;
  }
  return wishes;
}

OverrideForm forced_form(MountConfig::OverrideStat wanted) {
  switch (wanted) {
    case MountConfig::OverrideStat::On:
      return OverrideForm::Containers;
    case MountConfig::OverrideStat::Security:
      return OverrideForm::Security;
    case MountConfig::OverrideStat::Auto:
    case MountConfig::OverrideStat::Off:
      break;
  }
  return OverrideForm::None;
}

Result<OverrideForm, Failure> wanted_form(const MountConfig& config, const Layer& layer,
                                          const Workdir& work) {
  if (config.override_stat == MountConfig::OverrideStat::Off) {
    return OverrideForm::None;
  }
  if (layer.override_form != OverrideForm::None) {
    return layer.override_form;
  }
  const auto owns = may_set_owner(work.fd());
  if (!owns) {
    return Failure{"work directory " + work.path() + ": " + describe(owns.error()) +
                   "; it must be writable, on a filesystem with free space"};
  }
  return *owns ? OverrideForm::None : OverrideForm::Containers;
}

// Of a layer whose root has no mark. Where a lower's has one, that of the topmost, as
// fuse-overlayfs takes it: engines that keep owners so make the upper with a mode of its own.
Result<Identity> root_identity(const LayerStack& stack, const Layer& layer) {
  const Layer* of = &layer;
  for (LayerIndex i = stack.first_lower(); i < stack.size(); ++i) {
    if (stack.at(i).override_mark) {
      of = &stack.at(i);
      break;
    }
  }
  LFS_ASSIGN(const struct statx st, sys::stat_at({of->root.get()}));
  return read_identity({of->root.get()}, st, of->override_form);
}

Result<std::unique_ptr<WritableLayer>, Failure> open_writable(const MountConfig& config,
                                                              const LayerStack& stack,
                                                              LayerIndex index,
                                                              const std::string& work_path,
                                                              std::vector<FreshWork>& fresh) {
  const Layer& layer = stack.at(index);
  const auto durability = config.discarded   ? Durability::Discarded
                          : config.volatile_ ? Durability::Volatile
                                             : Durability::Synced;
  FreshWork& made = fresh.emplace_back();
  LFS_ASSIGN(Workdir work,
             Workdir::open(work_path, layer, durability, &made,
                           config.accept_unclean ? Unclean::Accept : Unclean::Refuse));
  const auto marks = probe_marks(work.fd(), wishes_of(config));
  if (!marks) {
    const bool cannot = marks.error().value() == EOPNOTSUPP;
    return Failure{"upper directory " + layer.path + ": " +
                   (cannot ? "its filesystem, or this user's rights, cannot hold the wanted "
                             "--whiteout and --xattr forms; leave them at auto"
                           : describe(marks.error()) + " while trying what it can hold")};
  }
  const auto deletes = marks->form() == WhiteoutForm::DotWh ? holds_dot_wh(work.fd()) : true;
  if (!deletes || !*deletes) {
    return Failure{"upper directory " + layer.path + ": " +
                   (!deletes ? describe(deletes.error()) + " while trying what it can hold"
                             : "it can hold no whiteouts, as directories of another layerfs; use "
                               "another filesystem")};
  }
  LFS_ASSIGN(const OverrideForm form, wanted_form(config, layer, work));
  if (form != OverrideForm::None && !layer.override_mark) {
    // The layer must say so itself, or the next reader takes its owners for true.
    const char* const name = override_stat_xattr(form);
    const auto identity = root_identity(stack, layer);
    const auto marked =
        !identity
            ? Status(identity.error())
            : made.mark_layer(
                  name, format_override_stat({identity->uid, identity->gid, identity->mode, 0}));
    if (!marked) {
      return Failure{"upper directory " + layer.path + ": cannot record owners in " + name + ": " +
                     describe(marked.error()) +
                     "; use a filesystem with user attributes, or mount as root"};
    }
  }
  return std::make_unique<WritableLayer>(index, std::move(work), *marks, form, durability);
}

Result<OpenedLayers, Failure> open_all(const MountConfig& config, std::vector<FreshWork>& fresh);

}  // namespace

std::size_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return kCachedDescriptors;
  }
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

Result<OpenedLayers, Failure> open_layers(const MountConfig& config) {
  std::vector<FreshWork> fresh;
  auto opened = open_all(config, fresh);
  if (opened) {
    opened->fresh = std::move(fresh);
    return opened;
  }
  for (FreshWork& work : fresh) {
    work.take_back();
  }
  return opened;
}

namespace {

Result<OpenedLayers, Failure> open_all(const MountConfig& config, std::vector<FreshWork>& fresh) {
  OpenedLayers opened;
  LFS_ASSIGN(opened.mountpoint, resolve(config.mountpoint, "mount point"));
  const std::size_t limit = raise_descriptor_limit();
  const std::size_t lowers = config.lowers.size();
  const bool is_scarce = lowers + 2 * kOtherDescriptors > limit;
  const std::size_t fixed = lowers + (is_scarce ? kFewestOtherDescriptors : kOtherDescriptors);
  if (fixed + kFewestCachedDescriptors > limit) {
    return Failure{std::to_string(lowers) +
                   " lower layers need more open files than "
                   "the limit of " +
                   std::to_string(limit) + "; raise it (ulimit -Hn)"};
  }
  opened.descriptor_limit = std::min(kCachedDescriptors, limit - fixed);
  ignore(sys::reserve_descriptors(fixed + opened.descriptor_limit),
         "the table grows when it has to");

  StackOptions options;
  options.lowers = config.lowers;
  options.upper = config.read_only ? std::string() : config.upper;
  options.init = config.init;
  options.mountpoint = opened.mountpoint;
  options.forced_form = forced_form(config.override_stat);
  if (config.read_only && !config.upper.empty()) {
    // Shown like a lower then: nothing may change in it.
    options.lowers.insert(options.lowers.begin(), config.upper);
  }
  std::string init_work;
  if (!options.upper.empty()) {
    LFS_ASSIGN(const std::string real, resolve(config.upper, "upper directory"));
    opened.work = config.work.empty() ? default_work_dir(real) : config.work;
    options.works.push_back(opened.work);
    if (!options.init.empty()) {
      LFS_ASSIGN(const std::string real_init, resolve(config.init, "init layer"));
      init_work = default_work_dir(real_init);
      options.works.push_back(init_work);
    }
  }
  LFS_ASSIGN(LayerStack stack, LayerStack::open(options));
  std::unique_ptr<WritableLayer> upper;
  std::unique_ptr<WritableLayer> init;
  if (stack.upper()) {
    LFS_ASSIGN(upper, open_writable(config, stack, *stack.upper(), opened.work, fresh));
    opened.form = upper->marks().form();
    opened.xattrs = upper->marks().xattr_namespace();
    opened.overrides = upper->overrides();
  }
  if (stack.upper() && stack.init()) {
    LFS_ASSIGN(init, open_writable(config, stack, *stack.init(), init_work, fresh));
  }
  FileSystemOptions fs_options;
  fs_options.redirect = config.redirect;
  fs_options.metacopy = config.metacopy;
  fs_options.index = config.index;
  fs_options.static_nlink = config.static_nlink;
  fs_options.descriptor_limit = opened.descriptor_limit;
  LFS_ASSIGN(fs_options.uids, id_map(config.uid_map, config.squash_uid, config.unmapped_as_overflow,
                                     "/proc/sys/kernel/overflowuid", "uidmapping"));
  LFS_ASSIGN(fs_options.gids, id_map(config.gid_map, config.squash_gid, config.unmapped_as_overflow,
                                     "/proc/sys/kernel/overflowgid", "gidmapping"));
  auto fs = FileSystem::create(std::move(stack), std::move(upper), std::move(init),
                               std::move(fs_options));
  if (!fs) {
    return Failure{"cannot read the roots of the layers: " + describe(fs.error())};
  }
  opened.fs = std::move(*fs);
  return opened;
}

}  // namespace

}  // namespace layerfs
