# layerfs_options: what every target of ours compiles with. Link it PRIVATE.
add_library(layerfs_options INTERFACE)
target_compile_features(layerfs_options INTERFACE cxx_std_20)
target_include_directories(layerfs_options INTERFACE
  "${PROJECT_SOURCE_DIR}")
target_compile_definitions(layerfs_options INTERFACE
  _GNU_SOURCE _FILE_OFFSET_BITS=64 _GLIBCXX_ASSERTIONS
  LFS_VERSION="${PROJECT_VERSION}")
target_compile_options(layerfs_options INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wnon-virtual-dtor -Wold-style-cast
  -Woverloaded-virtual -Wimplicit-fallthrough
  # gcc's -Wconversion leaves signs of constants alone in C++, clang's does not.
  $<$<CXX_COMPILER_ID:Clang>:-Wno-sign-conversion>
  # gcc 12 takes the value of an optional<string> in a variant (our Result) for uninitialised
  # where it is read after the check; clang-tidy's analyzer looks for real cases.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>
  $<$<BOOL:${LAYERFS_WERROR}>:-Werror>
  -fstack-protector-strong
  # For --gc-sections of the programs that are to be small.
  -ffunction-sections -fdata-sections)
target_link_options(layerfs_options INTERFACE -Wl,-z,relro,-z,now)

# Of the programs that only drive others, ON. ThreadSanitizer forbids what they have to do: to
# fork with threads and start some in the child, to enter a user namespace.
define_property(TARGET PROPERTY LAYERFS_UNSANITIZED
  INITIALIZE_FROM_VARIABLE LAYERFS_UNSANITIZED)

if(LAYERFS_SANITIZE)
  set(_sanitized "$<NOT:$<BOOL:$<TARGET_PROPERTY:LAYERFS_UNSANITIZED>>>")
  target_compile_options(layerfs_options INTERFACE
    "$<${_sanitized}:-fsanitize=${LAYERFS_SANITIZE};-fno-sanitize-recover=all>"
    -fno-omit-frame-pointer)
  target_link_options(layerfs_options INTERFACE
    "$<${_sanitized}:-fsanitize=${LAYERFS_SANITIZE}>")
else()
  # Not with sanitizers: the fortified wrappers hide the calls that ASan intercepts.
  target_compile_options(layerfs_options INTERFACE
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>)
endif()

if(LAYERFS_FUZZ)
  target_compile_options(layerfs_options INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(layerfs_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(LAYERFS_COVERAGE)
  target_compile_options(layerfs_options INTERFACE --coverage -fprofile-update=atomic)
  target_link_options(layerfs_options INTERFACE --coverage)
endif()

# PIE at the link as well as at the compile step.
include(CheckPIESupported)
check_pie_supported(LANGUAGES CXX)
