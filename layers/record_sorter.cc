#include "layers/record_sorter.h"

#include <algorithm>
#include <cstring>

namespace layerfs {
namespace {

constexpr std::size_t kRunBytes = std::size_t{2} << 20U;
constexpr std::size_t kMostHeld = std::size_t{4} << 20U;
// For all runs of a reader together, while each has a buffer worth a system call.
constexpr std::size_t kReaderBytes = std::size_t{1} << 20U;
constexpr std::size_t kLeastPiece = 1024;
constexpr std::size_t kMostPiece = std::size_t{64} * 1024;

using Size = std::uint32_t;

Size size_at(const char* data) {
  Size size = 0;
  std::memcpy(&size, data, sizeof size);
  return size;
}

}  // namespace

RecordSorter::~RecordSorter() {
  space_->held -= counted_;
  if (!runs_.empty()) {
    space_->log.cut(start_);
  }
}

std::string_view RecordSorter::at(std::uint32_t offset) const {
  const char* record = arena_.data() + offset;
  return {record + sizeof(Size), size_at(record)};
}

Result<void, Failure> RecordSorter::add(std::string_view record) {
  const std::size_t more = sizeof(Size) + record.size() + sizeof(std::uint32_t);
  if (arena_.size() + offsets_.size() * sizeof(std::uint32_t) + more > kRunBytes &&
      !offsets_.empty()) {
    sort();
    LFS_TRY(write_run());
  }
  offsets_.push_back(static_cast<std::uint32_t>(arena_.size()));
  const auto size = static_cast<Size>(record.size());
  arena_.append(reinterpret_cast<const char*>(&size), sizeof size);
  arena_ += record;
  ++count_;
  return {};
}

void RecordSorter::sort() {
  std::sort(offsets_.begin(), offsets_.end(),
            [this](std::uint32_t a, std::uint32_t b) { return at(a) < at(b); });
}

Result<void, Failure> RecordSorter::write_run() {
  const std::uint64_t begin = space_->log.size();
  for (const std::uint32_t offset : offsets_) {
    LFS_TRY(space_->log.append(
        std::string_view(arena_).substr(offset, sizeof(Size) + at(offset).size())));
  }
  runs_.push_back({begin, space_->log.size()});
  arena_.clear();
  offsets_.clear();
  return {};
}

Result<void, Failure> RecordSorter::finish() {
  sort();
  const bool stays = runs_.empty() && space_->held + held_bytes() <= kMostHeld;
  if (!stays && !offsets_.empty()) {
    LFS_TRY(write_run());
  }
  if (!stays) {
    std::string().swap(arena_);
    std::vector<std::uint32_t>().swap(offsets_);
  }
  counted_ = held_bytes();
  space_->held += counted_;
  return {};
}

Result<bool, Failure> RecordSorter::Reader::Cursor::fill(const SpillLog& log, std::size_t piece) {
  for (;;) {
    const std::size_t have = buffer.size() - used;
    std::size_t want = sizeof(Size);
    if (have >= sizeof(Size)) {
      want += size_at(buffer.data() + used);
    }
    if (have >= want) {
      head = std::string_view(buffer).substr(used + sizeof(Size), want - sizeof(Size));
      return true;
    }
    if (at == end) {
      return false;
    }
    buffer.erase(0, used);
    used = 0;
    const auto more =
        static_cast<std::size_t>(std::min<std::uint64_t>(std::max(piece, want - have), end - at));
    buffer.resize(have + more);
    LFS_TRY(log.read(at, buffer.data() + have, more));
    at += more;
  }
}

void RecordSorter::Reader::Cursor::skip() { used += sizeof(Size) + head.size(); }

RecordSorter::Reader::Reader(const RecordSorter& sorter) : sorter_(&sorter) {
  for (const Run& run : sorter.runs_) {
    cursors_.push_back({run.begin, run.end, {}, 0, {}});
  }
}

std::size_t RecordSorter::Reader::piece() const {
  return std::clamp(kReaderBytes / cursors_.size(), kLeastPiece, kMostPiece);
}

bool RecordSorter::Reader::is_after(std::size_t a, std::size_t b) const {
  return cursors_[a].head > cursors_[b].head;
}

Result<void, Failure> RecordSorter::Reader::load() {
  heap_.clear();
  for (std::size_t i = 0; i < cursors_.size(); ++i) {
    LFS_ASSIGN(const bool more, cursors_[i].fill(sorter_->space_->log, piece()));
    if (more) {
      heap_.push_back(i);
    }
  }
  std::make_heap(heap_.begin(), heap_.end(),
                 [this](std::size_t a, std::size_t b) { return is_after(a, b); });
  loaded_ = true;
  return {};
}

Result<std::optional<std::string_view>, Failure> RecordSorter::Reader::head() {
  using Head = std::optional<std::string_view>;
  if (cursors_.empty()) {
    return next_ < sorter_->offsets_.size() ? Head(sorter_->at(sorter_->offsets_[next_])) : Head();
  }
  if (!loaded_) {
    LFS_TRY(load());
  } else if (is_popped_) {
    is_popped_ = false;
    const auto after = [this](std::size_t a, std::size_t b) { return is_after(a, b); };
    std::pop_heap(heap_.begin(), heap_.end(), after);
    Cursor& cursor = cursors_[heap_.back()];
    cursor.skip();
    LFS_ASSIGN(const bool more, cursor.fill(sorter_->space_->log, piece()));
    if (more) {
      std::push_heap(heap_.begin(), heap_.end(), after);
    } else {
      heap_.pop_back();
    }
  }
  return heap_.empty() ? Head() : Head(cursors_[heap_.front()].head);
}

void RecordSorter::Reader::pop() {
  ++next_;
  is_popped_ = true;
}

void RecordSorter::Reader::rest() {
  if (!loaded_) {
    return;
  }
  if (is_popped_) {
    cursors_[heap_.front()].skip();
    is_popped_ = false;
  }
  for (Cursor& cursor : cursors_) {
    cursor.at -= cursor.buffer.size() - cursor.used;
    cursor.used = 0;
    std::string().swap(cursor.buffer);
  }
  loaded_ = false;
}

}  // namespace layerfs
