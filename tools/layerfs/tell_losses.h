#pragma once

#include <string_view>

#include "tools/common/problem.h"
#include "tools/common/streams.h"
#include "tools/oci/loss_list.h"

namespace layerfs {

// One line each on standard error: "layerfs: INTRODUCTION: 'PATH': WHAT".
Outcome<void> tell_losses(const oci::LossList& losses, std::string_view introduction,
                          const Streams& streams);

}  // namespace layerfs
