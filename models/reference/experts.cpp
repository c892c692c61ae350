#include "models/reference/experts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace tessera::models::reference {

namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

std::vector<double> scores_of(RouterScore kind, const double* logits, std::size_t experts) {
  std::vector<double> s(logits, logits + experts);
  if (kind == RouterScore::sigmoid) {
    for (double& v : s) v = 1 / (1 + std::exp(-v));
    return s;
  }
  const double most = *std::max_element(s.begin(), s.end());
  double sum = 0;
  for (double& v : s) sum += v = std::exp(v - most);
  for (double& v : s) v /= sum;
  return s;
}

/// The indices of the `count` greatest, the best first.
std::vector<std::size_t> best(const std::vector<double>& values, std::size_t count) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return values[a] > values[b]; });
  order.resize(count);
  return order;
}

/// Adds weight * e(x) of one row to `out`.
void add_expert(const Expert& e, const double* x, std::int64_t hidden, double weight, double* out) {
  const std::size_t h = at(hidden), width = e.gate.size() / h;
  std::vector<double> middle(width);
  for (std::size_t i = 0; i < width; ++i) {
    const double g = std::inner_product(x, x + h, e.gate.begin() + static_cast<std::ptrdiff_t>(i * h), 0.0);
    const double u = std::inner_product(x, x + h, e.up.begin() + static_cast<std::ptrdiff_t>(i * h), 0.0);
    middle[i] = g / (1 + std::exp(-g)) * u;
  }
  for (std::size_t o = 0; o < h; ++o) {
    out[o] += weight * std::inner_product(middle.begin(), middle.end(),
                                          e.down.begin() + static_cast<std::ptrdiff_t>(o * width), 0.0);
  }
}

}  // namespace

Choices route(const RouterRule& rule, const std::vector<double>& logits, std::int64_t experts) {
  const std::int64_t each = rule.groups > 0 ? experts / rule.groups : 0;
  if (rule.groups <= 0 || experts % rule.groups != 0 || rule.kept_groups > rule.groups || rule.topk <= 0 ||
      rule.topk > rule.kept_groups * each) {
    throw std::invalid_argument{fmt::format("router: {} of {} experts in {} of {} groups", rule.topk, experts,
                                            rule.kept_groups, rule.groups)};
  }
  if (!rule.bias.empty() && rule.bias.size() != at(experts))
    throw std::invalid_argument{fmt::format("router: {} biases for {} experts", rule.bias.size(), experts)};
  Choices choices;
  for (std::size_t row = 0; row * at(experts) < logits.size(); ++row) {
    const std::vector<double> s = scores_of(rule.score, logits.data() + row * at(experts), at(experts));
    std::vector<double> selected_by = s;
    for (std::size_t e = 0; e < rule.bias.size(); ++e) selected_by[e] += rule.bias[e];
    if (rule.kept_groups < rule.groups) {
      std::vector<double> group_scores;
      for (std::int64_t g = 0; g < rule.groups; ++g) {
        const auto first = selected_by.begin() + g * each;
        std::vector<double> here(first, first + each);
        std::sort(here.begin(), here.end(), std::greater<>{});
        group_scores.push_back(here[0] + (rule.two_best && each > 1 ? here[1] : 0));
      }
      std::vector<bool> kept(at(rule.groups), false);
      for (const std::size_t g : best(group_scores, at(rule.kept_groups))) kept[g] = true;
      for (std::size_t e = 0; e < selected_by.size(); ++e) {
        if (!kept[e / at(each)]) selected_by[e] = -std::numeric_limits<double>::infinity();
      }
    }
    double sum = 0;
    const std::vector<std::size_t> chosen = best(selected_by, at(rule.topk));
    for (const std::size_t e : chosen) sum += s[e];
    for (const std::size_t e : chosen) {
      choices.experts.push_back(static_cast<std::int32_t>(e));
      choices.weights.push_back(s[e] / (rule.renormalise ? sum : 1) * rule.scale);
    }
  }
  return choices;
}

std::vector<double> expert(const Expert& e, const std::vector<double>& x, std::int64_t hidden) {
  std::vector<double> out(x.size(), 0.0);
  for (std::size_t row = 0; row < x.size(); row += at(hidden))
    add_expert(e, x.data() + row, hidden, 1, out.data() + row);
  return out;
}

std::vector<double> mixture(const std::vector<Expert>& routed, const std::vector<Expert>& shared,
                            const Choices& choices, std::int64_t topk, const std::vector<double>& x,
                            std::int64_t hidden) {
  std::vector<double> out(x.size(), 0.0);
  for (std::size_t t = 0; t < x.size() / at(hidden); ++t) {
    const double* row = x.data() + t * at(hidden);
    for (std::size_t i = t * at(topk); i < (t + 1) * at(topk); ++i)
      add_expert(routed[at(choices.experts[i])], row, hidden, choices.weights[i],
                 out.data() + t * at(hidden));
    for (const Expert& e : shared) add_expert(e, row, hidden, 1, out.data() + t * at(hidden));
  }
  return out;
}

std::vector<double> mixture_on_nodes(const std::vector<Expert>& routed, const std::vector<Expert>& shared,
                                     const Choices& choices, std::int64_t topk, const std::vector<double>& x,
                                     std::int64_t hidden,
                                     const std::vector<std::vector<std::int32_t>>& tokens_of,
                                     const std::vector<std::int64_t>& first_expert) {
  struct Sent {
    std::int32_t token;
    std::vector<double> row;
    std::vector<std::pair<std::int32_t, double>> here;  // experts of the receiver, and weights
  };
  const std::size_t nodes = tokens_of.size();
  std::vector<double> out(x.size(), 0.0);
  std::vector<std::vector<Sent>> inbox(nodes);
  for (std::size_t owner = 0; owner < nodes; ++owner) {
    for (const std::int32_t token : tokens_of[owner]) {
      const auto row = x.begin() + token * hidden;
      for (std::size_t node = 0; node < nodes; ++node) {
        Sent sent{token, {}, {}};
        for (std::size_t i = at(token * topk); i < at((token + 1) * topk); ++i) {
          const std::int32_t e = choices.experts[i];
          if (e >= first_expert[node] && e < first_expert[node + 1])
            sent.here.emplace_back(e, choices.weights[i]);
        }
        if (sent.here.empty()) continue;
        sent.row.assign(row, row + hidden);
        inbox[node].push_back(std::move(sent));
      }
      for (const Expert& e : shared) add_expert(e, &*row, hidden, 1, out.data() + token * hidden);
    }
  }
  for (std::size_t node = 0; node < nodes; ++node) {
    for (const Sent& sent : inbox[node]) {
      std::vector<double> part(at(hidden), 0.0);
      for (const auto& [e, weight] : sent.here)
        add_expert(routed[at(e)], sent.row.data(), hidden, weight, part.data());
      for (std::size_t o = 0; o < part.size(); ++o) out[at(sent.token * hidden) + o] += part[o];
    }
  }
  return out;
}

Expert slice(const Expert& e, std::int64_t hidden, std::int64_t first, std::int64_t last) {
  const std::size_t width = e.gate.size() / at(hidden);
  Expert part;
  part.gate.assign(e.gate.begin() + first * hidden, e.gate.begin() + last * hidden);
  part.up.assign(e.up.begin() + first * hidden, e.up.begin() + last * hidden);
  for (std::size_t o = 0; o < at(hidden); ++o) {
    const auto row = e.down.begin() + static_cast<std::ptrdiff_t>(o * width);
    part.down.insert(part.down.end(), row + first, row + last);
  }
  return part;
}

}  // namespace tessera::models::reference
