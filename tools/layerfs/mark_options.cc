#include "tools/layerfs/mark_options.h"

#include <string>

#include "tools/common/syntax.h"

namespace layerfs {

Outcome<WhiteoutForm> parse_whiteout_form(std::string_view text) {
  if (text == "overlay" || text == "oci") {
    return text == "oci" ? WhiteoutForm::DotWh : WhiteoutForm::Overlay;
  }
  return usage_error("'" + std::string(text) + "' is not one of overlay, oci");
}

Option whiteout_option(MarkChoice& choice) {
  return {.name = "whiteout",
          .value = "FORM",
          .help =
              "How deletions are written: overlay (devices 0:0), oci (.wh. files) or auto (overlay "
              "where the filesystem can hold it). Default: auto.",
          .apply = [&choice](std::string_view text) -> Outcome<void> {
            choice.form.reset();
            if (text != "auto") {
              LFS_ASSIGN(choice.form, parse_whiteout_form(text));
            }
            return {};
          }};
}

Option override_stat_option(MarkChoice& choice) {
  return {.name = "override-stat",
          .value = "SWITCH",
          .help =
              "Owners, modes and devices in user.containers.override_stat: on, off or auto "
              "(where they cannot be set).",
          .apply = [&choice](std::string_view text) -> Outcome<void> {
            choice.override_stat.reset();
            if (text != "auto") {
              LFS_ASSIGN(choice.override_stat, parse_switch(text));
            }
            return {};
          }};
}

}  // namespace layerfs
