#pragma once
// "gemm m=512 n=512 k=512", word by word.

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace tessera::validate {

/// The parts between separators; empty ones are left out.
inline std::vector<std::string> words_of(const std::string& text, char separator = ' ') {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    if (end > begin) words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

}  // namespace tessera::validate
