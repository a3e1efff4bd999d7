#include "tools/layerfs/commit_options.h"

#include <charconv>
#include <cstdlib>

#include "tools/common/syntax.h"

namespace layerfs {
namespace {

constexpr int kMostThreads = 256;

Outcome<std::int64_t> parse_time(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    return usage_error("'" + std::string(text) + "' is not a number of seconds since 1970");
  }
  return value;
}

Option flag(std::string name, std::string help, bool& target) {
  return {.name = std::move(name),
          .help = std::move(help),
          .apply = [&target](std::string_view) -> Outcome<void> {
            target = true;
            return {};
          }};
}

}  // namespace

Outcome<std::optional<std::int64_t>> source_date_epoch() {
  const char* text = std::getenv("SOURCE_DATE_EPOCH");
  if (text == nullptr || *text == '\0') {
    return std::optional<std::int64_t>();
  }
  auto value = parse_time(text);
  if (!value) {
    return failed("SOURCE_DATE_EPOCH: " + value.error().message);
  }
  return std::optional<std::int64_t>(*value);
}

Command CommitOptions::command() {
  OptionGroup what{"What is committed",
                   {{.name = "lower",
                     .value = "LOWER[:LOWER...]",
                     .help = "The layers below UPPER, the leftmost on top.",
                     .apply = [this](std::string_view text) -> Outcome<void> {
                       LFS_ASSIGN(words.lowers, split_layers(text));
                       return {};
                     }},
                    {.name = "work",
                     .value = "DIR",
                     .help = "The work directory of UPPER, which holds the hard links of lower "
                             "files. Default: .NAME.layerfs-work beside it.",
                     .apply = [this](std::string_view text) -> Outcome<void> {
                       words.work = std::string(text);
                       return {};
                     }},
                    flag("squash", "All layers as one, not only what UPPER changed.", squash),
                    flag("strict",
                         "Fail if the layer cannot carry something (a socket, say), "
                         "which otherwise is listed.",
                         strict)}};
  OptionGroup where{
      "Where to",
      {{.name = "output",
        .letter = 'o',
        .value = "FILE",
        .help = "A layer: FILE.tar, FILE.tar.gz or FILE.tar.zst; '-' is standard output.",
        .apply = [this](std::string_view text) -> Outcome<void> {
          output = std::string(text);
          return {};
        }},
       {.name = "compression",
        .value = "CODEC[:LEVEL]",
        .help = "gzip, zstd or none. Default: as the name of FILE says; gzip for an image.",
        .apply = [this](std::string_view text) -> Outcome<void> {
          compression = oci::parse_compression(text);
          if (!compression) {
            return usage_error("'" + std::string(text) +
                               "' is not one of gzip[:1-9], zstd[:1-19], none");
          }
          return {};
        }},
       {.name = "threads",
        .value = "N",
        .help = "Threads that compress; the result does not depend on it. Default: one a core.",
        .apply = [this](std::string_view text) -> Outcome<void> {
          LFS_ASSIGN(threads, parse_int(text, 1, kMostThreads));
          return {};
        }},
       flag("json", "Print what was made as one JSON document.", json),
       progress_option(progress)}};
  OptionGroup form{
      "Its form",
      {{.name = "timestamp",
        .value = "SECONDS",
        .help = "All times become this one, in seconds since 1970. (SOURCE_DATE_EPOCH in the "
                "environment: only later ones do.)",
        .apply = [this](std::string_view text) -> Outcome<void> {
          LFS_ASSIGN(timestamp, parse_time(text));
          return {};
        }},
       flag("whole-seconds", "Cut off fractions of seconds, as docker does.", whole_seconds),
       flag("explicit-whiteouts",
            "List deletions in a replaced directory one by one, without an opaque mark.",
            explicit_whiteouts)}};
  return Command{
      .program = "layerfs commit",
      .usage = {"UPPER --lower LOWER[:LOWER...] -o FILE [OPTION...]",
                "MOUNTPOINT -o FILE [OPTION...]"},
      .summary =
          "Makes a layer of an OCI image of what an upper changed over its lowers. The bytes "
          "depend on the trees alone. Nothing is left behind if it fails or is interrupted.",
      .groups = {what, where, form},
      .notes =
          "Not in a layer: sockets, the marks of layerfs and overlayfs, changes of the root\n"
          "directory itself. What is lost is listed on standard error."};
}

}  // namespace layerfs
