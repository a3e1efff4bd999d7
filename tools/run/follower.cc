#include "tools/run/follower.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>

#include "layers/sys/resident.h"
#include "tools/run/children.h"
#include "tools/run/exit_code.h"
#include "tools/run/id_map.h"

namespace layerfs::run {
namespace {

constexpr auto kPatience = std::chrono::seconds(10);

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
  ::pthread_sigmask(SIG_SETMASK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace

int Follower::follow(const std::function<void(Channel)>& work,
                     const std::function<void()>& abandoned) {
  code_ = kLauncherFailed;
  // What the worker leaves behind when it is killed comes to us.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  auto ends = Channel::pair();
  if (!ends) {
    return fail(ends.error().message);
  }
  const pid_t pid = ::fork();
  if (pid == 0) {
    ends->first.close();
    work(std::move(ends->second));
    ::_exit(kLauncherFailed);
  }
  ends->second.close();
  channel_ = std::move(ends->first);
  if (pid < 0) {
    return fail("cannot start a process: " + describe(Errno::last()));
  }
  worker_ = pid;
  signals_ = take_signals();
  while (!over_) {
    turn();
  }
  terminal_.finish();
  end_children(kPatience);
  if (!reported_) {
    abandoned();
    return fail("the container's supervisor was killed; the container was ended");
  }
  return code_;
}

void Follower::turn() {
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

void Follower::hand_on_signal() {
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

void Follower::hear() {
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
    case Word::Started:
      started_();
      sys::release_code();
      break;
    case Word::Report:
      take_report(*message);
      break;
    default:
      break;
  }
}

void Follower::give_ids() {
  auto maps = maps_of_caller();
  const auto done =
      maps ? write_maps(worker_, *maps, /*privileged=*/false) : Outcome<void>(maps.error());
  if (!done) {
    map_problem_ = done.error().message;
  }
  channel_.send(done ? Word::Mapped : Word::Failed);
}

void Follower::take_report(const Message& message) {
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

void Follower::write_status(const std::string& report) const {
  const std::string line = report + "\n";
  if (status_fd_ >= 0 && ::write(status_fd_, line.data(), line.size()) < 0) {
    streams_.err << "layerfs-run: cannot write to descriptor " << status_fd_
                 << " (--status-fd): " << describe(Errno::last()) << '\n';
  }
}

int Follower::fail(const std::string& message) {
  terminal_.finish();
  streams_.err << "layerfs-run: " << message << '\n';
  return kLauncherFailed;
}

}  // namespace layerfs::run
