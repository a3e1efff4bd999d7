#include "tools/layerfs/commit_options.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "tools/common/syntax.h"
#include "tools/oci/image_change.h"

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

// "/a//b/" as "a/b"; nullopt: the root, or leads up.
std::optional<std::string> relative_path(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('/', at), text.size());
    const std::string_view part = text.substr(at, end - at);
    at = end + 1;
    if (part == "..") {
      return std::nullopt;
    }
    if (!part.empty() && part != ".") {
      out += (out.empty() ? "" : "/") + std::string(part);
    }
  }
  return out.empty() ? std::nullopt : std::optional<std::string>(out);
}

}  // namespace

Outcome<std::optional<std::int64_t>> source_date_epoch() {
  const char* text = std::getenv("SOURCE_DATE_EPOCH");  // NOLINT(concurrency-mt-unsafe): one thread
  if (text == nullptr || *text == '\0') {
    return std::optional<std::int64_t>();
  }
  auto value = parse_time(text);
  if (!value) {
    return failed("SOURCE_DATE_EPOCH: " + value.error().message);
  }
  return std::optional<std::int64_t>(*value);
}

OptionGroup CommitOptions::what_group() {
  return {"What is committed",
          {lower_option(words, "The layers below UPPER, the leftmost on top."),
           work_option(words.work,
                       "The work directory of UPPER, which holds the hard links of lower files. "
                       "Default: .NAME.layerfs-work beside it."),
           {.name = "empty",
            .value = "PATH",
            .help = "What is in this directory is left out: a volume's mount point, say. May be "
                    "repeated.",
            .apply = [this](std::string_view text) -> Outcome<void> {
              const auto path = relative_path(text);
              if (!path) {
                return usage_error("'" + std::string(text) + "' is no path below the root");
              }
              empty.push_back(*path);
              return {};
            }},
           flag("squash", "All layers as one, not only what UPPER changed.", squash),
           flag("strict",
                "Fail if the layer cannot carry something (a socket, say), "
                "which otherwise is listed.",
                strict)}};
}

Option CommitOptions::image_option(oci::Transport transport, std::string name, std::string value,
                                   std::string help) {
  return {.name = std::move(name),
          .value = std::move(value),
          .help = std::move(help),
          .apply = [this, transport](std::string_view text) -> Outcome<void> {
            if (image) {
              return usage_error("one image can be written at a time");
            }
            image = oci::split_reference(transport, text);
            if (image->path.empty() || image->name.empty()) {
              return usage_error("'" + std::string(text) + "' is not PATH:NAME");
            }
            return {};
          }};
}

OptionGroup CommitOptions::where_group() {
  return {"Where to",
          {{.name = "output",
            .letter = 'o',
            .value = "FILE",
            .help = "A layer: FILE.tar, FILE.tar.gz or FILE.tar.zst; '-' is standard output.",
            .apply = [this](std::string_view text) -> Outcome<void> {
              output = std::string(text);
              return {};
            }},
           image_option(oci::Transport::Oci, "oci", "DIR:TAG",
                        "An image in an OCI image layout, beside those that it has."),
           image_option(oci::Transport::OciArchive, "oci-archive", "FILE:TAG",
                        "An image as the tar of a layout."),
           image_option(oci::Transport::DockerArchive, "docker-archive", "FILE:NAME:TAG",
                        "An image as docker and podman load it."),
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
            .help = "Threads that compress, as far as memory allows (12 of gzip, fewer of zstd at "
                    "high levels); the result does not depend on it. Default: one a core.",
            .apply = [this](std::string_view text) -> Outcome<void> {
              LFS_ASSIGN(threads, parse_int(text, 1, kMostThreads));
              return {};
            }},
           flag("json", "Print what was made as one JSON document.", json),
           progress_option(progress)}};
}

OptionGroup CommitOptions::image_group() {
  return {"The image",
          {{.name = "base",
            .value = "IMAGE",
            .help = "The image whose layers the lowers are: oci:DIR:TAG, oci-archive:FILE[:TAG] or "
                    "docker-archive:FILE[:NAME:TAG]. Without it each lower becomes a layer.",
            .apply = [this](std::string_view text) -> Outcome<void> {
              base = oci::parse_image_reference(text);
              if (!base) {
                return usage_error("'" + std::string(text) +
                                   "' does not begin with oci:, oci-archive: or docker-archive:");
              }
              return {};
            }},
           {.name = "author",
            .value = "NAME",
            .help = "Who made it.",
            .apply = [this](std::string_view text) -> Outcome<void> {
              notes.author = std::string(text);
              return {};
            }},
           {.name = "message",
            .letter = 'm',
            .value = "TEXT",
            .help = "What was changed, for the image's history.",
            .apply = [this](std::string_view text) -> Outcome<void> {
              notes.message = std::string(text);
              return {};
            }},
           {.name = "change",
            .letter = 'c',
            .value = "INSTRUCTION",
            .help = "Change the image's settings, as a Dockerfile would: CMD, ENTRYPOINT, ENV, "
                    "EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or "
                    "WORKDIR. May be repeated.",
            .apply = [this](std::string_view text) -> Outcome<void> {
              nlohmann::json unused = nlohmann::json::object();
              if (auto understood = oci::apply_changes(unused, {std::string(text)}); !understood) {
                return usage_error(understood.error().message);
              }
              notes.changes.emplace_back(text);
              return {};
            }}}};
}

OptionGroup CommitOptions::form_group() {
  return {"Its form",
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
}

Outcome<void> CommitOptions::check() const {
  if (output.has_value() == image.has_value()) {
    return usage_error(output ? "a layer and an image cannot be made at once"
                              : "it is not said where the layer goes; use -o, --oci, "
                                "--oci-archive or --docker-archive");
  }
  for (const char* other : {".xz", ".txz", ".bz2", ".tbz2", ".lz4", ".lzma", ".zip", ".7z"}) {
    if (output && !compression && output->ends_with(other)) {
      return usage_error("'" + *output +
                         "': such files are not made; name a .tar, .tar.gz or "
                         ".tar.zst, or say --compression");
    }
  }
  const bool for_images =
      base || !notes.author.empty() || !notes.message.empty() || !notes.changes.empty();
  if (output && for_images) {
    return usage_error("--base, --author, --message and --change are for images, not for -o");
  }
  return {};
}

Command CommitOptions::command() {
  return Command{
      .program = "layerfs commit",
      .usage = {"UPPER --lower LOWER[:LOWER...] -o FILE [OPTION...]",
                "UPPER --lower LOWER[:LOWER...] --oci DIR:TAG [--base IMAGE] [OPTION...]",
                "{MOUNTPOINT|CONTAINER} {-o FILE | --oci DIR:TAG [--base IMAGE]} [OPTION...]"},
      .summary =
          "Makes a layer or an image of what an upper changed over its lowers. The bytes "
          "depend on the trees alone. Nothing is left behind if it fails or is interrupted.",
      .groups = {what_group(), where_group(), image_group(), form_group()},
      .notes =
          "Not in a layer: sockets, the marks of layerfs and overlayfs, changes of the root\n"
          "directory itself. What is lost is listed on standard error."};
}

}  // namespace layerfs
