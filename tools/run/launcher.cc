#include "tools/run/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>

#include "tools/common/daemon.h"
#include "tools/run/channel.h"
#include "tools/run/children.h"
#include "tools/run/exit_code.h"
#include "tools/run/id_map.h"
#include "tools/run/places.h"
#include "tools/run/sealed_self.h"
#include "tools/run/seccomp.h"
#include "tools/run/supervisor.h"
#include "tools/run/terminal.h"

namespace layerfs::run {
namespace {

// Not the command's business: stopping and resuming are between the shell and us, faults
// are our own.
constexpr std::array kKept = {SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGPIPE, SIGCHLD, SIGFPE,
                              SIGILL,  SIGSEGV, SIGBUS,  SIGABRT, SIGTRAP, SIGSYS};

UniqueFd take_signals() {
  sigset_t set;
  sigfillset(&set);
  for (const int number : kKept) {
    sigdelset(&set, number);
  }
  ::sigprocmask(SIG_SETMASK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

class Launcher {
 public:
  Launcher(const RunConfig& config, const Streams& streams) : config_(config), streams_(streams) {}

  Outcome<int> run() {
    LFS_ASSIGN(const std::string daemon, find_own_daemon());
    LFS_ASSIGN(SeccompChoice seccomp, choose_seccomp(config_.seccomp));
    LFS_ASSIGN(places_, make_places(config_.name, config_.upper.empty()));
    const int code = start_and_follow({config_, daemon, places_, std::move(seccomp), {}});
    return code;
  }

 private:
  int start_and_follow(SupervisorStart start) {
    // What the supervisor leaves behind when it is killed comes to us.
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    auto ends = Channel::pair();
    if (!ends) {
      return fail(ends.error().message);
    }
    const pid_t pid = ::fork();
    if (pid == 0) {
      ends->first.close();
      start.channel = std::move(ends->second);
      run_supervisor(std::move(start));
    }
    ends->second.close();
    channel_ = std::move(ends->first);
    if (pid < 0) {
      return fail("cannot start a process: " + describe(Errno::last()));
    }
    supervisor_ = pid;
    signals_ = take_signals();
    while (!over_) {
      turn();
    }
    terminal_.finish();
    end_children(std::chrono::seconds(reported_ ? 10 : 0));
    if (!reported_) {
      ignore(remove_places(places_), "the supervisor's death is what is reported");
      return fail("the container's supervisor was killed; the container was ended");
    }
    return code_;
  }

  void turn() {
    std::array<pollfd, 4> items{{{signals_.get(), POLLIN, 0},
                                 {channel_.fd(), POLLIN, 0},
                                 {terminal_.input(), POLLIN, 0},
                                 {terminal_.output(), POLLIN, 0}}};
    if (::poll(items.data(), items.size(), -1) < 0) {
      return;
    }
    if (items[0].revents != 0) {
      hand_on_signal();
    }
    if (items[3].revents != 0) {
      terminal_.copy_output();
    }
    if (items[2].revents != 0 && terminal_.output() >= 0) {
      terminal_.copy_input();
    }
    if (items[1].revents != 0) {
      hear();
    }
  }

  void hand_on_signal() {
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) {
      return;
    }
    if (info.ssi_signo == SIGWINCH) {
      terminal_.resize();
    } else {
      channel_.send(Word::Signal, info.ssi_signo);
    }
  }

  void hear() {
    auto message = channel_.receive();
    if (!message) {
      over_ = true;
      return;
    }
    switch (message->word) {
      case Word::MapMe:
        give_ids();
        break;
      case Word::Terminal:
        terminal_.start(std::move(message->fd));
        break;
      case Word::Report:
        take_report(*message);
        break;
      default:
        break;
    }
  }

  void give_ids() {
    auto maps = maps_of_caller();
    const auto done =
        maps ? write_maps(supervisor_, *maps, /*privileged=*/false) : Outcome<void>(maps.error());
    if (!done) {
      map_problem_ = done.error().message;
    }
    channel_.send(done ? Word::Mapped : Word::Failed);
  }

  void take_report(const Message& message) {
    reported_ = true;
    over_ = true;
    code_ = static_cast<int>(message.number);
    write_status(message.text);
    const auto report = nlohmann::json::parse(message.text, nullptr, /*allow_exceptions=*/false);
    terminal_.finish();
    if (!map_problem_.empty()) {
      fail(map_problem_);
    } else if (report.is_object() && report.contains("message")) {
      fail(report["message"].get<std::string>());
    }
  }

  void write_status(const std::string& report) const {
    const std::string line = report + "\n";
    if (config_.status_fd >= 0 && ::write(config_.status_fd, line.data(), line.size()) < 0) {
      streams_.err << "layerfs-run: cannot write to descriptor " << config_.status_fd
                   << " (--status-fd): " << describe(Errno::last()) << '\n';
    }
  }

  int fail(const std::string& message) {
    terminal_.finish();
    streams_.err << "layerfs-run: " << message << '\n';
    return kLauncherFailed;
  }

  const RunConfig& config_;
  const Streams& streams_;
  Places places_;
  Channel channel_;
  UniqueFd signals_;
  TerminalRelay terminal_;
  pid_t supervisor_ = -1;
  std::string map_problem_;
  bool over_ = false;
  bool reported_ = false;
  int code_ = kLauncherFailed;
};

}  // namespace

int launch(RunConfig config, const Streams& streams) {
  const auto run = [&]() -> Outcome<int> {
    if (config.name.empty()) {
      LFS_ASSIGN(config.name, random_id());
    }
    if (config.hostname.empty()) {
      config.hostname = config.name;
    }
    return Launcher(config, streams).run();
  };
  const auto code = run();
  if (!code) {
    streams.err << "layerfs-run: " << code.error().message << '\n';
    return kLauncherFailed;
  }
  return *code;
}

}  // namespace layerfs::run
