# layerfs_add_library(NAME SOURCES ... [PUBLIC targets...] [PRIVATE targets...])
# A static library of ours. Without sources it is an INTERFACE target that only passes
# its PUBLIC edges on.
function(layerfs_add_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_include_directories(${name} PUBLIC "${PROJECT_SOURCE_DIR}")
    target_link_libraries(${name} PUBLIC ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE} layerfs_options)
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE "${PROJECT_SOURCE_DIR}")
    target_link_libraries(${name} INTERFACE ${ARG_PUBLIC})
  endif()
endfunction()

# layerfs_add_program(NAME SOURCES ... LINK targets...)
# A program in build/<preset>/bin.
function(layerfs_add_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} layerfs_options)
endfunction()

# layerfs_start_fast(NAME [WHOLE]): for a program that is started for each mount. Most of
# such a start is page faults, of which each shared library costs some ten and libstdc++ fifty.
# WHOLE: without any shared library, libc too, where libfuse is none; fs/no_modules.cc has the
# dlopen for what libfuse would load.
function(layerfs_start_fast name)
  cmake_parse_arguments(ARG "WHOLE" "" "" ${ARGN})
  # Relocations of a PIE in a few pages instead of forty (glibc 2.36, binutils 2.38).
  target_link_options(${name} PRIVATE -Wl,--as-needed,-z,pack-relative-relocs)
  # A sanitizer's library must come before the C++ library.
  if(LAYERFS_SANITIZE OR LAYERFS_COVERAGE)
    return()
  endif()
  target_link_options(${name} PRIVATE -Wl,--gc-sections)
  if(ARG_WHOLE AND LAYERFS_FUSE_LIBRARY MATCHES "\\.a$" AND LAYERFS_STATIC_LIBACL)
    # Of the property CMake would make -pie, which takes -static-pie back.
    set_property(TARGET ${name} PROPERTY POSITION_INDEPENDENT_CODE)
    target_compile_options(${name} PRIVATE -fPIE)
    target_sources(${name} PRIVATE "${PROJECT_SOURCE_DIR}/fs/no_modules.cc")
    target_link_options(${name} PRIVATE -static-pie -Wl,--wrap=dlopen)
  else()
    target_link_options(${name} PRIVATE -static-libstdc++ -static-libgcc)
  endif()
endfunction()

# layerfs_unit_test(NAME SOURCES ... LINK targets...)
# A Catch2 program; each of its test cases becomes one CTest with the label "unit", which
# is skipped if it prints "SKIP: " and the reason.
function(layerfs_unit_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_SOURCES)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE layerfs_catch_main ${ARG_LINK} layerfs_options)
  catch_discover_tests(${name} TEST_PREFIX "${name}: "
    PROPERTIES LABELS unit TIMEOUT 120 SKIP_REGULAR_EXPRESSION "SKIP: ")
endfunction()
