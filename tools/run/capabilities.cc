#include "tools/run/capabilities.h"

#include <linux/capability.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <initializer_list>

#include "tools/run/cannot.h"

namespace layerfs::run {
namespace {

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

// Those that this kernel knows.
int last_capability() {
  int last = CAP_LAST_CAP;
  while (last > 0 && ::prctl(PR_CAPBSET_READ, last) < 0) {
    --last;
  }
  while (last < 63 && ::prctl(PR_CAPBSET_READ, last + 1) >= 0) {
    ++last;
  }
  return last;
}

}  // namespace

std::uint64_t default_capabilities() {
  return bit(CAP_CHOWN) | bit(CAP_DAC_OVERRIDE) | bit(CAP_FSETID) | bit(CAP_FOWNER) |
         bit(CAP_SETGID) | bit(CAP_SETUID) | bit(CAP_SETFCAP) | bit(CAP_SETPCAP) |
         bit(CAP_NET_BIND_SERVICE) | bit(CAP_SYS_CHROOT) | bit(CAP_KILL);
}

Outcome<std::uint64_t> parse_capability(std::string_view name) {
  std::string text(name);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (text == "all") {
    const int last = last_capability();
    return last == 63 ? ~std::uint64_t{0} : bit(last + 1) - 1;
  }
  if (!text.starts_with("cap_")) {
    text.insert(0, "cap_");
  }
  cap_value_t value = 0;
  // cap_from_name takes bare numbers too, which here are more likely a slip.
  if (text.size() < 5 || std::isdigit(static_cast<unsigned char>(text[4])) != 0 ||
      ::cap_from_name(text.c_str(), &value) < 0 || value > 63) {
    return usage_error("there is no capability '" + std::string(name) +
                       "'; capabilities(7) lists them");
  }
  return bit(value);
}

std::string capability_names(std::uint64_t set) {
  std::string out;
  for (int value = 0; value < 64; ++value) {
    if ((set & bit(value)) == 0) {
      continue;
    }
    char* name = ::cap_to_name(value);
    if (name != nullptr) {
      out += (out.empty() ? "" : ",") + std::string(name);
      ::cap_free(name);
    }
  }
  return out;
}

Outcome<void> limit_bounding_set(std::uint64_t keep) {
  for (int value = 0; value <= last_capability(); ++value) {
    if ((keep & bit(value)) == 0 && ::prctl(PR_CAPBSET_DROP, value) < 0) {
      return cannot("drop capabilities");
    }
  }
  return {};
}

Outcome<void> set_capabilities(std::uint64_t keep) {
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  const cap_t none = ::cap_init();
  if (none == nullptr) {
    return cannot("set capabilities");
  }
  for (int value = 0; value <= last_capability(); ++value) {
    if ((keep & bit(value)) != 0) {
      const cap_value_t one = value;
      ::cap_set_flag(none, CAP_PERMITTED, 1, &one, CAP_SET);
      ::cap_set_flag(none, CAP_EFFECTIVE, 1, &one, CAP_SET);
    }
  }
  const int done = ::cap_set_proc(none);
  const int error = errno;
  ::cap_free(none);
  errno = error;
  return done < 0 ? Outcome<void>(cannot("set capabilities")) : Outcome<void>();
}

Outcome<void> limit_capabilities(std::uint64_t keep) {
  LFS_TRY(limit_bounding_set(keep));
  return set_capabilities(keep);
}

}  // namespace layerfs::run
