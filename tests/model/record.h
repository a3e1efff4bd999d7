// The text form of operations and of layers: a word, then key=value fields. Everything a
// reproduction needs is in it, so it can be pasted into a report and replayed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace layerfs::model {

struct Record {
  std::string word;
  std::vector<std::pair<std::string, std::string>> fields;

  void add(std::string key, std::string value) {
    fields.emplace_back(std::move(key), std::move(value));
  }
  void add_number(std::string key, std::int64_t value);
  void add_octal(std::string key, std::int64_t value);
  const std::string* find(std::string_view key) const;
  std::string text(std::string_view key, std::string_view otherwise = "") const;
  // Decimal, 0octal or 0xhex.
  std::int64_t number(std::string_view key, std::int64_t otherwise = 0) const;
};

std::string format_record(const Record& record);
// nullopt for an empty line or a comment (#).
std::optional<Record> parse_record(std::string_view line);

std::string to_hex(std::string_view bytes);
std::string from_hex(std::string_view text);

}  // namespace layerfs::model
