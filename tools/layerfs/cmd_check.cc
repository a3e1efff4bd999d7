#include <fcntl.h>

#include <nlohmann/json.hpp>

#include "layers/mount_config.h"
#include "layers/upper_check.h"
#include "tools/layerfs/commands.h"
#include "tools/layerfs/layer_choice.h"

namespace layerfs {
namespace {

struct CheckWords {
  LayerWords words;
  bool repair = false;
  bool json = false;
};

Command command_for(CheckWords& options) {
  return Command{
      .program = "layerfs check",
      .usage = {"UPPER [--lower LOWER[:LOWER...]] [--repair] [OPTION...]"},
      .summary =
          "Finds what a crash, a lost work directory or other lowers have left in an upper that "
          "no mount uses, and with --repair mends what can be mended.",
      .groups =
          {{"Options",
            {lower_option(options.words,
                          "The layers below UPPER, an init layer too, the leftmost on top. "
                          "Without them only what needs no lower to judge is looked at."),
             work_option(options.words.work,
                         "The work directory of UPPER. Default: .NAME.layerfs-work beside it."),
             flag("repair", "Mend what is found.", options.repair),
             flag("json", "Print one JSON document a finding, one on each line.", options.json)}}},
  };
}

// What is wrong, what mending makes of it, and what there is to do where nothing is mended.
struct Words {
  const char* what;
  const char* mended;
  const char* remedy;
};

Words words_for(Trouble trouble) {
  switch (trouble) {
    case Trouble::Leftover:
      return {"left in the work directory by a mount that did not end", "removed",
              "--repair removes it"};
    case Trouble::VolatileMark:
      return {"a volatile mount did not end cleanly, so files may be incomplete", "",
              "discard the upper, or remove the mark to accept it"};
    case Trouble::IndexName:
      return {"no name of an entry of the link index", "removed", "--repair removes it"};
    case Trouble::IndexUnused:
      return {"an entry of the link index that no name shows", "removed", "--repair removes it"};
    case Trouble::IndexCount:
      return {"an entry of the link index that counts another number of names than there are",
              "counted anew", "--repair counts them"};
    case Trouble::IdleWhiteout:
      return {"a whiteout that hides nothing", "removed", "--repair removes it"};
    case Trouble::DanglingRedirect:
      return {"a directory that was renamed, whose part in the lowers is not there",
              "only what is in the upper is in it now",
              "name the right lowers, or --repair keeps only what is in the upper"};
    case Trouble::MissingData:
      return {"has attributes only, and its data is in no lower", "",
              "name the right lowers, or delete it"};
    case Trouble::LostLink:
      return {"its other names show an old copy, for the work directory does not have it",
              "shared by all its names again",
              "--repair puts it back; name the work directory with --work"};
  }
  return {"", "", ""};
}

std::string place_of(const Finding& finding, const std::string& upper, const std::string& work) {
  switch (finding.trouble) {
    case Trouble::Leftover:
    case Trouble::VolatileMark:
      return work + "/work/" + finding.path;
    case Trouble::IndexName:
    case Trouble::IndexUnused:
    case Trouble::IndexCount:
      return work + "/" + kLinkIndexName + "/" + finding.path;
    default:
      return upper + "/" + finding.path;
  }
}

// A directory and the lock on it that a mount would have.
Outcome<UniqueFd> lock_directory(const std::string& path, const char* what) {
  auto fd = sys::open_path(path, O_RDONLY | O_DIRECTORY);
  if (!fd) {
    return failed(std::string(what) + " '" + path + "': " + describe(fd.error()));
  }
  const auto locked = sys::try_lock_exclusive(fd->get());
  if (!locked) {
    return failed(std::string(what) + " '" + path +
                  "': cannot lock it: " + describe(locked.error()));
  }
  if (!*locked) {
    return failed(std::string(what) + " '" + path + "' is in use by a mount; unmount that first");
  }
  return std::move(*fd);
}

// The work directory's two parts; -1: not there.
struct WorkParts {
  UniqueFd root, work, index;
};

Outcome<WorkParts> open_work(const LayerChoice& choice) {
  WorkParts parts;
  const auto there = sys::try_stat_at({AT_FDCWD, choice.work.c_str()});
  if (there && !*there && choice.work_is_default) {
    return parts;
  }
  LFS_ASSIGN(parts.root, lock_directory(choice.work, "work directory"));
  for (const auto& [name, part] :
       {std::pair{"work", &parts.work}, std::pair{kLinkIndexName, &parts.index}}) {
    auto opened = sys::open_at({parts.root.get(), name}, O_RDONLY | O_DIRECTORY);
    if (!opened && !is_absence(opened.error())) {
      return failed("'" + choice.work + "/" + name + "': " + describe(opened.error()));
    }
    if (opened) {
      *part = std::move(*opened);
    }
  }
  return parts;
}

Outcome<void> run(const std::vector<std::string>& positionals, const CheckWords& options,
                  const Streams& streams) {
  if (positionals.size() != 1) {
    return usage_error(positionals.empty() ? "no upper is given"
                                           : "unexpected argument '" + positionals[1] + "'");
  }
  LFS_ASSIGN(const LayerChoice choice, choose_layers(positionals[0], options.words));
  if (choice.mount || choice.uppers.size() != 1) {
    return usage_error("'" + positionals[0] + "' is " +
                       (choice.mount
                            ? "mounted; unmount it, and name the upper directory"
                            : "several layers; name the upper, and the others with --lower"));
  }
  const std::string& upper = choice.uppers.front();
  LFS_ASSIGN(const UniqueFd root, lock_directory(upper, "upper directory"));
  LFS_ASSIGN(const WorkParts parts, open_work(choice));
  LFS_ASSIGN(const auto layers, OpenLayers::open(choice));
  const CheckedUpper checked{root.get(), parts.work.get(), parts.index.get()};
  std::size_t count = 0;
  std::size_t mended = 0;
  const auto show = [&](const Finding& finding) {
    ++count;
    mended += finding.mended ? 1 : 0;
    const std::string place = place_of(finding, upper, choice.work);
    if (options.json) {
      streams.out << nlohmann::json{{"finding", to_string(finding.trouble)},
                                    {"path", bytes_to_json(place)},
                                    {"mended", finding.mended}}
                         .dump()
                  << '\n';
      return;
    }
    const Words words = words_for(finding.trouble);
    streams.out << in_one_line(place) << ": " << words.what << "; "
                << (finding.mended ? words.mended : words.remedy) << '\n';
  };
  const CheckOptions how{options.repair, !choice.lowers.empty()};
  if (const auto done = check_upper(layers->now(), checked, how, show); !done) {
    return failed(done.error().message);
  }
  if (mended < count) {
    return failed("'" + upper + "': " + std::to_string(count - mended) + " of " +
                  std::to_string(count) + " findings are not mended");
  }
  return {};
}

}  // namespace

Command describe_check() {
  static CheckWords unused;
  return command_for(unused);
}

int cmd_check(Arguments arguments, const Streams& streams, const Environment& /*environment*/) {
  CheckWords options;
  return run_command(command_for(options), arguments, streams, OnSignal::End,
                     [&](const std::vector<std::string>& positionals) {
                       return run(positionals, options, streams);
                     });
}

}  // namespace layerfs
