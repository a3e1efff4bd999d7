#include "tools/run/seccomp.h"

#include <linux/capability.h>
#include <seccomp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "tools/run/seccomp_default.h"
#include "tools/run/seccomp_profile.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
constexpr std::uint64_t kNamespaceFlags = 0x7E020000;

Problem cannot(const char* what, int rc) {
  return failed(std::string("cannot ") + what + ": " + describe(Errno(-rc)));
}

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
    return cannot("make the system call filter", rc);
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

}  // namespace

Outcome<SeccompChoice> choose_seccomp(const std::string& spec) {
  if (spec == "unconfined") {
    return SeccompChoice{.filtered = false};
  }
  if (spec == "default") {
    return SeccompChoice{};
  }
  LFS_ASSIGN(std::string text, read_text(spec));
  if (auto checked = parse_seccomp_profile(text, 0); !checked) {
    return failed("'" + spec + "': " + checked.error().message);
  }
  return SeccompChoice{.filtered = true, .profile = std::move(text)};
}

Outcome<void> load_seccomp(const SeccompChoice& choice, std::uint64_t capabilities) {
  if (!choice.filtered) {
    return {};
  }
  SeccompProfile profile;
  if (!choice.profile.empty()) {
    LFS_ASSIGN(profile, parse_seccomp_profile(choice.profile, capabilities));
  }
  const std::uint32_t otherwise =
      choice.profile.empty() ? SCMP_ACT_ERRNO(EPERM) : profile.default_action;
  const std::unique_ptr<void, void (*)(scmp_filter_ctx)> filter(::seccomp_init(otherwise),
                                                                ::seccomp_release);
  if (!filter) {
    return failed("cannot make the system call filter: no memory");
  }
  ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_NNP, 0);
  ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  add_architectures(filter.get());
  if (choice.profile.empty()) {
    LFS_TRY(default_rules(filter.get(), capabilities));
  }
  for (const SeccompRule& one : profile.rules) {
    for (const std::string& name : one.names) {
      const int number = ::seccomp_syscall_resolve_name(name.c_str());
      if (number == __NR_SCMP_ERROR || one.action == otherwise) {
        continue;
      }
      const int rc = ::seccomp_rule_add_array(filter.get(), one.action, number,
                                              static_cast<unsigned>(one.conditions.size()),
                                              one.conditions.data());
      if (rc < 0 && rc != -EDOM) {
        return cannot("make the system call filter of the profile", rc);
      }
    }
  }
  const int rc = ::seccomp_load(filter.get());
  return rc < 0 ? Outcome<void>(cannot("set the system call filter", rc)) : Outcome<void>();
}

}  // namespace layerfs::run
