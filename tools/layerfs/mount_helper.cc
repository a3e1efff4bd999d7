// The helper that mount(8) runs for the types layerfs and fuse.layerfs:
//   mount.TYPE SOURCE TARGET [-sfnvrw] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
// Its exit codes are those of mount(8), which hands them on.
#include <algorithm>
#include <map>
#include <optional>

#include "tools/layerfs/commands.h"
#include "tools/layerfs/mount_options.h"

namespace layerfs {
namespace {

struct HelperArguments {
  std::vector<std::string> positionals;
  std::vector<std::string> lists;  // each -o
  bool help = false;
  bool sloppy = false;
  bool fake = false;
  bool verbose = false;
  std::optional<std::string> mount_namespace;
};

bool takes_value(char letter) { return letter == 'o' || letter == 't' || letter == 'N'; }

Outcome<void> take_letter(char letter, const std::string& value, HelperArguments& out) {
  switch (letter) {
    case 'o':
      out.lists.push_back(value);
      return {};
    case 'N':
      out.mount_namespace = value;
      return {};
    case 's':
      out.sloppy = true;
      return {};
    case 'f':
      out.fake = true;
      return {};
    case 'v':
      out.verbose = true;
      return {};
    case 'r':
      out.lists.emplace_back("ro");
      return {};
    case 'w':
      out.lists.emplace_back("rw");
      return {};
    case 'h':
      out.help = true;
      return {};
    case 'n':  // there is no mtab to leave alone any more
    case 't':  // either type is ours
      return {};
    default:
      return usage_error(std::string("unknown option '-") + letter + "'");
  }
}

// Letters may be joined ("-sv"), a value may follow its letter or be the next argument.
Outcome<void> take_letters(Arguments arguments, std::size_t& index, HelperArguments& out) {
  const std::string& argument = arguments[index];
  for (std::size_t i = 1; i < argument.size(); ++i) {
    const char letter = argument[i];
    if (!takes_value(letter)) {
      LFS_TRY(take_letter(letter, "", out));
      continue;
    }
    if (i + 1 < argument.size()) {
      return take_letter(letter, argument.substr(i + 1), out);
    }
    if (index + 1 >= arguments.size()) {
      return usage_error(std::string("option -") + letter + " needs a value");
    }
    return take_letter(letter, arguments[++index], out);
  }
  return {};
}

Outcome<HelperArguments> parse_helper_arguments(Arguments arguments) {
  HelperArguments out;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--help") {
      out.help = true;
    } else if (argument == "--") {
      out.positionals.insert(out.positionals.end(),
                             arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                             arguments.end());
      break;
    } else if (argument.starts_with("--")) {
      return usage_error("unknown option '" + argument + "'");
    } else if (argument.size() > 1 && argument[0] == '-') {
      LFS_TRY(take_letters(arguments, i, out));
    } else {
      out.positionals.push_back(argument);
    }
  }
  return out;
}

std::string helper_help(const std::string& program) {
  return "Usage: " + program +
         " SOURCE TARGET [-sfnvrw] [-o OPTIONS] [-t TYPE]\n"
         "\n"
         "Run by mount(8), as in\n"
         "  mount -t layerfs -o lowerdir=L2:L1,upperdir=U,workdir=W layerfs TARGET\n"
         "or for a line of /etc/fstab:\n"
         "  layerfs  TARGET  layerfs  lowerdir=L2:L1,upperdir=U,workdir=W  0  0\n"
         "\n"
         "  -o OPTIONS  lowerdir=, upperdir=, workdir=, the long options of 'layerfs mount'\n"
         "              as NAME=VALUE, and ro, nosuid, nodev, noexec, noatime, ...\n"
         "  -s          Ignore unknown options.\n"
         "  -f          Check the options, mount nothing.\n"
         "  -v          Say what was done.\n"
         "  -r, -w      As -o ro and -o rw.\n"
         "  -n, -t      Accepted for mount(8).\n"
         "  -h, --help  Show this text.\n"
         "\n"
         "Exit codes: 0 done, 1 not understood, 32 the mount failed.\n";
}

Outcome<int> carry_out(const std::string& program, const HelperArguments& given,
                       const Streams& streams, const Environment& environment) {
  if (given.positionals.size() != 2) {
    return usage_error("SOURCE and TARGET are needed, and " +
                       std::to_string(given.positionals.size()) + " arguments are given");
  }
  MountOptions options;
  for (const std::string& list : given.lists) {
    LFS_TRY(options.add_words(list, given.sloppy ? UnknownWords::Ignore : UnknownWords::Refuse));
  }
  const std::string& target = given.positionals[1];
  if (given.mount_namespace) {
    return failed("'" + target +
                  "': -N is not supported; run mount inside the namespace with 'nsenter "
                  "--mount=" +
                  *given.mount_namespace + "'");
  }
  if (options.remount()) {
    return cannot_remount(target);
  }
  options.take_source_and_target(given.positionals[0], target);
  LFS_ASSIGN(const MountConfig config, options.finish());
  if (given.fake) {
    return 0;
  }
  DaemonStart start{.note = notes_to(streams, program)};
  if (given.verbose) {
    start.ready = [&] { streams.out << program << ": mounted on " << target << '\n'; };
  }
  return environment.start_daemon(config, std::move(start));
}

}  // namespace

int mount_helper(const std::string& program, Arguments arguments, const Streams& streams,
                 const Environment& environment) {
  const auto run = [&]() -> Outcome<int> {
    LFS_ASSIGN(const HelperArguments given, parse_helper_arguments(arguments));
    if (given.help) {
      streams.out << helper_help(program);
      return 0;
    }
    return carry_out(program, given, streams, environment);
  };
  auto code = run();
  if (code) {
    return *code == 0 ? to_int(MountHelperCode::Ok) : to_int(MountHelperCode::Failure);
  }
  const Problem problem = code.error();
  streams.err << program << ": " << in_one_line(problem.message);
  if (problem.code == ExitCode::Usage) {
    streams.err << "; see '" << program << " --help'\n";
    return to_int(MountHelperCode::Usage);
  }
  streams.err << '\n';
  return to_int(MountHelperCode::Failure);
}

}  // namespace layerfs
