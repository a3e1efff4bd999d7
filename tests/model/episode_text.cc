#include <sstream>
#include <stdexcept>

#include "tests/model/episode.h"

namespace layerfs::model {

std::string episode_text(const Episode& episode) {
  std::string out;
  for (std::size_t i = 0; i < episode.layers.size(); ++i) {
    out += i == 0 && episode.init ? "init\n" : "layer\n";
    for (const auto& [path, entry] : episode.layers[i]) {
      out += "  " + format_record(to_record(path, entry)) + "\n";
    }
  }
  out += "ops\n";
  for (const Op& op : episode.ops) {
    out += "  " + to_text(op) + "\n";
  }
  return out;
}

Episode parse_episode(const std::string& text) {
  Episode episode;
  bool in_ops = false;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::optional<Record> record = parse_record(line);
    if (!record) {
      continue;
    }
    if (record->word == "layer" || record->word == "init") {
      episode.init = episode.init || record->word == "init";
      episode.layers.emplace_back();
    } else if (record->word == "ops") {
      in_ops = true;
    } else if (in_ops) {
      const std::optional<Op> op = op_from_record(*record);
      if (!op) {
        throw std::runtime_error("no such operation: " + line);
      }
      episode.ops.push_back(*op);
    } else if (!episode.layers.empty()) {
      LayerEntry entry;
      const std::string path = entry_from_record(*record, entry);
      episode.layers.back()[path] = entry;
    } else {
      throw std::runtime_error("an entry outside of a layer: " + line);
    }
  }
  return episode;
}

}  // namespace layerfs::model
