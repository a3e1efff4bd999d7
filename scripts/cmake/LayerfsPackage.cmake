# Install rules that belong to no folder, and the Debian package.

install(FILES "${PROJECT_SOURCE_DIR}/scripts/cmake/debian-copyright" RENAME copyright
  DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/layerfs")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "layerfs maintainers <layerfs@localhost>")
set(CPACK_PACKAGE_DESCRIPTION
  "Merges the layers of a container's root into one writable tree.
The lower layers stay as they are; every change goes to an upper directory, in
the formats of the kernel's overlayfs and of OCI images. Runs as root or as an
unprivileged user.")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "fuse3")  # fusermount3; the libraries are added by shlibdeps
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_DIRECTORY "${CMAKE_BINARY_DIR}/package")
set(CPACK_OUTPUT_FILE_PREFIX "${CMAKE_BINARY_DIR}/package")
include(CPack)
