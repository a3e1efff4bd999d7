#include "fs/serve.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "fs/logging.h"
#include "fs/session.h"
#include "layers/sys/resident.h"

namespace layerfs {
namespace {

// What the layers and the first nodes take.
constexpr std::size_t kStartHeap = 120 * 1024;

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

}  // namespace

int refuse_to_serve(UniqueFd status, const std::string& message) {
  report(status, {{"ok", false}, {"message", message}});
  return 1;
}

int serve_mount(const MountConfig& config, UniqueFd status) {
  sys::map_code();
  sys::populate_heap(kStartHeap);
  // Whatever the program was called by: who looks for users of a layer goes by it.
  ::prctl(PR_SET_NAME, "layerfsd");
  if (!config.foreground) {
    // What started this process ends or wants it as a child: a fork would only cost time.
    ::setsid();
  }
  if (const auto logging = start_logging(config); !logging) {
    return refuse_to_serve(std::move(status), logging.error().message);
  }
  ::umask(0);
  auto session = Session::mount(config);
  if (!session) {
    return refuse_to_serve(std::move(status), session.error().message);
  }
  if (::chdir("/") != 0) {
    return refuse_to_serve(std::move(status), "cannot leave the working directory");
  }
  const auto ended = (*session)->run([&](dev_t device) {
    if (!config.foreground) {
      drop_stdio();
    }
    return report(status, {{"ok", true}, {"pid", ::getpid()}, {"device", device}});
  });
  if (!ended) {
    log_error(ended.error().message);
    return refuse_to_serve(std::move(status), ended.error().message);
  }
  return 0;
}

}  // namespace layerfs
