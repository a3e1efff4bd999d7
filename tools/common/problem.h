// Why a command did not do what it was asked. The message is one line that names the
// thing, the reason and what to do; the program and command are put before it when printed.
#pragma once

#include <string>
#include <utility>

#include "layers/sys/result.h"
#include "tools/common/exit_code.h"

namespace layerfs {

struct [[nodiscard]] Problem {
  ExitCode code = ExitCode::Failure;
  std::string message;
};

inline Problem usage_error(std::string message) {
  return Problem{ExitCode::Usage, std::move(message)};
}
inline Problem failed(std::string message) {
  return Problem{ExitCode::Failure, std::move(message)};
}

template <class T>
using Outcome = Result<T, Problem>;

// For printing: a name with a line break or the like is shown with it escaped.
inline std::string in_one_line(const std::string& message) {
  static constexpr char kDigits[] = "01234567";
  std::string out;
  for (const char c : message) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      out.push_back(c);
    } else {
      out.append({'\\', kDigits[byte >> 6], kDigits[(byte >> 3) & 7], kDigits[byte & 7]});
    }
  }
  return out;
}

// As ignore() of result.h.
template <class T>
void ignore(const Outcome<T>&, const char* /*why*/) {}

}  // namespace layerfs
