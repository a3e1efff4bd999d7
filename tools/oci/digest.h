// SHA-256 (OpenSSL) and the digests of the OCI image spec (descriptor.md, "Digests").
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace layerfs::oci {

// "sha256:" and 64 hexadecimal digits; no other algorithm is accepted, so that a digest is
// always safe as a file name.
class Digest {
 public:
  // nullopt: not of that form.
  static std::optional<Digest> parse(std::string_view text);
  static Digest of(std::string_view bytes);

  const std::string& text() const { return text_; }
  std::string_view hex() const { return std::string_view(text_).substr(7); }
  friend bool operator==(const Digest&, const Digest&) = default;
  friend auto operator<=>(const Digest&, const Digest&) = default;

 private:
  friend class Sha256;
  explicit Digest(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

// A hash being computed. Ends the process if the library cannot (out of memory, or a
// policy without SHA-256): nothing here can be done without it.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void add(std::string_view bytes);
  // Of all that was added; starts again from nothing.
  Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace layerfs::oci
