// A command as data: its usage lines, options and what each option does. One table
// gives the parser, the help text and what the tests compare man pages and completions with.
#pragma once

#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/common/problem.h"

namespace layerfs {

struct Option {
  std::string name;           // long name, without the dashes
  char letter = '\0';         // one-letter name, or none
  std::string value = {};     // what help calls the value; empty: the option takes none
  std::string optional = {};  // a value that may be left out: what stands for it then
  std::string help;
  // Called once for each time the option is given, in the order of the command line,
  // with "" for options that take no value. The message need not name the option.
  std::function<Outcome<void>(std::string_view)> apply = {};
};

// One that takes no value, and sets `target`.
Option flag(std::string name, char letter, std::string help, bool& target, bool value = true);
inline Option flag(std::string name, std::string help, bool& target) {
  return flag(std::move(name), '\0', std::move(help), target);
}

struct OptionGroup {
  std::string title;
  std::vector<Option> options;
};

struct Command {
  std::string program;             // "layerfs mount": begins each line of usage
  std::vector<std::string> usage;  // what follows the program, one line each
  std::string summary;
  std::vector<OptionGroup> groups;
  std::string notes = {};  // paragraphs after the options
  // The first argument that is neither an option nor an option's value, and all after it,
  // are positional: they are somebody else's command line.
  bool ends_at_positional = false;
};

// -h/--help is understood by every command and need not be in the table.
struct ParsedArguments {
  bool help = false;
  std::vector<std::string> positionals;
};

// Options may stand anywhere; after "--" everything is positional. The options are
// applied before this returns, unless --help was given. A usage error names the argument.
Outcome<ParsedArguments> parse_arguments(const Command& command,
                                         std::span<const std::string> arguments);

std::string help_text(const Command& command);

// What every command does around its own work: parses `arguments`, answers --help on `out`,
// and reports a problem. `body` gets the positionals, after all options are applied, and
// returns the exit code; `report` prints a problem and returns the exit code for it.
using CommandBody = std::function<Outcome<int>(const std::vector<std::string>& positionals)>;
using ProblemReport = std::function<int(const Problem& problem)>;
int parse_and_run(const Command& command, std::span<const std::string> arguments, std::ostream& out,
                  const ProblemReport& report, const CommandBody& body);

// "--name"s of all options, help included, in the order of the help text.
std::vector<std::string> option_names(const Command& command);

}  // namespace layerfs
