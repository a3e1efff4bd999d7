#include "tools/run/option_syntax.h"

#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <optional>

namespace layerfs::run {
namespace {

constexpr std::size_t kLongestHostname = 64;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  for (;;) {
    const std::size_t end = text.find(separator);
    out.push_back(text.substr(0, end));
    if (end == std::string_view::npos) {
      return out;
    }
    text.remove_prefix(end + 1);
  }
}

template <class T>
std::optional<T> number(std::string_view text, int base = 10) {
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

std::string quoted(std::string_view text) { return "'" + std::string(text) + "'"; }

Outcome<std::string> parse_target(std::string_view text) {
  if (!text.starts_with('/')) {
    return usage_error(quoted(text) + " is no absolute path in the container");
  }
  std::string out(text);
  while (out.size() > 1 && out.back() == '/') {
    out.pop_back();
  }
  if (out == "/") {
    return usage_error("nothing can be mounted over the container's root");
  }
  return out;
}

bool apply_common_word(std::string_view word, Volume& volume) {
  if (word == "ro" || word == "rw") {
    volume.read_only = word == "ro";
  } else if (word == "noexec" || word == "exec") {
    volume.no_exec = word == "noexec";
  } else {
    return false;
  }
  return true;
}

bool apply_volume_word(std::string_view word, Volume& volume) {
  if (apply_common_word(word, volume)) {
    return true;
  }
  if (word == "nosuid" || word == "suid") {
    volume.no_suid = word == "nosuid";
  } else if (word == "nodev" || word == "dev") {
    volume.no_dev = word == "nodev";
  } else if (word == "private" || word == "rprivate") {
    volume.propagation = MS_PRIVATE;
  } else if (word == "slave" || word == "rslave") {
    volume.propagation = MS_SLAVE;
  } else if (word == "shared" || word == "rshared") {
    volume.propagation = MS_SHARED;
  } else {
    // "z" and "Z" label files for SELinux, "U" changes their owner: nothing to guess at.
    return false;
  }
  return true;
}

struct NamedLimit {
  std::string_view name;
  int resource;
};
constexpr std::array kLimits = {
    NamedLimit{"as", RLIMIT_AS},
    NamedLimit{"core", RLIMIT_CORE},
    NamedLimit{"cpu", RLIMIT_CPU},
    NamedLimit{"data", RLIMIT_DATA},
    NamedLimit{"fsize", RLIMIT_FSIZE},
    NamedLimit{"locks", RLIMIT_LOCKS},
    NamedLimit{"memlock", RLIMIT_MEMLOCK},
    NamedLimit{"msgqueue", RLIMIT_MSGQUEUE},
    NamedLimit{"nice", RLIMIT_NICE},
    NamedLimit{"nofile", RLIMIT_NOFILE},
    NamedLimit{"nproc", RLIMIT_NPROC},
    NamedLimit{"rss", RLIMIT_RSS},
    NamedLimit{"rtprio", RLIMIT_RTPRIO},
    NamedLimit{"rttime", RLIMIT_RTTIME},
    NamedLimit{"sigpending", RLIMIT_SIGPENDING},
    NamedLimit{"stack", RLIMIT_STACK},
};

std::optional<std::uint64_t> limit_value(std::string_view text) {
  return text == "-1" || text == "unlimited" ? std::optional<std::uint64_t>(RLIM_INFINITY)
                                             : number<std::uint64_t>(text);
}

}  // namespace

Outcome<Volume> parse_volume(std::string_view text, const std::string& here) {
  const auto parts = split(text, ':');
  if (parts.size() < 2 || parts.size() > 3 || parts[0].empty()) {
    return usage_error(quoted(text) + " is not SOURCE:TARGET[:WORD,...]");
  }
  Volume out;
  out.source = std::string(parts[0]);
  if (!out.source.starts_with('/')) {
    out.source = here + "/" + out.source;
  }
  LFS_ASSIGN(out.target, parse_target(parts[1]));
  if (parts.size() == 3) {
    for (const std::string_view word : split(parts[2], ',')) {
      if (!apply_volume_word(word, out)) {
        return usage_error(quoted(word) + " is no word for a volume");
      }
    }
  }
  return out;
}

Outcome<Volume> parse_tmpfs(std::string_view text) {
  const std::size_t colon = text.find(':');
  Volume out;
  LFS_ASSIGN(out.target, parse_target(text.substr(0, colon)));
  if (colon == std::string_view::npos) {
    return out;
  }
  for (const std::string_view word : split(text.substr(colon + 1), ',')) {
    if (word.starts_with("size=")) {
      out.tmpfs_size = std::string(word.substr(5));
    } else if (word.starts_with("mode=")) {
      const auto mode = number<unsigned>(word.substr(5), 8);
      if (!mode || *mode > 07777) {
        return usage_error(quoted(word) + " is no octal mode");
      }
      out.tmpfs_mode = static_cast<mode_t>(*mode);
    } else if (!apply_common_word(word, out) && word != "nosuid" && word != "nodev") {
      return usage_error(quoted(word) + " is no word for a tmpfs");
    }
  }
  return out;
}

Outcome<RLimit> parse_ulimit(std::string_view text) {
  const std::size_t equals = text.find('=');
  const auto named = std::find_if(kLimits.begin(), kLimits.end(), [&](const NamedLimit& limit) {
    return limit.name == text.substr(0, equals);
  });
  if (equals == std::string_view::npos || named == kLimits.end()) {
    return usage_error(quoted(text) + " is not NAME=SOFT[:HARD] of a known limit");
  }
  const auto values = split(text.substr(equals + 1), ':');
  const auto soft = limit_value(values[0]);
  const auto hard = limit_value(values.back());
  if (values.size() > 2 || !soft || !hard || *soft > *hard) {
    return usage_error(quoted(text) + " needs numbers, the soft one not above the hard one");
  }
  return RLimit{named->resource, *soft, *hard};
}

Outcome<std::vector<std::string>> parse_environment(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == 0 || text.empty() || text.find('\0') != std::string_view::npos) {
    return usage_error(quoted(text) + " is not NAME=VALUE");
  }
  if (equals != std::string_view::npos) {
    return std::vector{std::string(text)};
  }
  const std::string name(text);
  const char* value = std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe): one thread
  return value == nullptr ? std::vector<std::string>{}
                          : std::vector<std::string>{name + "=" + value};
}

Outcome<std::vector<std::string>> parse_environment_file(std::string_view text) {
  std::vector<std::string> out;
  std::size_t count = 0;
  for (std::string_view line : split(text, '\n')) {
    ++count;
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    }
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    if (line.empty() || line.starts_with('#')) {
      continue;
    }
    if (line.substr(0, line.find('=')).find_first_of(" \t") != std::string_view::npos) {
      return usage_error("line " + std::to_string(count) + ": a name with blanks: " + quoted(line));
    }
    auto found = parse_environment(line);
    if (!found) {
      return usage_error("line " + std::to_string(count) + ": " + found.error().message);
    }
    out.insert(out.end(), found->begin(), found->end());
  }
  return out;
}

Outcome<std::uint64_t> parse_rate(std::string_view text) {
  constexpr std::string_view kUnits = "kmg";
  std::string_view digits = text;
  std::uint64_t factor = 1;
  const std::size_t unit = text.empty() ? std::string_view::npos : kUnits.find(text.back());
  if (unit != std::string_view::npos) {
    digits.remove_suffix(1);
    for (std::size_t i = 0; i <= unit; ++i) {
      factor *= 1000;
    }
  }
  const auto value = number<std::uint64_t>(digits);
  constexpr std::uint64_t kLeast = 8000;
  constexpr std::uint64_t kMost = 1'000'000'000'000;
  if (!value || *value > kMost / factor || *value * factor < kLeast) {
    return usage_error("'" + std::string(text) + "' is no number of bits a second, as 10m");
  }
  return *value * factor;
}

Outcome<Port> parse_port(std::string_view text) {
  Port out;
  std::string_view rest = text;
  if (const std::size_t slash = rest.find('/'); slash != std::string_view::npos) {
    const std::string_view protocol = rest.substr(slash + 1);
    if (protocol != "tcp" && protocol != "udp") {
      return usage_error(quoted(protocol) + " is neither tcp nor udp");
    }
    out.udp = protocol == "udp";
    rest = rest.substr(0, slash);
  }
  const std::size_t last = rest.rfind(':');
  const auto container = number<std::uint16_t>(rest.substr(last + 1));
  std::optional<std::uint16_t> host = container;
  if (last != std::string_view::npos) {
    const std::string_view before = rest.substr(0, last);
    const std::size_t first = before.rfind(':');
    host = number<std::uint16_t>(before.substr(first + 1));
    if (first != std::string_view::npos) {
      out.address = std::string(before.substr(0, first));
    }
  }
  if (!container || !host || *container == 0 || *host == 0) {
    return usage_error(quoted(text) + " is not [ADDRESS:]HOST:CONTAINER[/udp]");
  }
  out.host = *host;
  out.container = *container;
  return out;
}

Outcome<std::string> parse_hostname(std::string_view text) {
  const bool fits =
      text.size() <= kLongestHostname && std::all_of(text.begin(), text.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_';
      });
  if (!fits || text.empty()) {
    return usage_error(quoted(text) + " is no host name");
  }
  return std::string(text);
}

}  // namespace layerfs::run
