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

// As ignore() of result.h.
template <class T>
void ignore(const Outcome<T>&, const char* /*why*/) {}

}  // namespace layerfs
