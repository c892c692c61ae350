#pragma once
// Texts changed at random, as a fuzzer would: bytes flipped, cut out, repeated, or replaced by what parsers
// stumble over. Deterministic.

#include <cstdint>
#include <random>
#include <string>

namespace tessera::traces_test {

class Mutator {
 public:
  explicit Mutator(std::uint32_t seed) : random_{seed} {}

  std::string operator()(std::string text) {
    static const std::string kPieces[] = {"\"",
                                          "{",
                                          "}",
                                          "[",
                                          "]",
                                          ",",
                                          ":",
                                          "-",
                                          "1e999",
                                          "NaN",
                                          "null",
                                          "\\u",
                                          "\\",
                                          "\n",
                                          "\r\n",
                                          "\xFF",
                                          std::string(1, '\0'),
                                          "99999999999999999999",
                                          "0.",
                                          " "};
    for (std::uint32_t changes = 1 + random_() % 4; changes > 0; --changes) {
      const std::size_t at = text.empty() ? 0 : random_() % (text.size() + 1);
      const std::size_t length = 1 + random_() % 8;
      switch (random_() % 5) {
        case 0:
          if (at < text.size()) text[at] = static_cast<char>(random_());
          break;
        case 1:
          text.erase(at, length);
          break;
        case 2:
          text.insert(at, text.substr(at, length));
          break;
        case 3:
          text.insert(at, kPieces[random_() % std::size(kPieces)]);
          break;
        default:
          text.resize(at);
      }
    }
    return text;
  }

 private:
  std::mt19937 random_;
};

}  // namespace tessera::traces_test
