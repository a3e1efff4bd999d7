#include "tools/oci/tar_header.h"

#include <catch2/catch.hpp>
#include <map>

using namespace layerfs::oci;

namespace {

std::string field(const std::string& header, std::size_t offset, std::size_t size) {
  const std::string text = header.substr(offset, size);
  return text.substr(0, text.find('\0'));
}

std::uint64_t number(const std::string& header, std::size_t offset, std::size_t size) {
  return std::stoull(field(header, offset, size), nullptr, 8);
}

// The records of the extended header that `encoded` begins with; empty if there is none.
std::map<std::string, std::string> records_of(const std::string& encoded) {
  std::map<std::string, std::string> out;
  if (encoded[156] != 'x') {
    return out;
  }
  const std::string text = encoded.substr(kTarBlockBytes, number(encoded, 124, 12));
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = std::stoul(text.substr(at));
    const std::size_t key = text.find(' ', at) + 1;
    const std::size_t value = text.find('=', key) + 1;
    REQUIRE(text.at(at + length - 1) == '\n');
    REQUIRE(
        out.emplace(text.substr(key, value - 1 - key), text.substr(value, at + length - 1 - value))
            .second);
    at += length;
  }
  return out;
}

// Without the extended header.
std::string ustar_of(const std::string& encoded) {
  return encoded.substr(encoded.size() - kTarBlockBytes);
}

void check_checksum(std::string header) {
  const std::uint64_t stored = number(header, 148, 8);
  header.replace(148, 8, 8, ' ');
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < kTarBlockBytes; ++i) {
    sum += static_cast<unsigned char>(header[i]);
  }
  CHECK(sum == stored);
}

TarEntry entry_of(const std::string& path) {
  TarEntry entry;
  entry.path = path;
  entry.mode = 0644;
  entry.mtime = {1000000000, 0};
  return entry;
}

}  // namespace

TEST_CASE("tar header: what ustar can hold is one block") {
  TarEntry entry = entry_of("usr/bin/x");
  entry.size = 8589934591;
  entry.uid = 2097151;
  entry.gid = 5;
  entry.mode = 06755;
  const std::string header = encode_tar_header(entry);
  REQUIRE(header.size() == kTarBlockBytes);
  CHECK(field(header, 0, 100) == "usr/bin/x");
  CHECK(field(header, 100, 8) == "0006755");
  CHECK(field(header, 108, 8) == "7777777");
  CHECK(field(header, 116, 8) == "0000005");
  CHECK(field(header, 124, 12) == "77777777777");
  CHECK(field(header, 136, 12) == "07346545000");
  CHECK(header[156] == '0');
  CHECK(header.substr(257, 8) == std::string("ustar\0"
                                             "00",
                                             8));
  CHECK(field(header, 265, 64).empty());  // no user or group name
  check_checksum(header);
}

TEST_CASE("tar header: a directory ends in a slash, also in the extended header") {
  TarEntry entry = entry_of("etc");
  entry.type = TarType::Directory;
  CHECK(field(encode_tar_header(entry), 0, 100) == "etc/");
  entry.path = std::string(120, 'd');
  CHECK(records_of(encode_tar_header(entry)) ==
        std::map<std::string, std::string>{{"path", std::string(120, 'd') + "/"}});
}

TEST_CASE("tar header: long names are split where they can be, else extended") {
  const std::string name(100, 'n');
  const std::string prefix(155, 'p');
  const std::string split = encode_tar_header(entry_of(prefix + "/" + name));
  REQUIRE(split.size() == kTarBlockBytes);
  CHECK(field(split, 0, 100) == name);
  CHECK(field(split, 345, 155) == prefix);
  check_checksum(split);
  for (const std::string& path : {name + "n", prefix + "p/" + name, std::string(300, 'x') + "/y"}) {
    CAPTURE(path);
    const std::string encoded = encode_tar_header(entry_of(path));
    CHECK(records_of(encoded).at("path") == path);
    check_checksum(encoded);
    check_checksum(ustar_of(encoded));
  }
}

TEST_CASE("tar header: numbers, times and bytes beyond ustar are extended") {
  TarEntry entry = entry_of("\xc3\xa4");
  entry.size = 8589934592;
  entry.uid = 2097152;
  entry.gid = 4294967294;
  entry.mtime = {1700000000, 123456780};
  const std::string encoded = encode_tar_header(entry);
  CHECK(records_of(encoded) == std::map<std::string, std::string>{{"gid", "4294967294"},
                                                                  {"mtime", "1700000000.12345678"},
                                                                  {"path", "\xc3\xa4"},
                                                                  {"size", "8589934592"},
                                                                  {"uid", "2097152"}});
  CHECK(number(ustar_of(encoded), 124, 12) == 0);
}

TEST_CASE("tar header: times before 1970 are extended, with the fraction's sign") {
  TarEntry entry = entry_of("a");
  entry.mtime = {-2, 500000000};
  CHECK(records_of(encode_tar_header(entry)).at("mtime") == "-1.5");
  entry.mtime = {-1, 250000000};
  CHECK(records_of(encode_tar_header(entry)).at("mtime") == "-0.75");
  entry.mtime = {-3, 0};
  CHECK(records_of(encode_tar_header(entry)).at("mtime") == "-3");
}

TEST_CASE("tar header: attributes are binary records, their own length counted") {
  TarEntry entry = entry_of("a");
  const std::string value("\x01\0\n=\xff", 5);
  for (std::size_t size = 60; size < 110; ++size) {  // over the step from two digits to three
    entry.xattrs = {{"security.capability", value}, {"user.k", std::string(size, 'v')}};
    const auto records = records_of(encode_tar_header(entry));
    CHECK(records.at("SCHILY.xattr.security.capability") == value);
    CHECK(records.at("SCHILY.xattr.user.k").size() == size);
  }
  CHECK_FALSE(is_portable_xattr("user.a=b", "1"));
  CHECK_FALSE(is_portable_xattr("user.a", ""));
  CHECK(is_portable_xattr("user.a", value));
}

TEST_CASE("tar header: links and devices") {
  TarEntry entry = entry_of("l");
  entry.type = TarType::HardLink;
  entry.link_target = "d/target";
  std::string header = encode_tar_header(entry);
  CHECK(header[156] == '1');
  CHECK(field(header, 157, 100) == "d/target");
  entry.link_target = std::string(101, 't');
  CHECK(records_of(encode_tar_header(entry)).at("linkpath") == entry.link_target);
  entry = entry_of("dev");
  entry.type = TarType::Block;
  entry.device_major = 4095;
  entry.device_minor = 1048575;
  header = encode_tar_header(entry);
  CHECK(header[156] == '4');
  CHECK(number(header, 329, 8) == 4095);
  CHECK(number(header, 337, 8) == 1048575);
}

TEST_CASE("tar padding fills to whole blocks") {
  CHECK(tar_padding(0) == 0);
  CHECK(tar_padding(1) == 511);
  CHECK(tar_padding(512) == 0);
  CHECK(tar_padding(513) == 511);
}
