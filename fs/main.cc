// layerfsd: serves one mount. Started by layerfs-run, which gives it the
// configuration on one descriptor and waits for its word on another.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <string>
#include <string_view>

#include "fs/serve.h"

namespace {

using layerfs::UniqueFd;

struct Descriptors {
  int config = -1;
  int status = -1;
};

bool parse(int argc, char** argv, Descriptors& out) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view option = argv[i];
    const std::string_view value = argv[i + 1];
    int* const target = option == "--config-fd"   ? &out.config
                        : option == "--status-fd" ? &out.status
                                                  : nullptr;
    if (target == nullptr ||
        std::from_chars(value.data(), value.data() + value.size(), *target).ec != std::errc()) {
      return false;
    }
  }
  return out.config >= 0 && out.status >= 0;
}

std::string read_all(int fd) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return text;
    }
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
}

int run(UniqueFd config_fd, UniqueFd status) {
  std::string why;
  const auto config = layerfs::parse_mount_config(read_all(config_fd.get()), why);
  config_fd.reset();
  if (!config) {
    return layerfs::refuse_to_serve(std::move(status),
                                    "layerfsd got a configuration it does not understand: " + why +
                                        "; install layerfs-run and layerfsd of one version");
  }
  return layerfs::serve_mount(*config, std::move(status));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--version") {
    const std::string_view version = "layerfsd " LAYERFS_VERSION "\n";
    return ::write(1, version.data(), version.size()) < 0 ? 1 : 0;
  }
  Descriptors fds;
  if (argc % 2 == 0 || !parse(argc, argv, fds)) {
    constexpr std::string_view kUsage =
        "layerfsd: serves a mount for layerfs-run; for one without a container use layerfs mount\n";
    return ::write(2, kUsage.data(), kUsage.size()) < 0 ? 1 : 2;
  }
  ::fcntl(fds.config, F_SETFD, FD_CLOEXEC);
  ::fcntl(fds.status, F_SETFD, FD_CLOEXEC);
  return run(UniqueFd(fds.config), UniqueFd(fds.status));
}
