#pragma once
// Conditions and constraints of a sweep: "sharding.beta <= sharding.alpha and latency_us < 2e4".
//
// Names are dotted keys or metrics; numbers may end in K, M or G (powers of 1024); texts stand in single or
// double quotes, or are names that mean nothing else. Operators, loosest first: or; and; not; == != < <= >
// >=; + -; * / %.

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

namespace tessera::cli {

/// What is wrong with an expression. what() is one line.
class ExpressionError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A number where a text is one, else the text.
using Term = std::variant<double, std::string>;
Term term_of(const std::string& text);

class Expression {
 public:
  /// Throws ExpressionError.
  explicit Expression(const std::string& text);
  ~Expression();
  Expression(Expression&&) noexcept;
  Expression& operator=(Expression&&) noexcept;

  const std::string& text() const { return text_; }
  /// Every name in it, each once.
  const std::vector<std::string>& names() const { return names_; }
  /// Whether it holds; `value` gives a name's. Throws ExpressionError where texts are compared by size or
  /// added.
  bool holds(const std::function<Term(const std::string&)>& value) const;

 private:
  struct Node;
  class Parser;
  std::string text_;
  std::vector<std::string> names_;
  std::unique_ptr<Node> root_;
};

}  // namespace tessera::cli
