#include "cli/sweep/expression.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <string_view>

namespace tessera::cli {

namespace {

// Parsing and evaluating go as deep as a condition nests, and along chains of operators: within these bounds
// the stack suffices.
constexpr std::size_t kMostCharacters = 4096;
constexpr int kDeepest = 64;

}  // namespace

Term term_of(const std::string& text) {
  double x = 0;
  const char* end = text.data() + text.size();
  const auto [rest, status] = std::from_chars(text.data(), end, x);
  if (status != std::errc{} || !std::isfinite(x)) return text;
  const std::string_view suffix{rest, static_cast<std::size_t>(end - rest)};
  if (suffix.empty()) return x;
  if (suffix == "K" || suffix == "Ki") return x * 1024;
  if (suffix == "M" || suffix == "Mi") return x * 1048576;
  if (suffix == "G" || suffix == "Gi") return x * 1073741824;
  return text;
}

struct Expression::Node {
  std::string op;  // "" for a term: then `name` if it is not empty, else `constant`
  std::string name;
  Term constant;
  std::unique_ptr<Node> left, right;
};

class Expression::Parser {
 public:
  Parser(const std::string& text, std::vector<std::string>& names) : text_{text}, names_{names} { next(); }

  std::unique_ptr<Node> whole() {
    if (text_.size() > kMostCharacters)
      throw ExpressionError{fmt::format("'{}...': a condition has at most {} characters, not {}",
                                        text_.substr(0, 40), kMostCharacters, text_.size())};
    auto node = either();
    if (!token_.empty()) throw ExpressionError{fmt::format("'{}': '{}' was not expected", text_, token_)};
    return node;
  }

 private:
  using Ptr = std::unique_ptr<Node>;

  void next() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
    const std::size_t begin = at_;
    if (at_ == text_.size()) {
      token_.clear();
      return;
    }
    const char c = text_[at_];
    if (c == '\'' || c == '"') {
      const std::size_t end = text_.find(c, at_ + 1);
      if (end == std::string::npos) throw ExpressionError{fmt::format("'{}': a text has no end", text_)};
      at_ = end + 1;
    } else if (is_word(c)) {
      while (at_ < text_.size() && (is_word(text_[at_]) || is_exponent_sign(begin))) ++at_;
    } else {
      ++at_;
      if (std::string_view{"=!<>"}.find(c) != std::string_view::npos && at_ < text_.size() &&
          text_[at_] == '=')
        ++at_;
    }
    token_ = text_.substr(begin, at_ - begin);
  }
  static bool is_word(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.';
  }
  /// The sign in 1e-6.
  bool is_exponent_sign(std::size_t begin) const {
    return (text_[at_] == '-' || text_[at_] == '+') &&
           std::isdigit(static_cast<unsigned char>(text_[begin])) != 0 &&
           (text_[at_ - 1] == 'e' || text_[at_ - 1] == 'E');
  }

  template <class Inner>
  Ptr chain(const std::vector<std::string_view>& ops, Inner inner) {
    Ptr left = inner();
    while (std::find(ops.begin(), ops.end(), token_) != ops.end()) {
      auto node = std::make_unique<Node>();
      node->op = token_;
      next();
      node->left = std::move(left);
      node->right = inner();
      left = std::move(node);
    }
    return left;
  }
  Ptr either() {
    return chain({"or"}, [&] { return both(); });
  }
  Ptr both() {
    return chain({"and"}, [&] { return negated(); });
  }
  /// One step further in, for as long as it lives.
  class Deeper {
   public:
    explicit Deeper(Parser& parser) : parser_{parser} {
      if (++parser_.depth_ > kDeepest)
        throw ExpressionError{
            fmt::format("'{}...': nested more than {} deep", parser_.text_.substr(0, 40), kDeepest)};
    }
    ~Deeper() { --parser_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Parser& parser_;
  };
  Ptr negated() {
    if (token_ != "not") return compared();
    const Deeper deeper{*this};
    auto node = std::make_unique<Node>();
    node->op = "not";
    next();
    node->left = negated();
    return node;
  }
  Ptr compared() {
    return chain({"==", "!=", "<", "<=", ">", ">="}, [&] { return sum(); });
  }
  Ptr sum() {
    return chain({"+", "-"}, [&] { return product(); });
  }
  Ptr product() {
    return chain({"*", "/", "%"}, [&] { return term(); });
  }
  Ptr term() {
    if (token_.empty()) throw ExpressionError{fmt::format("'{}' ends where a value is expected", text_)};
    const Deeper deeper{*this};
    auto node = std::make_unique<Node>();
    if (token_ == "(") {
      next();
      node = either();
      if (token_ != ")") throw ExpressionError{fmt::format("'{}': a parenthesis is not closed", text_)};
      next();
      return node;
    }
    if (token_ == "-") {
      next();
      node->op = "-";
      node->left = std::make_unique<Node>();
      node->left->constant = 0.0;
      node->right = term();
      return node;
    }
    if (token_.front() == '\'' || token_.front() == '"') {
      node->constant = token_.substr(1, token_.size() - 2);
    } else if (!is_word(token_.front())) {
      throw ExpressionError{fmt::format("'{}': a value is expected, not '{}'", text_, token_)};
    } else {
      node->constant = term_of(token_);
      if (std::holds_alternative<std::string>(node->constant)) {
        node->name = token_;
        if (std::find(names_.begin(), names_.end(), token_) == names_.end()) names_.push_back(token_);
      }
    }
    next();
    return node;
  }

  const std::string& text_;
  std::vector<std::string>& names_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::string token_;
};

Expression::Expression(const std::string& text) : text_{text} { root_ = Parser{text_, names_}.whole(); }
Expression::~Expression() = default;
Expression::Expression(Expression&&) noexcept = default;
Expression& Expression::operator=(Expression&&) noexcept = default;

bool Expression::holds(const std::function<Term(const std::string&)>& value) const {
  const auto number = [&](const Term& t) {
    if (const auto* x = std::get_if<double>(&t)) return *x;
    throw ExpressionError{fmt::format("'{}': '{}' is no number", text_, std::get<std::string>(t))};
  };
  const std::function<Term(const Node&)> evaluate = [&](const Node& n) -> Term {
    if (n.op.empty()) return n.name.empty() ? n.constant : value(n.name);
    const auto truth = [](bool b) { return Term{b ? 1.0 : 0.0}; };
    if (n.op == "not") return truth(number(evaluate(*n.left)) == 0);
    const Term a = evaluate(*n.left);
    if (n.op == "or" && number(a) != 0) return truth(true);
    if (n.op == "and" && number(a) == 0) return truth(false);
    const Term b = evaluate(*n.right);
    if (n.op == "==") return truth(a == b);
    if (n.op == "!=") return truth(a != b);
    const double x = number(a), y = number(b);
    if (n.op == "or" || n.op == "and") return truth(y != 0);
    if (n.op == "<") return truth(x < y);
    if (n.op == "<=") return truth(x <= y);
    if (n.op == ">") return truth(x > y);
    if (n.op == ">=") return truth(x >= y);
    if (n.op == "+") return x + y;
    if (n.op == "-") return x - y;
    if (n.op == "*") return x * y;
    if (n.op == "/") return x / y;
    return std::fmod(x, y);
  };
  return number(evaluate(*root_)) != 0;
}

}  // namespace tessera::cli
