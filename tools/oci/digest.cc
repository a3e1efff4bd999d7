#include "tools/oci/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

namespace layerfs::oci {
namespace {

constexpr std::string_view kAlgorithm = "sha256:";
constexpr std::size_t kHexDigits = 64;

void require(bool done) {
  if (!done) {
    std::fputs("layerfs: libcrypto offers no SHA-256\n", stderr);
    std::abort();
  }
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() {
    require(context != nullptr);
    restart();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
  void restart() const { require(EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1); }
};

std::optional<Digest> Digest::parse(std::string_view text) {
  if (text.size() != kAlgorithm.size() + kHexDigits || !text.starts_with(kAlgorithm)) {
    return std::nullopt;
  }
  const std::string_view hex = text.substr(kAlgorithm.size());
  const bool lower = std::all_of(hex.begin(), hex.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  return lower ? std::optional<Digest>(Digest(std::string(text))) : std::nullopt;
}

Digest Digest::of(std::string_view bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.finish();
}

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::add(std::string_view bytes) {
  require(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1);
}

Digest Sha256::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> value{};
  unsigned size = 0;
  require(EVP_DigestFinal_ex(state_->context, value.data(), &size) == 1);
  state_->restart();
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text(kAlgorithm);
  for (unsigned i = 0; i < size; ++i) {
    text += {kDigits[value[i] >> 4U], kDigits[value[i] & 15U]};
  }
  return Digest(std::move(text));
}

}  // namespace layerfs::oci
