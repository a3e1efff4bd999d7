#include "fs/logging.h"

#include <fcntl.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>
#include <syslog.h>

#include "layers/sys/syscalls.h"

namespace layerfs {
namespace {

spdlog::level::level_enum level_of(MountConfig::LogLevel level) {
  switch (level) {
    case MountConfig::LogLevel::Error:
      return spdlog::level::err;
    case MountConfig::LogLevel::Warn:
      return spdlog::level::warn;
    case MountConfig::LogLevel::Info:
      return spdlog::level::info;
    case MountConfig::LogLevel::Debug:
      return spdlog::level::debug;
    case MountConfig::LogLevel::Trace:
      break;
  }
  return spdlog::level::trace;
}

}  // namespace

Result<void, Failure> start_logging(const MountConfig& config) {
  try {
    std::shared_ptr<spdlog::logger> logger;
    if (!config.log_file.empty()) {
      // spdlog would make missing directories.
      if (const auto file = sys::open_path(config.log_file, O_WRONLY | O_APPEND | O_CREAT, 0666);
          !file) {
        return Failure{"log file " + config.log_file + ": " + describe(file.error()) +
                       "; name one with --log-file that can be written"};
      }
      logger = spdlog::basic_logger_mt("layerfsd", config.log_file);
    } else if (config.foreground) {
      logger = spdlog::stderr_logger_mt("layerfsd");
    } else {
      logger = spdlog::syslog_logger_mt("layerfsd", "layerfsd", LOG_PID, LOG_DAEMON);
    }
    logger->set_level(level_of(config.log_level));
    logger->flush_on(spdlog::level::info);
    spdlog::set_default_logger(std::move(logger));
  } catch (const spdlog::spdlog_ex& error) {
    return Failure{"log file " + config.log_file + ": " + error.what() +
                   "; name one with --log-file that can be written"};
  }
  return {};
}

void log_error(const std::string& message) { spdlog::error("{}", message); }

}  // namespace layerfs
