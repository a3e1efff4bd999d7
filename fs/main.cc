// layerfsd: serves one mount. Started by `layerfs mount`, which gives it the
// configuration on one descriptor and waits for its word on another.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "fs/logging.h"
#include "fs/session.h"
#include "layers/sys/resident.h"

namespace {

using layerfs::Failure;
using layerfs::UniqueFd;

// What reading the configuration and the first nodes take.
constexpr std::size_t kStartHeap = 120 * 1024;

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

// Whether somebody still listens.
bool report(UniqueFd& status, const nlohmann::json& line) {
  const std::string text =
      line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  const bool heard = status && ::write(status.get(), text.data(), text.size()) >= 0;
  status.reset();
  return heard;
}

// Only when the mount answers, so that errors before it are seen.
void drop_stdio() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = 0; fd <= 2; ++fd) {
    ::dup2(null.get(), fd);
  }
}

int run(UniqueFd config_fd, UniqueFd status) {
  std::string why;
  const auto config = layerfs::parse_mount_config(read_all(config_fd.get()), why);
  config_fd.reset();
  const auto fail = [&](const std::string& message) {
    report(status, {{"ok", false}, {"message", message}});
    return 1;
  };
  if (!config) {
    return fail("layerfsd got a configuration it does not understand: " + why +
                "; install layerfs and layerfsd of one version");
  }
  if (!config->foreground) {
    // What started this process ends or wants it as a child: a fork would only cost time.
    ::setsid();
  }
  if (const auto logging = layerfs::start_logging(*config); !logging) {
    return fail(logging.error().message);
  }
  ::umask(0);
  auto session = layerfs::Session::mount(*config);
  if (!session) {
    return fail(session.error().message);
  }
  if (::chdir("/") != 0) {
    return fail("cannot leave the working directory");
  }
  const auto ended = (*session)->run([&] {
    if (!config->foreground) {
      drop_stdio();
    }
    return report(status, {{"ok", true}, {"pid", ::getpid()}});
  });
  if (!ended) {
    report(status, {{"ok", false}, {"message", ended.error().message}});
    layerfs::log_error(ended.error().message);
    return 1;
  }
  return 0;
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
        "layerfsd: serves a mount for `layerfs mount`; start that instead\n";
    return ::write(2, kUsage.data(), kUsage.size()) < 0 ? 1 : 2;
  }
  ::fcntl(fds.config, F_SETFD, FD_CLOEXEC);
  ::fcntl(fds.status, F_SETFD, FD_CLOEXEC);
  layerfs::sys::map_code();
  layerfs::sys::populate_heap(kStartHeap);
  return run(UniqueFd(fds.config), UniqueFd(fds.status));
}
