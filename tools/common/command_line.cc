#include "tools/common/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <map>
#include <optional>

namespace layerfs {
namespace {

constexpr std::size_t kHelpColumn = 30;
constexpr std::size_t kHelpWidth = 88;

// What CLI11 could not place, with how it read it: its public remaining() would not tell
// an unknown option from a name after "--".
class Parser : public CLI::App {
 public:
  Parser() {
    set_help_flag();
    allow_extras();
  }
  const auto& leftovers() const { return missing_; }
};

const Option* find_option(const Command& command, std::string_view name) {
  for (const OptionGroup& group : command.groups) {
    for (const Option& option : group.options) {
      if (option.name == name) {
        return &option;
      }
    }
  }
  return nullptr;
}

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isdigit(c) != 0 || c == '.';
  });
}

// CLI11 lets "--name=" and an option with an optional value take the next argument, which
// here would be a path. So empty values are refused, and an optional one (all are
// numbers) is joined or filled in first.
Outcome<std::vector<std::string>> normalise(const Command& command,
                                            std::span<const std::string> arguments) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") {
      out.insert(out.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i), arguments.end());
      break;
    }
    if (!argument.starts_with("--")) {
      out.push_back(argument);
      continue;
    }
    const std::size_t equals = argument.find('=');
    const Option* option = find_option(command, argument.substr(2, equals - 2));
    if (option != nullptr && equals + 1 == argument.size()) {
      return usage_error("option " + argument.substr(0, equals) + " has an empty value");
    }
    if (option == nullptr || option->optional.empty() || equals != std::string::npos) {
      out.push_back(argument);
    } else if (i + 1 < arguments.size() && is_number(arguments[i + 1])) {
      out.push_back(argument + "=" + arguments[++i]);
    } else {
      out.push_back(argument + "=" + option->optional);
    }
  }
  return out;
}

const Option* find_letter(const Command& command, char letter) {
  for (const OptionGroup& group : command.groups) {
    for (const Option& option : group.options) {
      if (option.letter == letter) {
        return &option;
      }
    }
  }
  return nullptr;
}

// As an option with a value joined to it, whatever the value looks like.
Outcome<std::string> joined(const std::string& shown, const Option& option,
                            std::span<const std::string> rest) {
  if (rest.empty()) {
    return usage_error("option " + shown + " needs a value");
  }
  if (rest.front().empty()) {
    return usage_error("option " + shown + " has an empty value");
  }
  return "--" + option.name + "=" + rest.front();
}

// Of "-abc VALUE": flags one by one, and the value of the last letter that takes one.
// `used`: whether `rest` gave it.
Outcome<std::vector<std::string>> spell_out(const Command& command, const std::string& cluster,
                                            std::span<const std::string> rest, bool& used) {
  std::vector<std::string> out;
  for (std::size_t i = 1; i < cluster.size(); ++i) {
    const Option* option = find_letter(command, cluster[i]);
    if (option == nullptr || option->value.empty()) {
      out.push_back(std::string("-") + cluster[i]);
      continue;
    }
    if (i + 1 < cluster.size()) {
      out.push_back("--" + option->name + "=" + cluster.substr(i + 1));
      break;
    }
    LFS_ASSIGN(std::string word, joined(std::string("-") + cluster[i], *option, rest));
    out.push_back(std::move(word));
    used = true;
  }
  return out;
}

// The options of the command line, each with its value joined, then "--" and the rest.
Outcome<std::vector<std::string>> set_command_apart(const Command& command,
                                                    std::span<const std::string> arguments) {
  std::vector<std::string> out;
  std::size_t i = 0;
  for (; i < arguments.size() && arguments[i].size() > 1 && arguments[i][0] == '-'; ++i) {
    const std::string& argument = arguments[i];
    const auto rest = arguments.subspan(i + 1);
    if (argument == "--") {
      ++i;
      break;
    }
    if (!argument.starts_with("--")) {
      bool used = false;
      LFS_ASSIGN(const auto words, spell_out(command, argument, rest, used));
      out.insert(out.end(), words.begin(), words.end());
      i += used ? 1 : 0;
      continue;
    }
    const Option* option = find_option(command, argument.substr(2));
    if (option == nullptr || option->value.empty() || !option->optional.empty()) {
      out.push_back(argument);
      continue;
    }
    LFS_ASSIGN(std::string word, joined(argument, *option, rest));
    out.push_back(std::move(word));
    ++i;
  }
  out.emplace_back("--");
  out.insert(out.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i), arguments.end());
  return out;
}

std::string names_for_parser(const Option& option) {
  std::string out = "--" + option.name;
  if (option.letter != '\0') {
    out += std::string(",-") + option.letter;
  }
  return out;
}

// CLI11's two complaints that can arise here, without its jargon.
Problem describe_error(const CLI::ParseError& error) {
  const std::string text = error.what();
  const std::string name = text.substr(0, text.find_first_of(": "));
  if (text.find("flag override") != std::string::npos) {
    return usage_error("option " + std::string(name.size() == 1 ? "-" : "--") + name +
                       " takes no value");
  }
  return usage_error(error.get_name() == "ArgumentMismatch" ? "option " + name + " needs a value"
                                                            : text);
}

// As people write it: "-o", but "--foreground".
std::string complaint_name(const Option& option) {
  return option.letter != '\0' && !option.value.empty() ? std::string("-") + option.letter
                                                        : "--" + option.name;
}

std::string option_heading(const Option& option) {
  std::string out = option.letter != '\0' ? std::string("  -") + option.letter + ", " : "      ";
  out += "--" + option.name;
  if (!option.optional.empty()) {
    out += " [" + option.value + "]";
  } else if (!option.value.empty()) {
    out += " " + option.value;
  }
  return out;
}

void append_wrapped(std::string& out, std::string_view text, std::size_t indent) {
  std::size_t column = indent;
  bool first = true;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find(' ', start), text.size());
    const std::string_view word = text.substr(start, end - start);
    if (!first && column + 1 + word.size() > kHelpWidth) {
      out.append("\n").append(indent, ' ');
      column = indent;
    } else if (!first) {
      out.push_back(' ');
      ++column;
    }
    out.append(word);
    column += word.size();
    first = false;
    start = end + 1;
  }
  out.push_back('\n');
}

Option help_option() {
  return Option{.name = "help", .letter = 'h', .value = {}, .help = "Show this text.", .apply = {}};
}

void append_option(std::string& out, const Option& option) {
  std::string heading = option_heading(option);
  if (heading.size() + 2 > kHelpColumn) {
    out += heading + "\n";
    heading.clear();
  }
  heading.resize(kHelpColumn, ' ');
  out += heading;
  append_wrapped(out, option.help, kHelpColumn);
}

}  // namespace

Option flag(std::string name, char letter, std::string help, bool& target, bool value) {
  return {.name = std::move(name),
          .letter = letter,
          .help = std::move(help),
          .apply = [&target, value](std::string_view) -> Outcome<void> {
            target = value;
            return {};
          }};
}

Outcome<ParsedArguments> parse_arguments(const Command& command,
                                         std::span<const std::string> arguments) {
  std::vector<std::string> apart(arguments.begin(), arguments.end());
  if (command.ends_at_positional) {
    LFS_ASSIGN(apart, set_command_apart(command, arguments));
  }
  auto normal = normalise(command, apart);
  if (!normal) {
    return normal.error();
  }
  Parser parser;
  std::map<const CLI::Option*, const Option*> table;
  for (const OptionGroup& group : command.groups) {
    for (const Option& option : group.options) {
      CLI::Option* made = nullptr;
      if (option.value.empty()) {
        made = parser.add_flag(names_for_parser(option))
                   ->disable_flag_override()
                   ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
      } else {
        // expected(1) with TakeAll: one value each time, any number of times, and no
        // special meaning for a value in brackets.
        made = parser.add_option(names_for_parser(option), CLI::callback_t{})
                   ->expected(1)
                   ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
      }
      table[made] = &option;
    }
  }
  const CLI::Option* help = parser.add_flag("--help,-h")
                                ->disable_flag_override()
                                ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);

  try {
    std::vector<std::string> reversed(normal->rbegin(), normal->rend());
    parser.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    return describe_error(error);
  }

  ParsedArguments out;
  out.help = help->count() > 0;
  if (out.help) {
    return out;
  }
  for (const auto& [kind, text] : parser.leftovers()) {
    if (kind == CLI::detail::Classifier::NONE) {
      out.positionals.push_back(text);
    } else if (kind != CLI::detail::Classifier::POSITIONAL_MARK) {
      return usage_error("unknown option '" + text + "'");
    }
  }
  std::map<const CLI::Option*, std::size_t> taken;
  for (const CLI::Option* given : parser.parse_order()) {
    const auto found = table.find(given);
    if (found == table.end()) {
      continue;
    }
    const Option& option = *found->second;
    const std::string value =
        option.value.empty() ? std::string{} : given->results().at(taken[given]++);
    if (auto applied = option.apply(value); !applied) {
      const Problem problem = applied.error();
      return Problem{problem.code, complaint_name(option) + ": " + problem.message};
    }
  }
  return out;
}

std::string help_text(const Command& command) {
  std::string out;
  for (std::size_t i = 0; i < command.usage.size(); ++i) {
    out += (i == 0 ? "Usage: " : "       ") + command.program + " " + command.usage[i] + "\n";
  }
  out += "\n";
  append_wrapped(out, command.summary, 0);
  for (const OptionGroup& group : command.groups) {
    out += "\n" + group.title + ":\n";
    for (const Option& option : group.options) {
      append_option(out, option);
    }
  }
  if (command.groups.empty()) {
    out += "\nOptions:\n";
  }
  append_option(out, help_option());
  if (!command.notes.empty()) {
    out += "\n" + command.notes + "\n";
  }
  return out;
}

int parse_and_run(const Command& command, std::span<const std::string> arguments, std::ostream& out,
                  const ProblemReport& report, const CommandBody& body) {
  const auto parsed = parse_arguments(command, arguments);
  if (!parsed) {
    return report(parsed.error());
  }
  if (parsed->help) {
    out << help_text(command);
    return to_int(ExitCode::Ok);
  }
  const auto code = body(parsed->positionals);
  return code ? *code : report(code.error());
}

std::vector<std::string> option_names(const Command& command) {
  std::vector<std::string> out;
  for (const OptionGroup& group : command.groups) {
    for (const Option& option : group.options) {
      out.push_back("--" + option.name);
    }
  }
  out.emplace_back("--help");
  return out;
}

}  // namespace layerfs
