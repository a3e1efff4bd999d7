#include "tools/run/container_user.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <functional>
#include <optional>

#include "layers/sys/syscalls.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

constexpr std::uint32_t kMostId = 0x7fffffff;

using Fields = std::vector<std::string_view>;

// Calls `see` for each line of at least `least` fields until it returns true.
void each_line(std::string_view text, std::size_t least,
               const std::function<bool(const Fields&)>& see) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    Fields fields;
    for (;;) {
      const std::size_t colon = line.find(':');
      fields.push_back(line.substr(0, colon));
      if (colon == std::string_view::npos) {
        break;
      }
      line.remove_prefix(colon + 1);
    }
    if (fields.size() >= least && see(fields)) {
      return;
    }
  }
}

bool all_digits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<std::uint32_t> id_of(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (!all_digits(text) || error != std::errc() || end != text.data() + text.size() ||
      value > kMostId) {
    return std::nullopt;
  }
  return value;
}

bool has_member(std::string_view members, std::string_view name) {
  while (!members.empty()) {
    const std::size_t end = std::min(members.find(','), members.size());
    if (members.substr(0, end) == name) {
      return true;
    }
    members.remove_prefix(std::min(end + 1, members.size()));
  }
  return false;
}

Outcome<std::string> read_below(int root, const char* path) {
  const std::string shown = std::string("the container's /") + path;
  // Not to wait for a writer where an image has a FIFO.
  const auto fd = sys::open_in_root(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!fd) {
    if (is_absence(fd.error())) {
      return std::string();
    }
    return failed("cannot read " + shown + ": " + describe(fd.error()));
  }
  const auto st = sys::stat_at({fd->get()});
  if (!st || !S_ISREG(st->stx_mode)) {
    return failed(shown + " is not a plain file");
  }
  return read_text_fd(fd->get(), shown);
}

struct Account {
  std::string name;  // "": not in the file
  uid_t uid = 0;
  gid_t gid = 0;
  std::string home = "/";
};

Outcome<Account> find_account(std::string_view who, std::string_view passwd) {
  std::optional<Account> found;
  std::optional<Problem> bad;
  const auto take = [&](const Fields& fields) {
    const auto uid = id_of(fields[2]);
    const auto gid = id_of(fields[3]);
    if (!uid || !gid) {
      bad = failed("the container's /etc/passwd has unusable ids for '" + std::string(fields[0]) +
                   "'");
      return true;
    }
    found = Account{std::string(fields[0]), *uid, *gid,
                    std::string(fields.size() > 5 && !fields[5].empty() ? fields[5] : "/")};
    return true;
  };
  each_line(passwd, 4, [&](const Fields& fields) { return fields[0] == who && take(fields); });
  const auto number = id_of(who);
  if (!found && !bad && number) {
    each_line(passwd, 4,
              [&](const Fields& fields) { return id_of(fields[2]) == number && take(fields); });
  }
  if (bad) {
    return *bad;
  }
  if (found) {
    return *found;
  }
  if (number) {
    return Account{.name = {}, .uid = *number, .gid = 0, .home = "/"};
  }
  return all_digits(who)
             ? failed("user id " + std::string(who) + " is beyond 2147483647")
             : failed("the container's /etc/passwd has no user '" + std::string(who) + "'");
}

Outcome<gid_t> find_group(std::string_view which, std::string_view group) {
  std::optional<gid_t> found;
  each_line(group, 3, [&](const Fields& fields) {
    if (fields[0] != which) {
      return false;
    }
    found = id_of(fields[2]);
    return found.has_value();
  });
  if (!found) {
    found = id_of(which);
  }
  if (found) {
    return *found;
  }
  return all_digits(which)
             ? failed("group id " + std::string(which) + " is beyond 2147483647")
             : failed("the container's /etc/group has no group '" + std::string(which) + "'");
}

}  // namespace

Outcome<AccountFiles> read_account_files(int root) {
  AccountFiles out;
  LFS_ASSIGN(out.passwd, read_below(root, "etc/passwd"));
  LFS_ASSIGN(out.group, read_below(root, "etc/group"));
  return out;
}

Outcome<ContainerUser> find_user(std::string_view spec, const AccountFiles& files) {
  const std::size_t colon = spec.find(':');
  const std::string_view who = spec.empty() ? std::string_view("0") : spec.substr(0, colon);
  if (who.empty() || (colon != std::string_view::npos && colon + 1 == spec.size())) {
    return usage_error("'" + std::string(spec) + "' is not USER[:GROUP]");
  }
  LFS_ASSIGN(const Account account, find_account(who, files.passwd));
  ContainerUser out{account.uid, account.gid, {}, account.home};
  if (colon != std::string_view::npos) {
    LFS_ASSIGN(out.gid, find_group(spec.substr(colon + 1), files.group));
    out.groups = {out.gid};
    return out;
  }
  out.groups = {out.gid};
  if (!account.name.empty()) {
    each_line(files.group, 4, [&](const Fields& fields) {
      const auto gid = id_of(fields[2]);
      if (gid && has_member(fields[3], account.name) &&
          std::find(out.groups.begin(), out.groups.end(), *gid) == out.groups.end()) {
        out.groups.push_back(*gid);
      }
      return false;
    });
  }
  return out;
}

}  // namespace layerfs::run
