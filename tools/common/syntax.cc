#include "tools/common/syntax.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

namespace layerfs {
namespace {

bool is_escapable(char c) { return c == ':' || c == '\\' || c == ','; }

template <class T>
bool parse_whole(std::string_view text, T& out) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, out);
  return error == std::errc() && rest == end && !text.empty();
}

Problem empty_layer(std::string_view text) {
  return usage_error("'" + std::string(text) +
                     "' has an empty layer name; write one ':' between layers, and '\\:' for a "
                     "colon in a name");
}

// Ranges [start, start + size) of one side of an id mapping.
bool overlaps(std::uint32_t a, std::uint32_t a_size, std::uint32_t b, std::uint32_t b_size) {
  return std::uint64_t{a} < std::uint64_t{b} + b_size &&
         std::uint64_t{b} < std::uint64_t{a} + a_size;
}

Outcome<void> check_range(const IdRange& range, const std::vector<IdRange>& earlier) {
  // One below the highest 32-bit value, which stands for "no id".
  constexpr std::uint64_t kIds = std::numeric_limits<std::uint32_t>::max();
  const std::string name = std::to_string(range.stored) + ":" + std::to_string(range.shown) + ":" +
                           std::to_string(range.count);
  if (range.count == 0) {
    return usage_error("the range " + name + " is empty; its third number is the size");
  }
  if (std::uint64_t{range.stored} + range.count > kIds ||
      std::uint64_t{range.shown} + range.count > kIds) {
    return usage_error("the range " + name + " ends beyond the highest id, 4294967294");
  }
  for (const IdRange& other : earlier) {
    if (overlaps(range.stored, range.count, other.stored, other.count) ||
        overlaps(range.shown, range.count, other.shown, other.count)) {
      return usage_error("the range " + name + " overlaps an earlier one");
    }
  }
  return {};
}

}  // namespace

std::string unescape_path(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && is_escapable(text[i + 1])) {
      ++i;
    }
    out.push_back(text[i]);
  }
  return out;
}

Outcome<std::vector<std::string>> split_layers(std::string_view text) {
  if (text.empty()) {
    return usage_error("the list of layers is empty; name at least one directory");
  }
  std::vector<std::string> out;
  std::size_t start = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] == '\\') {
      ++i;
      continue;
    }
    if (i < text.size() && text[i] != ':') {
      continue;
    }
    if (i == start) {
      return empty_layer(text);
    }
    out.push_back(unescape_path(text.substr(start, i - start)));
    start = i + 1;
    if (i >= text.size()) {
      break;
    }
  }
  // A lone backslash at the very end steps over the end of the text.
  if (start < text.size()) {
    out.push_back(unescape_path(text.substr(start)));
  }
  return out;
}

Outcome<std::vector<MountWord>> split_mount_words(std::string_view text) {
  std::vector<MountWord> out;
  MountWord word;
  bool quoted = false;
  bool started = false;
  const auto put = [&](char c) {
    (word.has_value ? word.value : word.key).push_back(c);
    started = true;
  };
  const auto finish = [&] {
    if (started || word.has_value) {
      out.push_back(std::move(word));
    }
    word = MountWord{};
    started = false;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\' && i + 1 < text.size()) {
      if (text[i + 1] != '"') {
        put(c);  // the value's own escapes are for who reads it
      }
      put(text[++i]);
    } else if (c == '"') {
      quoted = !quoted;
      started = true;
    } else if (c == ',' && !quoted) {
      finish();
    } else if (c == '=' && !quoted && !word.has_value) {
      word.has_value = true;
    } else {
      put(c);
    }
  }
  if (quoted) {
    return usage_error("a double quote is not closed in '" + std::string(text) + "'");
  }
  finish();
  return out;
}

Outcome<std::vector<IdRange>> parse_id_map(std::string_view text) {
  const std::string whole(text);
  if (text.starts_with(':')) {
    text.remove_prefix(1);
  }
  std::vector<std::uint32_t> numbers;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(':', start), text.size());
    if (!parse_whole(text.substr(start, end - start), numbers.emplace_back())) {
      return usage_error("'" + whole +
                         "' is not stored:shown:count, repeated; each a number "
                         "from 0 to 4294967294");
    }
    start = end + 1;
  }
  if (numbers.size() % 3 != 0) {
    return usage_error("'" + whole + "' has " + std::to_string(numbers.size()) +
                       " numbers; give three for each range: stored:shown:count");
  }
  std::vector<IdRange> out;
  for (std::size_t i = 0; i < numbers.size(); i += 3) {
    const IdRange range{numbers[i], numbers[i + 1], numbers[i + 2]};
    LFS_TRY(check_range(range, out));
    out.push_back(range);
  }
  return out;
}

Outcome<std::int64_t> parse_id(std::string_view text) {
  std::uint32_t id = 0;
  if (!parse_whole(text, id) || id == std::numeric_limits<std::uint32_t>::max()) {
    return usage_error("'" + std::string(text) +
                       "' is not an id; give a number from 0 to 4294967294");
  }
  return std::int64_t{id};
}

Outcome<double> parse_seconds(std::string_view text) {
  double seconds = 0;
  if (!parse_whole(text, seconds) || !std::isfinite(seconds) || std::signbit(seconds)) {
    return usage_error("'" + std::string(text) +
                       "' is not a time; give seconds, 0 or more, such as 0.5");
  }
  return seconds;
}

Outcome<int> parse_int(std::string_view text, int least, int most) {
  int number = 0;
  if (!parse_whole(text, number) || number < least || number > most) {
    return usage_error("'" + std::string(text) + "' is not a number from " + std::to_string(least) +
                       " to " + std::to_string(most));
  }
  return number;
}

Outcome<std::uint64_t> parse_size(std::string_view text) {
  constexpr std::string_view kUnits = "bkmgt";
  std::string_view digits = text;
  unsigned shift = 0;
  if (!digits.empty() && std::isalpha(static_cast<unsigned char>(digits.back())) != 0) {
    const auto unit =
        kUnits.find(static_cast<char>(std::tolower(static_cast<unsigned char>(digits.back()))));
    if (unit == std::string_view::npos) {
      return usage_error("'" + std::string(text) + "' is no size; units are b, k, m, g and t");
    }
    shift = static_cast<unsigned>(unit) * 10;
    digits.remove_suffix(1);
  }
  std::uint64_t value = 0;
  if (!parse_whole(digits, value) ||
      value > (std::uint64_t{std::numeric_limits<std::int64_t>::max()} >> shift)) {
    return usage_error("'" + std::string(text) + "' is no size, as 512m is one");
  }
  return value << shift;
}

Outcome<bool> parse_switch(std::string_view text) {
  for (const std::string_view yes : {"on", "yes", "true", "1"}) {
    if (text == yes) {
      return true;
    }
  }
  for (const std::string_view no : {"off", "no", "false", "0"}) {
    if (text == no) {
      return false;
    }
  }
  return usage_error("'" + std::string(text) + "' is neither on nor off");
}

}  // namespace layerfs
