#include "tools/run/pasta.h"

#include <sys/wait.h>
#include <unistd.h>

#include <limits>
#include <sstream>

#include "tools/common/process.h"
#include "tools/run/id_map.h"

namespace layerfs::run {
namespace {

// "none", or pasta's list "ADDRESS/HOST:CONTAINER,...". One address for all of a list.
std::vector<std::string> forwards(const std::vector<Port>& ports, bool udp) {
  const std::string option = udp ? "-u" : "-t";
  std::vector<std::string> out;
  for (const Port& port : ports) {
    if (port.udp == udp) {
      const std::string address = port.address.empty() ? std::string() : port.address + "/";
      out.push_back(option);
      out.push_back(address + std::to_string(port.host) + ":" + std::to_string(port.container));
    }
  }
  if (out.empty()) {
    out = {option, "none"};
  }
  return out;
}

// The last line that is about the network: some are about the log.
std::string complaint(const std::string& text) {
  std::string out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.find("syslog") == std::string::npos) {
      out = line;
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> pasta_command(const std::string& program, pid_t pid,
                                       const std::vector<Port>& ports, bool as_root) {
  // Nothing of the host's loopback is reachable from inside: -T, -U and no mapped gateway.
  std::vector<std::string> out = {program, "--config-net", "--quiet", "--no-map-gw",
                                  "-T",    "none",         "-U",      "none"};
  for (const bool udp : {false, true}) {
    const auto words = forwards(ports, udp);
    out.insert(out.end(), words.begin(), words.end());
  }
  if (as_root) {
    // It would become nobody, who may not enter the container's namespaces.
    out.insert(out.end(), {"--runas", "0"});
  }
  out.push_back(std::to_string(pid));
  return out;
}

Outcome<void> start_pasta(pid_t pid, const std::vector<Port>& ports) {
  const auto program = find_program("pasta");
  if (!program) {
    return failed("--net pasta needs the program pasta (Debian package passt)");
  }
  LFS_ASSIGN(const IdMaps maps, identity_maps());
  const bool of_the_machine =
      ::geteuid() == 0 && mapped_from_zero(maps.uids) == std::numeric_limits<std::uint32_t>::max();
  LFS_ASSIGN(const Finished done, run_to_end(pasta_command(*program, pid, ports, of_the_machine)));
  if (!WIFEXITED(done.status) || WEXITSTATUS(done.status) != 0) {
    return failed("pasta " + describe_wait_status(done.status) + ": " + complaint(done.error_text));
  }
  return {};
}

}  // namespace layerfs::run
