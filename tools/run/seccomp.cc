#include "tools/run/seccomp.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "layers/sys/syscalls.h"
#include "tools/run/cannot.h"
#include "tools/run/places.h"
#include "tools/run/seccomp_default.h"
#include "tools/run/seccomp_profile.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
constexpr std::uint64_t kNamespaceFlags = 0x7E020000;

// Calls that libseccomp does not know, or that this architecture has not, need no rule.
Outcome<void> rule(scmp_filter_ctx filter, std::uint32_t action, std::string_view name,
                   std::initializer_list<scmp_arg_cmp> conditions = {}) {
  const int number = ::seccomp_syscall_resolve_name(std::string(name).c_str());
  if (number == __NR_SCMP_ERROR) {
    return {};
  }
  const int rc =
      ::seccomp_rule_add_array(filter, action, number, static_cast<unsigned>(conditions.size()),
                               conditions.size() == 0 ? nullptr : conditions.begin());
  if (rc < 0 && rc != -EDOM) {
    return cannot("make the system call filter", Errno(-rc));
  }
  return {};
}

bool has(std::uint64_t capabilities, int capability) {
  return capability < 0 || (capabilities >> capability & 1) != 0;
}

scmp_arg_cmp compare(unsigned argument, scmp_compare how, std::uint64_t value,
                     std::uint64_t second = 0) {
  return scmp_arg_cmp{argument, how, value, second};
}

// Sockets to the kernel's crypto interface and to the hypervisor are refused: each was a
// way into the kernel or past the network namespace.
Outcome<void> allow_sockets(scmp_filter_ctx filter) {
  LFS_TRY(rule(filter, SCMP_ACT_ALLOW, "socket", {compare(0, SCMP_CMP_LT, AF_ALG)}));
  LFS_TRY(rule(filter, SCMP_ACT_ALLOW, "socket", {compare(0, SCMP_CMP_EQ, AF_ALG + 1)}));
  return rule(filter, SCMP_ACT_ALLOW, "socket", {compare(0, SCMP_CMP_GT, AF_VSOCK)});
}

Outcome<void> default_rules(scmp_filter_ctx filter, std::uint64_t capabilities) {
  for (const AllowedCalls& allowed : default_allowed_calls()) {
    if (!has(capabilities, allowed.capability)) {
      continue;
    }
    std::string_view names = allowed.names;
    while (!names.empty()) {
      const std::size_t end = std::min(names.find(' '), names.size());
      LFS_TRY(rule(filter, SCMP_ACT_ALLOW, names.substr(0, end)));
      names.remove_prefix(std::min(end + 1, names.size()));
    }
  }
  for (const std::uint64_t value : allowed_personalities()) {
    LFS_TRY(rule(filter, SCMP_ACT_ALLOW, "personality", {compare(0, SCMP_CMP_EQ, value)}));
  }
  LFS_TRY(allow_sockets(filter));
  if (!has(capabilities, CAP_SYS_ADMIN)) {
    LFS_TRY(rule(filter, SCMP_ACT_ALLOW, "clone",
                 {compare(0, SCMP_CMP_MASKED_EQ, kNamespaceFlags, 0)}));
    // Its flags are behind a pointer; with ENOSYS the C library takes clone instead.
    LFS_TRY(rule(filter, SCMP_ACT_ERRNO(ENOSYS), "clone3"));
  }
  return {};
}

// Programs of the machine's other word size are held to the same rules.
void add_architectures(scmp_filter_ctx filter) {
  if (::seccomp_arch_native() == SCMP_ARCH_X86_64) {
    ::seccomp_arch_add(filter, SCMP_ARCH_X86);
    ::seccomp_arch_add(filter, SCMP_ARCH_X32);
  } else if (::seccomp_arch_native() == SCMP_ARCH_AARCH64) {
    ::seccomp_arch_add(filter, SCMP_ARCH_ARM);
  }
}

using Filter = std::unique_ptr<void, void (*)(scmp_filter_ctx)>;

Outcome<void> profile_rules(scmp_filter_ctx filter, const SeccompProfile& profile) {
  for (const SeccompRule& one : profile.rules) {
    for (const std::string& name : one.names) {
      const int number = ::seccomp_syscall_resolve_name(name.c_str());
      if (number == __NR_SCMP_ERROR || one.action == profile.default_action) {
        continue;
      }
      const int rc = ::seccomp_rule_add_array(filter, one.action, number,
                                              static_cast<unsigned>(one.conditions.size()),
                                              one.conditions.data());
      if (rc < 0 && rc != -EDOM) {
        return cannot("make the system call filter of the profile", Errno(-rc));
      }
    }
  }
  return {};
}

// `profile`: its text; "": the built-in one.
Outcome<std::string> compile(const std::string& profile, std::uint64_t capabilities) {
  SeccompProfile parsed;
  if (!profile.empty()) {
    LFS_ASSIGN(parsed, parse_seccomp_profile(profile, capabilities));
  }
  const Filter filter(
      ::seccomp_init(profile.empty() ? SCMP_ACT_ERRNO(EPERM) : parsed.default_action),
      ::seccomp_release);
  if (!filter) {
    return failed("cannot make the system call filter: no memory");
  }
  ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  add_architectures(filter.get());
  LFS_TRY(profile.empty() ? default_rules(filter.get(), capabilities)
                          : profile_rules(filter.get(), parsed));
  const UniqueFd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file) {
    return cannot("make a file in memory");
  }
  if (const int rc = ::seccomp_export_bpf(filter.get(), file.get()); rc < 0) {
    return cannot("make the system call filter", Errno(-rc));
  }
  if (::lseek(file.get(), 0, SEEK_SET) < 0) {
    return cannot("read the system call filter");
  }
  return read_text_fd(file.get(), "the system call filter");
}

// The linker's hash of this program; "" if it was linked without one. To read the program
// itself would take longer than all else that a start does with the filter.
std::string build_id() {
  const auto look = [](dl_phdr_info* object, std::size_t /*size*/, void* data) {
    auto& out = *static_cast<std::string*>(data);
    for (unsigned i = 0; i < object->dlpi_phnum; ++i) {
      const ElfW(Phdr)& segment = object->dlpi_phdr[i];
      if (segment.p_type != PT_NOTE) {
        continue;
      }
      const auto* at = reinterpret_cast<const char*>(object->dlpi_addr + segment.p_vaddr);
      const char* const end = at + segment.p_memsz;
      while (end - at > static_cast<std::ptrdiff_t>(sizeof(ElfW(Nhdr)))) {
        ElfW(Nhdr) note{};
        std::memcpy(&note, at, sizeof note);
        const auto padded = [&](std::size_t size) {
          return (size + segment.p_align - 1) & ~(segment.p_align - 1);
        };
        const char* const name = at + sizeof note;
        const char* const content = name + padded(note.n_namesz);
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof ELF_NOTE_GNU &&
            std::memcmp(name, ELF_NOTE_GNU, sizeof ELF_NOTE_GNU) == 0) {
          out.assign(content, note.n_descsz);
        }
        at = content + padded(note.n_descsz);
      }
    }
    return 1;  // the first object is the program
  };
  std::string out;
  ::dl_iterate_phdr(look, &out);
  return out;
}

// What the filter depends on: the profile and the capabilities, and the programs that make
// it of them. "": it cannot be told, nothing is to be kept.
Outcome<std::string> cache_name(const std::string& profile, std::uint64_t capabilities) {
  const std::string program = build_id();
  if (program.empty()) {
    return std::string();
  }
  const scmp_version* const library = ::seccomp_version();
  const std::string key = program + " " + std::to_string(capabilities) + " " +
                          std::to_string(library->major) + "." + std::to_string(library->minor) +
                          "." + std::to_string(library->micro) + " " + profile;
  const XXH128_hash_t hash = ::XXH3_128bits(key.data(), key.size());
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "/.seccomp-%016llx%016llx",
                static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  LFS_ASSIGN(const std::string home, state_home());
  return home + name.data();
}

// A filter that was cut off, say by a full disk, must not be taken for a whole one.
bool is_whole(const std::string& program) {
  return !program.empty() && program.size() % sizeof(sock_filter) == 0 &&
         program.size() / sizeof(sock_filter) <= BPF_MAXINSNS;
}

void keep(const std::string& path, const std::string& program) {
  const std::string next = path + "." + std::to_string(::getpid());
  const auto made = make_text(next, program, 0600);
  if (!made || ::rename(next.c_str(), path.c_str()) < 0) {
    ::unlink(next.c_str());
  }
}

}  // namespace

Outcome<SeccompChoice> choose_seccomp(const std::string& spec, std::uint64_t capabilities) {
  if (spec == "unconfined") {
    return SeccompChoice{.filtered = false};
  }
  std::string profile;
  if (spec != "default") {
    LFS_ASSIGN(profile, read_text(spec));
    if (profile.empty()) {
      return failed("'" + spec + "' is empty; --seccomp unconfined is without a filter");
    }
  }
  SeccompChoice out;
  LFS_ASSIGN(const std::string place, cache_name(profile, capabilities));
  if (!place.empty()) {
    LFS_ASSIGN(auto kept, read_text_if_there(place));
    if (kept && is_whole(*kept)) {
      out.program = *std::move(kept);
      return out;
    }
  }
  auto made = compile(profile, capabilities);
  if (!made) {
    return profile.empty() ? made.error() : failed("'" + spec + "': " + made.error().message);
  }
  out.program = *std::move(made);
  if (!place.empty()) {
    keep(place, out.program);
  }
  return out;
}

Outcome<void> load_seccomp(const SeccompChoice& choice) {
  if (!choice.filtered) {
    return {};
  }
  std::vector<sock_filter> instructions(choice.program.size() / sizeof(sock_filter));
  if (!is_whole(choice.program)) {
    return failed("the system call filter is not whole");
  }
  std::memcpy(instructions.data(), choice.program.data(), choice.program.size());
  const sock_fprog program{static_cast<unsigned short>(instructions.size()), instructions.data()};
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0
             ? Outcome<void>(cannot("set the system call filter"))
             : Outcome<void>();
}

}  // namespace layerfs::run
