#include "tests/model/layer_spec.h"

namespace layerfs::model {
namespace {

using Type = LayerEntry::Type;

constexpr const char* kTypeWords[] = {"dir", "file", "symlink", "node", "whiteout"};

}  // namespace

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string name_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string join(const std::string& dir, const std::string& name) {
  return dir.empty() || dir == "." ? name : dir + "/" + name;
}

bool is_below(const std::string& path, const std::string& dir) {
  return dir == "." ? path != "."
                    : path.size() > dir.size() && path.compare(0, dir.size(), dir) == 0 &&
                          path[dir.size()] == '/';
}

Record to_record(const std::string& path, const LayerEntry& entry) {
  Record record;
  record.word = kTypeWords[static_cast<int>(entry.type)];
  record.add("p", path);
  if (!entry.link_of.empty()) {
    record.add("link", entry.link_of);
    return record;
  }
  if (!entry.form.empty()) {
    record.add("form", entry.form);
  }
  if (entry.type == Type::Whiteout) {
    return record;
  }
  record.add_octal("mode", entry.mode);
  record.add_number("uid", entry.uid);
  record.add_number("gid", entry.gid);
  record.add_number("sec", entry.seconds);
  record.add_number("nsec", entry.nanoseconds);
  if (entry.type == Type::File) {
    record.add_number("piece", entry.piece);
    record.add_number("pieces", entry.pieces);
    record.add_number("hole", entry.hole);
    record.add_number("fill", entry.fill);
  }
  if (entry.type == Type::Symlink) {
    record.add("target", entry.target);
  }
  if (entry.type == Type::Node) {
    record.add_number("dev", entry.device);
  }
  for (const auto& [name, value] : entry.xattrs) {
    record.add("x." + name, to_hex(value));
  }
  return record;
}

std::string entry_from_record(const Record& record, LayerEntry& entry) {
  for (int i = 0; i < 5; ++i) {
    if (record.word == kTypeWords[i]) {
      entry.type = static_cast<Type>(i);
    }
  }
  entry.link_of = record.text("link");
  entry.form = record.text("form");
  entry.mode = static_cast<unsigned>(record.number("mode", 0644));
  entry.uid = static_cast<unsigned>(record.number("uid"));
  entry.gid = static_cast<unsigned>(record.number("gid"));
  entry.seconds = record.number("sec", 1);
  entry.nanoseconds = record.number("nsec");
  entry.piece = record.number("piece");
  entry.pieces = record.number("pieces", 1);
  entry.hole = record.number("hole");
  entry.fill = record.number("fill");
  entry.target = record.text("target");
  entry.device = record.number("dev");
  for (const auto& [key, value] : record.fields) {
    if (key.rfind("x.", 0) == 0) {
      entry.xattrs[key.substr(2)] = from_hex(value);
    }
  }
  return record.text("p");
}

}  // namespace layerfs::model
