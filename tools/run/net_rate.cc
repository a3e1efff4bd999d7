#include "tools/run/net_rate.h"

#include <algorithm>
#include <sstream>

#include "tools/common/process.h"
#include "tools/run/text_file.h"

namespace layerfs::run {
namespace {

constexpr std::uint64_t kLeastBurst = 16 * 1024;  // bytes; a packet of pasta's may have 64 KiB
constexpr std::uint64_t kBurstsASecond = 20;

// The names in the text of /proc/PID/net/dev, less loopback.
std::vector<std::string> interfaces(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(':');
    const std::size_t begin = line.find_first_not_of(' ');
    if (colon != std::string::npos && line.substr(begin, colon - begin) != "lo") {
      out.push_back(line.substr(begin, colon - begin));
    }
  }
  return out;
}

}  // namespace

std::vector<std::vector<std::string>> rate_commands(const std::string& interface,
                                                    std::uint64_t rate) {
  const std::string bits = std::to_string(rate) + "bit";
  const std::string burst =
      std::to_string(std::max(kLeastBurst * 8, rate / 8 / kBurstsASecond)) + "b";
  return {
      {"qdisc", "add", "dev", interface, "root", "tbf", "rate", bits, "burst", burst, "latency",
       "100ms"},
      {"qdisc", "add", "dev", interface, "handle", "ffff:", "ingress"},
      {"filter", "add", "dev",   interface, "parent", "ffff:",  "protocol",
       "all",    "u32", "match", "u32",     "0",      "0",      "police",
       "rate",   bits,  "burst", burst,     "drop",   "flowid", ":1"},
  };
}

Outcome<void> limit_rate(pid_t pid, std::uint64_t rate) {
  const auto tc = find_program("tc");
  const auto nsenter = find_program("nsenter");
  if (!tc || !nsenter) {
    return failed(
        "--net-rate needs the programs tc and nsenter (Debian packages iproute2 and "
        "util-linux)");
  }
  LFS_ASSIGN(const std::string text, read_text("/proc/" + std::to_string(pid) + "/net/dev"));
  for (const std::string& interface : interfaces(text)) {
    for (const auto& words : rate_commands(interface, rate)) {
      std::vector<std::string> argv = {*nsenter, "-t", std::to_string(pid), "-n", "--", *tc};
      argv.insert(argv.end(), words.begin(), words.end());
      LFS_ASSIGN(const Finished done, run_to_end(argv));
      if (done.status != 0) {
        const std::string why = done.error_text.substr(0, done.error_text.find('\n'));
        return failed("cannot limit the bandwidth of " + interface + " (--net-rate): tc " +
                      describe_wait_status(done.status) + ": " + why +
                      "; --cgroups best-effort goes on without");
      }
    }
  }
  return {};
}

}  // namespace layerfs::run
