# layerfs_libfuse: the libfuse3 that LAYERFS_LIBFUSE names, with FUSE_USE_VERSION to match.
# Code tests `FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)` for what only newer ones have.
#
# scripts/setup leaves a link named "libfuse" to the newest one it built; both sides
# compute the folder in the same way, so that no file in the source tree is needed.
if(DEFINED ENV{LAYERFS_DEPS})
  set(_deps "$ENV{LAYERFS_DEPS}")
elseif(DEFINED ENV{XDG_CACHE_HOME})
  set(_deps "$ENV{XDG_CACHE_HOME}/layerfs")
else()
  set(_deps "$ENV{HOME}/.cache/layerfs")
endif()

if(LAYERFS_LIBFUSE STREQUAL "auto")
  file(REAL_PATH "${_deps}/libfuse" _prefix)
  if(NOT EXISTS "${_prefix}/include/fuse3/fuse_lowlevel.h")
    set(_prefix "")
  endif()
elseif(LAYERFS_LIBFUSE STREQUAL "system")
  set(_prefix "")
else()
  file(REAL_PATH "${LAYERFS_LIBFUSE}" _prefix)
endif()

# The cache would keep the answer of an earlier LAYERFS_LIBFUSE.
unset(LAYERFS_FUSE_INCLUDE CACHE)
unset(LAYERFS_FUSE_LIBRARY CACHE)
if(_prefix)
  find_path(LAYERFS_FUSE_INCLUDE fuse_lowlevel.h
    PATHS "${_prefix}/include/fuse3" NO_DEFAULT_PATH)
  find_library(LAYERFS_FUSE_LIBRARY NAMES libfuse3.a fuse3
    PATHS "${_prefix}" PATH_SUFFIXES lib lib64 lib/${CMAKE_LIBRARY_ARCHITECTURE} NO_DEFAULT_PATH)
else()
  find_path(LAYERFS_FUSE_INCLUDE fuse_lowlevel.h PATH_SUFFIXES fuse3)
  find_library(LAYERFS_FUSE_LIBRARY NAMES fuse3)
endif()
mark_as_advanced(LAYERFS_FUSE_INCLUDE LAYERFS_FUSE_LIBRARY)
if(NOT LAYERFS_FUSE_INCLUDE OR NOT LAYERFS_FUSE_LIBRARY)
  message(FATAL_ERROR
    "No libfuse3 found for LAYERFS_LIBFUSE=${LAYERFS_LIBFUSE}. Run scripts/setup, or give the prefix of one.")
endif()

# 3.14 keeps its version in fuse_common.h, newer ones in libfuse_config.h.
set(_fuse_version_text "")
foreach(_header fuse_common.h libfuse_config.h)
  if(EXISTS "${LAYERFS_FUSE_INCLUDE}/${_header}")
    file(STRINGS "${LAYERFS_FUSE_INCLUDE}/${_header}" _lines REGEX "define FUSE_M(AJ|IN)OR_VERSION")
    string(APPEND _fuse_version_text "${_lines};")
  endif()
endforeach()
string(REGEX MATCH "FUSE_MAJOR_VERSION[ \t]+([0-9]+)" _ "${_fuse_version_text}")
set(_major "${CMAKE_MATCH_1}")
string(REGEX MATCH "FUSE_MINOR_VERSION[ \t]+([0-9]+)" _ "${_fuse_version_text}")
set(_minor "${CMAKE_MATCH_1}")
if(NOT _major EQUAL 3 OR _minor LESS 14)
  message(FATAL_ERROR
    "libfuse ${_major}.${_minor} at ${LAYERFS_FUSE_INCLUDE} is not usable: 3.14 or a later 3.x is needed.")
endif()
# The API level is one that we know, even if the library is newer.
if(_minor GREATER_EQUAL 17)
  set(_use_version 317)
else()
  set(_use_version 314)
endif()
set(LAYERFS_LIBFUSE_VERSION "${_major}.${_minor}")
message(STATUS "libfuse ${LAYERFS_LIBFUSE_VERSION}: ${LAYERFS_FUSE_LIBRARY} (FUSE_USE_VERSION=${_use_version})")

add_library(layerfs_libfuse INTERFACE)
target_include_directories(layerfs_libfuse SYSTEM INTERFACE "${LAYERFS_FUSE_INCLUDE}")
target_link_libraries(layerfs_libfuse INTERFACE "${LAYERFS_FUSE_LIBRARY}" ${CMAKE_DL_LIBS})
target_compile_definitions(layerfs_libfuse INTERFACE FUSE_USE_VERSION=${_use_version})
