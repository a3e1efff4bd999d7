#include "tests/model/mounted_tree.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "layers/mount_config.h"

namespace layerfs::model {
namespace {

constexpr int kDaemonSeconds = 60;

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) {
    out += (out.empty() ? "" : ":") + part;
  }
  return out;
}

std::string failure(const std::string& what) { return what + ": " + std::strerror(errno); }

void replace(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos;
       at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

std::string end_text(int status) {
  if (WIFSIGNALED(status)) {
    return std::string("ended by SIG") + ::sigabbrev_np(WTERMSIG(status));
  }
  return "exited with " + std::to_string(WEXITSTATUS(status));
}

// Those that a run may vary; others are refused.
bool set_option(MountConfig& config, const std::string& option) {
  const std::size_t equals = option.find('=');
  const std::string key = option.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : option.substr(equals + 1);
  const bool on = value != "off";
  if (key == "threads") {
    config.threads = std::atoi(value.c_str());
  } else if (key == "metacopy") {
    config.metacopy = on;
  } else if (key == "index") {
    config.index = on;
  } else if (key == "redirect") {
    config.redirect = on;
  } else if (key == "volatile") {
    config.volatile_ = on;
  } else if (key == "timeout") {
    config.timeout = std::atof(value.c_str());
  } else if (key == "whiteout") {
    return from_string(value, config.whiteout);
  } else if (key == "xattr") {
    return from_string(value, config.xattr);
  } else if (key == "override_stat") {
    return from_string(value, config.override_stat);
  } else if (key == "log_level") {
    return from_string(value, config.log_level);
  } else {
    return false;
  }
  return true;
}

}  // namespace

std::string MountedTree::mount(const MountDirs& dirs) {
  dirs_ = dirs;
  if (!settings_.mount_command.empty()) {
    return run_command(settings_.mount_command);
  }
  switch (settings_.kind) {
    case FsKind::Plain:
      return "";
    case FsKind::Overlay:
      return mount_overlay(dirs);
    case FsKind::Layerfs:
      return mount_layerfs(dirs);
  }
  return "";
}

std::string MountedTree::run_command(std::string command) {
  replace(command, "{lowers}", joined(dirs_.lowers));
  replace(command, "{upper}", dirs_.upper);
  replace(command, "{work}", dirs_.work);
  replace(command, "{init}", dirs_.init);
  replace(command, "{mountpoint}", dirs_.mountpoint);
  replace(command, "{io}", settings_.io);
  const int status = std::system(command.c_str());
  return status == 0 ? "" : "`" + command + "` " + end_text(status);
}

std::string MountedTree::mount_overlay(const MountDirs& dirs) {
  // Relative names: the option string must fit a page.
  const std::string base = dirs.upper.substr(0, dirs.upper.rfind('/'));
  const auto relative = [&base](const std::string& path) { return path.substr(base.size() + 1); };
  std::string lowers;
  for (const std::string& lower : dirs.lowers) {
    lowers += (lowers.empty() ? "" : ":") + relative(lower);
  }
  if (::chdir(base.c_str()) < 0) {
    return failure(base);
  }
  const std::string options =
      "lowerdir=" + lowers + ",upperdir=" + relative(dirs.upper) +
      ",workdir=" + relative(dirs.work) +
      ",redirect_dir=on,metacopy=on,xino=on,index=" + (settings_.read_only ? "off" : "on");
  const int result = ::mount("overlay", dirs.mountpoint.c_str(), "overlay",
                             settings_.read_only ? MS_RDONLY : 0, options.c_str());
  const std::string error = result < 0 ? failure("mount of overlay, " + options) : "";
  return ::chdir("/") < 0 ? failure("/") : error;
}

std::string MountedTree::mount_layerfs(const MountDirs& dirs) {
  MountConfig config;
  config.lowers = dirs.lowers;
  config.upper = dirs.upper;
  config.work = dirs.work;
  config.init = dirs.init;
  config.mountpoint = dirs.mountpoint;
  config.foreground = true;  // stays our child: its end is seen
  if (!from_string(settings_.io, config.io)) {
    return "no I/O mode " + settings_.io;
  }
  for (const std::string& option : settings_.options) {
    if (!set_option(config, option)) {
      return "the mount option " + option + " is not known to this test; see set_option";
    }
  }
  const std::string text = to_json_text(config) + "\n";
  int to_daemon[2];
  int from_daemon[2];
  if (::pipe2(to_daemon, O_CLOEXEC) < 0 || ::pipe2(from_daemon, O_CLOEXEC) < 0) {
    return failure("pipe");
  }
  const int log = ::open(dirs.log.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(log, 1);
    ::dup2(log, 2);
    const std::string config_fd = std::to_string(::dup(to_daemon[0]));
    const std::string status_fd = std::to_string(::dup(from_daemon[1]));
    ::execl(settings_.daemon.c_str(), settings_.daemon.c_str(), "--config-fd", config_fd.c_str(),
            "--status-fd", status_fd.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(log);
  ::close(to_daemon[0]);
  ::close(from_daemon[1]);
  const bool sent =
      ::write(to_daemon[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(to_daemon[1]);
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(from_daemon[0], buffer, sizeof buffer)) > 0;) {
    answer.append(buffer, static_cast<std::size_t>(n));
    if (answer.find('\n') != std::string::npos) {
      break;
    }
  }
  ::close(from_daemon[0]);
  if (sent && answer.find("\"ok\":true") != std::string::npos) {
    return "";
  }
  const std::string end = daemon_state();
  return settings_.daemon + " did not mount: " + (answer.empty() ? end : answer);
}

std::string MountedTree::daemon_state() {
  if (pid_ == 0) {
    return "";
  }
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) {
    return "";
  }
  pid_ = 0;
  return "daemon " + end_text(status);
}

std::string MountedTree::unmount() {
  if (!settings_.unmount_command.empty()) {
    return run_command(settings_.unmount_command);
  }
  if (settings_.kind == FsKind::Plain && settings_.mount_command.empty()) {
    return "";
  }
  if (::umount2(dirs_.mountpoint.c_str(), 0) < 0) {
    return failure("umount of " + dirs_.mountpoint);
  }
  if (pid_ == 0) {
    return "";
  }
  for (int i = 0; i < kDaemonSeconds * 500; ++i) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = 0;
      return status == 0 ? "" : "the daemon " + end_text(status) + " after the unmount";
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return "the daemon still runs " + std::to_string(kDaemonSeconds) + " s after the unmount";
}

}  // namespace layerfs::model
