#include "tools/oci/image_change.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <optional>

#include "tools/oci/document.h"

namespace layerfs::oci {
namespace {

using nlohmann::json;

constexpr const char* kKnown =
    "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, "
    "WORKDIR";
constexpr unsigned kMostPort = 65535;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_name_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) {
    text.remove_prefix(1);
  }
  while (!text.empty() && is_space(text.back())) {
    text.remove_suffix(1);
  }
  return text;
}

std::string variable(const json& config, const std::string& name) {
  for (const json& item : config.value("Env", json::array())) {
    const auto text = item.get<std::string>();
    if (text.starts_with(name + "=")) {
      return text.substr(name.size() + 1);
    }
  }
  return {};
}

// Words as a Dockerfile has them: quotes, backslashes and variables.
class Lexer {
 public:
  Lexer(const json& config, std::string_view text) : config_(config), text_(text) {}

  // Between spaces; with `whole` the spaces belong to one word.
  Fallible<std::vector<std::string>> words(bool whole = false) {
    std::vector<std::string> out;
    std::optional<std::string> word;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (is_space(c) && !whole) {
        if (word) {
          out.push_back(std::move(*word));
          word.reset();
        }
        ++at_;
        continue;
      }
      word = word.value_or("");
      LFS_TRY(take(*word));
    }
    if (word) {
      out.push_back(std::move(*word));
    }
    return out;
  }

 private:
  Fallible<void> take(std::string& word) {
    const char c = text_[at_++];
    if (c == '\'') {
      const std::size_t end = text_.find('\'', at_);
      if (end == std::string_view::npos) {
        return unclosed();
      }
      word += text_.substr(at_, end - at_);
      at_ = end + 1;
      return {};
    }
    if (c == '"') {
      return take_quoted(word);
    }
    if (c == '$') {
      return take_variable(word);
    }
    if (c == '\\' && at_ < text_.size()) {
      word += text_[at_++];
      return {};
    }
    word += c;
    return {};
  }

  Fallible<void> take_quoted(std::string& word) {
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '"') {
        return {};
      }
      if (c == '$') {
        LFS_TRY(take_variable(word));
      } else if (c == '\\' && at_ < text_.size() &&
                 std::string_view("\"$\\").find(text_[at_]) != std::string_view::npos) {
        word += text_[at_++];
      } else {
        word += c;
      }
    }
    return unclosed();
  }

  Fallible<void> take_variable(std::string& word) {
    const bool braces = at_ < text_.size() && text_[at_] == '{';
    at_ += braces ? 1 : 0;
    const std::size_t start = at_;
    while (at_ < text_.size() && is_name_char(text_[at_])) {
      ++at_;
    }
    const std::string name(text_.substr(start, at_ - start));
    if (!braces) {
      word += name.empty() ? "$" : variable(config_, name);
      return {};
    }
    const std::size_t end = text_.find('}', at_);
    if (end == std::string_view::npos || name.empty()) {
      return Failure{"'${' without a name and a '}'"};
    }
    const std::string_view rest = text_.substr(at_, end - at_);
    at_ = end + 1;
    const std::string value = variable(config_, name);
    if (rest.empty()) {
      word += value;
    } else if (rest.starts_with(":-")) {
      word += value.empty() ? rest.substr(2) : std::string_view(value);
    } else if (rest.starts_with(":+")) {
      word += value.empty() ? std::string_view() : rest.substr(2);
    } else {
      return Failure{"'${" + name + std::string(rest) + "}' is not understood"};
    }
    return {};
  }

  static Fallible<void> unclosed() { return Failure{"a quote is not closed"}; }

  const json& config_;
  std::string_view text_;
  std::size_t at_ = 0;
};

// The JSON array of strings that `text` is; nullopt: it is none.
std::optional<std::vector<std::string>> exec_form(std::string_view text) {
  const json document = json::parse(text, nullptr, false);
  if (!document.is_array() ||
      !std::all_of(document.begin(), document.end(), [](const json& j) { return j.is_string(); })) {
    return std::nullopt;
  }
  return document.get<std::vector<std::string>>();
}

json command_of(const json& config, std::string_view text) {
  if (auto words = exec_form(text)) {
    return *words;
  }
  json out = config.contains("Shell") ? config["Shell"] : json{"/bin/sh", "-c"};
  out.push_back(std::string(text));
  return out;
}

void set_variable(json& config, const std::string& name, const std::string& value) {
  json& list = config["Env"];
  for (json& item : list) {
    if (item.get<std::string>().starts_with(name + "=")) {
      item = name + "=" + value;
      return;
    }
  }
  list.push_back(name + "=" + value);
}

// "A=1 B=2", or "A the rest".
Fallible<void> for_each_pair(json& config, std::string_view text,
                             void (*set)(json&, const std::string&, const std::string&)) {
  const std::size_t name_end = std::min(text.find_first_of(" \t"), text.size());
  if (text.substr(0, name_end).find('=') == std::string_view::npos) {
    const std::string_view rest = trim(text.substr(name_end));
    if (rest.empty()) {
      return Failure{"write NAME=VALUE"};
    }
    LFS_ASSIGN(const auto value, Lexer(config, rest).words(true));
    set(config, std::string(text.substr(0, name_end)), value.front());
    return {};
  }
  LFS_ASSIGN(const auto words, Lexer(config, text).words());
  for (const std::string& word : words) {
    const std::size_t cut = word.find('=');
    if (cut == std::string::npos || cut == 0) {
      return Failure{"'" + word + "' is not NAME=VALUE"};
    }
    set(config, word.substr(0, cut), word.substr(cut + 1));
  }
  return {};
}

void set_label(json& config, const std::string& name, const std::string& value) {
  config["Labels"][name] = value;
}

std::optional<unsigned> parse_port(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool good = error == std::errc() && end == text.data() + text.size() && value > 0;
  return good && value <= kMostPort ? std::optional<unsigned>(value) : std::nullopt;
}

// "80", "80/udp", "8000-8010/tcp".
Fallible<void> expose(json& config, const std::string& word) {
  const std::size_t slash = std::min(word.find('/'), word.size());
  const std::string_view ports = std::string_view(word).substr(0, slash);
  const std::string protocol = slash < word.size() ? word.substr(slash + 1) : "tcp";
  const std::size_t dash = std::min(ports.find('-'), ports.size());
  const auto first = parse_port(ports.substr(0, dash));
  const auto last = dash < ports.size() ? parse_port(ports.substr(dash + 1)) : first;
  if (!first || !last || *first > *last ||
      (protocol != "tcp" && protocol != "udp" && protocol != "sctp")) {
    return Failure{"'" + word + "' is not PORT[-PORT][/tcp|/udp|/sctp]"};
  }
  for (unsigned port = *first; port <= *last; ++port) {
    config["ExposedPorts"][std::to_string(port) + "/" + protocol] = json::object();
  }
  return {};
}

Fallible<std::string> one_word(const json& config, std::string_view text) {
  LFS_ASSIGN(const auto words, Lexer(config, text).words(true));
  return words.empty() ? std::string() : words.front();
}

Fallible<void> change_dir(json& config, std::string_view text) {
  LFS_ASSIGN(const std::string word, one_word(config, text));
  const std::filesystem::path before = config.value("WorkingDir", std::string("/"));
  std::string path = ("/" / before / word).lexically_normal().string();
  if (path.size() > 1 && path.ends_with('/')) {
    path.pop_back();
  }
  config["WorkingDir"] = path;
  return {};
}

Fallible<void> add_volumes(json& config, std::string_view text) {
  auto words = exec_form(text);
  if (!words) {
    LFS_ASSIGN(words, Lexer(config, text).words());
  }
  for (const std::string& word : *words) {
    if (word.empty()) {
      return Failure{"a volume without a name"};
    }
    config["Volumes"][word] = json::object();
  }
  return {};
}

// "1h30m", "500ms", in nanoseconds (Go, time.ParseDuration, without signs).
std::optional<std::int64_t> parse_duration(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, double>, 6> kUnits = {
      {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
  double total = text.empty() ? -1 : 0;
  while (!text.empty() && total >= 0) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    const std::string_view name = text.substr(0, text.find_first_of("0123456789."));
    const auto unit = std::find_if(kUnits.begin(), kUnits.end(),
                                   [name](const auto& known) { return known.first == name; });
    const bool good = error == std::errc() && number >= 0 && unit != kUnits.end();
    total = good ? total + number * unit->second : -1;
    text.remove_prefix(name.size());
  }
  constexpr double kMost = 9.2e18;
  return total < 0 || total > kMost ? std::nullopt
                                    : std::optional(static_cast<std::int64_t>(total));
}

// "NONE", or "[--interval=30s] ... CMD command": not in the OCI specification, but docker's
// and podman's.
Fallible<void> set_health_check(json& config, std::string_view text) {
  json check = json::object();
  for (;;) {
    const std::size_t end = std::min(text.find_first_of(" \t"), text.size());
    const std::string_view word = text.substr(0, end);
    text = trim(text.substr(end));
    if (!word.starts_with("--")) {
      const bool is_none = word == "NONE" && text.empty() && check.empty();
      if (!is_none && (word != "CMD" || text.empty())) {
        return Failure{"NONE, or CMD and a command, is expected"};
      }
      if (is_none) {
        check["Test"] = json::array({"NONE"});
      } else if (auto words = exec_form(text)) {
        words->insert(words->begin(), "CMD");
        check["Test"] = *words;
      } else {
        check["Test"] = json::array({"CMD-SHELL", std::string(text)});
      }
      config["Healthcheck"] = check;
      return {};
    }
    const std::size_t cut = std::min(word.find('='), word.size());
    const std::string_view name = word.substr(0, cut);
    const std::string_view value = word.substr(std::min(cut + 1, word.size()));
    const char* key = name == "--interval"       ? "Interval"
                      : name == "--timeout"      ? "Timeout"
                      : name == "--start-period" ? "StartPeriod"
                                                 : nullptr;
    unsigned retries = 0;
    const auto [last, error] = std::from_chars(value.data(), value.data() + value.size(), retries);
    const auto duration = key != nullptr ? parse_duration(value) : std::nullopt;
    if (duration) {
      check[key] = *duration;
    } else if (name == "--retries" && error == std::errc() && last == value.data() + value.size()) {
      check["Retries"] = retries;
    } else {
      return Failure{"'" + std::string(word) +
                     "' is not one of --interval=, --timeout=, --start-period= and a time as 30s, "
                     "or --retries= and a number"};
    }
  }
}

Fallible<void> set_shell(json& config, std::string_view text) {
  const auto words = exec_form(text);
  if (!words || words->empty()) {
    return Failure{"write the shell as [\"PROGRAM\", \"ARGUMENT\"]"};
  }
  config["Shell"] = *words;
  return {};
}

std::string keyword_of(std::string_view text) {
  std::string keyword(text.substr(0, std::min(text.find_first_of(" \t"), text.size())));
  for (char& c : keyword) {
    c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return keyword;
}

Fallible<void> add_trigger(json& config, std::string_view text) {
  const std::string keyword = keyword_of(text);
  if (keyword == "ONBUILD" || keyword == "FROM" || keyword == "MAINTAINER") {
    return Failure{keyword + " cannot be a trigger"};
  }
  config["OnBuild"].push_back(std::string(text));
  return {};
}

Fallible<void> apply(json& config, const std::string& keyword, std::string_view text,
                     bool& has_command) {
  if (keyword == "CMD") {
    config["Cmd"] = command_of(config, text);
    has_command = true;
  } else if (keyword == "ENTRYPOINT") {
    config["Entrypoint"] = command_of(config, text);
    if (!has_command) {
      config.erase("Cmd");
    }
  } else if (keyword == "ENV") {
    return for_each_pair(config, text, set_variable);
  } else if (keyword == "LABEL") {
    return for_each_pair(config, text, set_label);
  } else if (keyword == "EXPOSE") {
    LFS_ASSIGN(const auto words, Lexer(config, text).words());
    for (const std::string& word : words) {
      LFS_TRY(expose(config, word));
    }
  } else if (keyword == "USER") {
    LFS_ASSIGN(config["User"], one_word(config, text));
  } else if (keyword == "STOPSIGNAL") {
    LFS_ASSIGN(config["StopSignal"], one_word(config, text));
  } else if (keyword == "HEALTHCHECK") {
    return set_health_check(config, text);
  } else if (keyword == "ONBUILD") {
    return add_trigger(config, text);
  } else if (keyword == "SHELL") {
    return set_shell(config, text);
  } else if (keyword == "WORKDIR") {
    return change_dir(config, text);
  } else if (keyword == "VOLUME") {
    return add_volumes(config, text);
  } else {
    return Failure{"'" + keyword + "' is not one of " + kKnown};
  }
  return {};
}

}  // namespace

Fallible<void> apply_changes(json& config, const std::vector<std::string>& changes) {
  bool has_command = false;
  if (config.is_null()) {
    config = json::object();
  }
  for (const std::string& change : changes) {
    const std::string_view text = trim(change);
    const std::string keyword = keyword_of(text);
    const std::string_view rest = trim(text.substr(keyword.size()));
    if (rest.empty()) {
      return Failure{"'" + change + "': an instruction and its arguments are expected"};
    }
    const auto applied = read_document(
        "config", [&]() -> Fallible<void> { return apply(config, keyword, rest, has_command); });
    if (!applied) {
      return Failure{"'" + change + "': " + applied.error().message};
    }
  }
  return {};
}

}  // namespace layerfs::oci
