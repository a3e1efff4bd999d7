// Small files of text, read and written whole.
#pragma once

#include <optional>
#include <string>

#include "tools/common/problem.h"

namespace layerfs::run {

// A file of more than 1 MiB is refused.
Outcome<std::string> read_text(const std::string& path);
// nullopt: there is no such file.
Outcome<std::optional<std::string>> read_text_if_there(const std::string& path);
Outcome<std::string> read_text_fd(int fd, const std::string& shown);
// Into a file that is there, by one write(2), as the kernel's control files need it.
Outcome<void> write_text(const std::string& path, const std::string& text);
// A new file, or the file emptied first.
Outcome<void> make_text(const std::string& path, const std::string& text, mode_t mode);

}  // namespace layerfs::run
