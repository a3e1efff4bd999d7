#include "tests/model/record.h"

#include <cstdio>
#include <cstdlib>

namespace layerfs::model {
namespace {

// Names of 255 equal bytes would hide the rest of a line.
constexpr std::size_t kLongRun = 20;

bool is_plain(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("._/+:,-").find(static_cast<char>(c)) != std::string_view::npos;
}

std::string escape(std::string_view bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes.size();) {
    std::size_t run = 1;
    while (i + run < bytes.size() && bytes[i + run] == bytes[i]) {
      ++run;
    }
    std::string one(1, bytes[i]);
    if (!is_plain(static_cast<unsigned char>(bytes[i]))) {
      char code[4];
      std::snprintf(code, sizeof code, "%%%02x", static_cast<unsigned char>(bytes[i]));
      one = code;
    }
    if (run >= kLongRun) {
      out += "{" + one + "*" + std::to_string(run) + "}";
      i += run;
    } else {
      out += one;
      ++i;
    }
  }
  return out;
}

std::string unescape(std::string_view text) {
  std::string out;
  const auto one = [&text](std::size_t& i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      const std::string code(text.substr(i + 1, 2));
      i += 3;
      return static_cast<char>(std::strtoul(code.c_str(), nullptr, 16));
    }
    return text[i++];
  };
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '{') {
      ++i;
      const char c = one(i);
      const std::size_t end = text.find('}', i);
      const std::string count(text.substr(i + 1, end - i - 1));
      out.append(std::strtoul(count.c_str(), nullptr, 10), c);
      i = end == std::string_view::npos ? text.size() : end + 1;
    } else {
      out += one(i);
    }
  }
  return out;
}

}  // namespace

void Record::add_number(std::string key, std::int64_t value) {
  add(std::move(key), std::to_string(value));
}

void Record::add_octal(std::string key, std::int64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "0%llo", static_cast<unsigned long long>(value));
  add(std::move(key), text);
}

const std::string* Record::find(std::string_view key) const {
  for (const auto& [name, value] : fields) {
    if (name == key) {
      return &value;
    }
  }
  return nullptr;
}

std::string Record::text(std::string_view key, std::string_view otherwise) const {
  const std::string* value = find(key);
  return value != nullptr ? *value : std::string(otherwise);
}

std::int64_t Record::number(std::string_view key, std::int64_t otherwise) const {
  const std::string* value = find(key);
  return value != nullptr ? std::strtoll(value->c_str(), nullptr, 0) : otherwise;
}

std::string format_record(const Record& record) {
  std::string out = record.word;
  for (const auto& [key, value] : record.fields) {
    out += " " + key + "=" + escape(value);
  }
  return out;
}

std::optional<Record> parse_record(std::string_view line) {
  Record record;
  std::size_t at = 0;
  while (at < line.size()) {
    const std::size_t start = line.find_first_not_of(" \t", at);
    if (start == std::string_view::npos || line[start] == '#') {
      break;
    }
    std::size_t end = line.find_first_of(" \t", start);
    if (end == std::string_view::npos) {
      end = line.size();
    }
    const std::string_view token = line.substr(start, end - start);
    at = end;
    const std::size_t equals = token.find('=');
    if (record.word.empty()) {
      record.word = token;
    } else if (equals != std::string_view::npos) {
      record.add(std::string(token.substr(0, equals)), unescape(token.substr(equals + 1)));
    }
  }
  if (record.word.empty()) {
    return std::nullopt;
  }
  return record;
}

std::string to_hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    char code[3];
    std::snprintf(code, sizeof code, "%02x", static_cast<unsigned char>(c));
    out += code;
  }
  return out;
}

std::string from_hex(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    out += static_cast<char>(std::strtoul(std::string(text.substr(i, 2)).c_str(), nullptr, 16));
  }
  return out;
}

}  // namespace layerfs::model
