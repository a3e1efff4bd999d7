#include "tools/run/launcher.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "layers/sys/syscalls.h"
#include "tools/run/exit_code.h"
#include "tools/run/follower.h"
#include "tools/run/image_root.h"
#include "tools/run/places.h"
#include "tools/run/sealed_self.h"
#include "tools/run/seccomp.h"
#include "tools/run/supervisor.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

Outcome<int> run_to_the_end(const RunConfig& config, const Streams& streams,
                            std::function<void()> started) {
  LFS_ASSIGN(const std::string daemon, find_own_program("layerfsd"));
  LFS_ASSIGN(SeccompChoice seccomp, choose_seccomp(config.seccomp, config.capabilities));
  LFS_ASSIGN(const Places places, make_places(config.name, config.upper.empty()));
  Follower follower(streams, config.status_fd);
  follower.on_start(std::move(started));
  return follower.follow(
      [&](Channel channel) {
        run_supervisor({config, daemon, places, std::move(seccomp), std::move(channel)});
      },
      [&] { ignore(remove_places(places), "the supervisor's death is what is reported"); });
}

Outcome<std::string> log_path(const RunConfig& config) {
  if (!config.log_file.empty()) {
    return config.log_file;
  }
  LFS_ASSIGN(const std::string home, state_home());
  return home + "/" + config.name + ".log";
}

// Leaves the terminal: what the command and the launcher say goes to the log.
Outcome<void> into_background(const std::string& log) {
  ::setsid();
  const auto null = sys::open_path("/dev/null", O_RDONLY);
  const auto file = sys::open_path(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
  if (!null || !file || ::dup2(null->get(), STDIN_FILENO) < 0 ||
      ::dup2(file->get(), STDOUT_FILENO) < 0 || ::dup2(file->get(), STDERR_FILENO) < 0) {
    return failed("cannot write to '" + log + "': " + describe(Errno::last()));
  }
  return {};
}

// Returns in the caller once the command runs.
Outcome<int> run_detached(const RunConfig& config, const Streams& streams) {
  LFS_ASSIGN(const std::string log, log_path(config));
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) < 0) {
    return failed("cannot make a pipe: " + describe(Errno::last()));
  }
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t pid = ::fork();
  if (pid == 0) {
    auto code = Outcome<int>(kLauncherFailed);
    if (auto left = into_background(log); !left) {
      code = left.error();
    } else {
      code = run_to_the_end(config, streams, [&] {
        const char word = 's';
        ignore(::write(writer.get(), &word, 1) < 0 ? Status(Errno::last()) : Status(),
               "the caller may be gone");
        writer.reset();
      });
    }
    if (!code) {
      streams.err << "layerfs-run: " << code.error().message << '\n';
    }
    streams.err.flush();
    // One that did not start leaves it to the caller, who shows it.
    if (config.remove_log && !writer) {
      ::unlink(log.c_str());
    }
    ::_exit(code ? *code : kLauncherFailed);
  }
  writer.reset();
  char word = 0;
  if (::read(reader.get(), &word, 1) == 1) {
    streams.out << config.name << '\n';
    return 0;
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  const auto said = read_text_if_there(log);
  if (said && *said) {
    streams.err << **said;
  }
  // It has told all it has.
  ::unlink(log.c_str());
  return exit_code_of(status);
}

}  // namespace

Outcome<int> launch(RunConfig config, const Streams& streams) {
  if (config.name.empty()) {
    LFS_ASSIGN(config.name, random_id());
  }
  if (!config.image.empty()) {
    LFS_TRY(use_image(config));
  }
  if (config.hostname.empty()) {
    config.hostname = config.name;
  }
  return config.detach ? run_detached(config, streams) : run_to_the_end(config, streams, [] {});
}

}  // namespace layerfs::run
