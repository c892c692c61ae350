#include "models/reference/linear_attention.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace tessera::models::reference {

namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// One head of some tokens, by index.
struct Head {
  const Recurrence& rule;
  const LinearShape& shape;
  const LinearTokens& in;
  std::int64_t head;

  double q(std::int64_t t, std::int64_t c) const {
    return in.q[at((t * shape.heads + head) * shape.k_dim + c)];
  }
  double k(std::int64_t t, std::int64_t c) const {
    return in.k[at((t * shape.heads + head) * shape.k_dim + c)];
  }
  double v(std::int64_t t, std::int64_t c) const {
    return in.v[at((t * shape.heads + head) * shape.v_dim + c)];
  }
  double beta(std::int64_t t) const { return rule.strength ? in.beta[at(t * shape.heads + head)] : 1.0; }
  double log_decay(std::int64_t t, std::int64_t c) const {
    switch (rule.decay) {
      case Decay::none:
        return 0;
      case Decay::constant:
        return in.log_decay[at(head)];
      case Decay::scalar:
        return in.log_decay[at(t * shape.heads + head)];
      case Decay::vector:
        return in.log_decay[at((t * shape.heads + head) * shape.k_dim + c)];
    }
    return 0;
  }
};

double scale_of(const LinearShape& shape) { return 1 / std::sqrt(static_cast<double>(shape.k_dim)); }

/// One token through S [k_dim, width]: S' = diag(a) S, then S' + k (b (value - S'^T k))^T. For a state map,
/// the columns of P take no value.
template <class Value>
void step(const Head& h, std::int64_t t, double* s, std::int64_t width, Value&& value) {
  const std::int64_t k_dim = h.shape.k_dim;
  for (std::int64_t c = 0; c < k_dim; ++c) {
    const double a = std::exp(h.log_decay(t, c));
    for (std::int64_t j = 0; j < width; ++j) s[c * width + j] *= a;
  }
  for (std::int64_t j = 0; j < width; ++j) {
    double seen = 0;
    if (h.rule.delta)
      for (std::int64_t c = 0; c < k_dim; ++c) seen += s[c * width + j] * h.k(t, c);
    const double d = h.beta(t) * (value(j) - seen);
    for (std::int64_t c = 0; c < k_dim; ++c) s[c * width + j] += h.k(t, c) * d;
  }
}

/// Tokens [first, first + n) of a head, from and to the state s.
void run_chunk(const Head& h, std::int64_t first, std::int64_t n, double* s, std::vector<double>& out) {
  const std::int64_t k_dim = h.shape.k_dim, v_dim = h.shape.v_dim;
  std::vector<double> g(at(n * k_dim));  // running sums of the log decay
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t c = 0; c < k_dim; ++c)
      g[at(i * k_dim + c)] = h.log_decay(first + i, c) + (i > 0 ? g[at((i - 1) * k_dim + c)] : 0);
  const auto decayed = [&](std::int64_t i, std::int64_t j, std::int64_t c) {
    return std::exp(g[at(i * k_dim + c)] - g[at(j * k_dim + c)]);
  };
  // U and W: the rows of diag(b) V and diag(b) (e^G K), less what earlier rows of the chunk have written.
  std::vector<double> u(at(n * v_dim)), w(at(n * k_dim));
  for (std::int64_t i = 0; i < n; ++i) {
    const double b = h.beta(first + i);
    for (std::int64_t j = 0; j < v_dim; ++j) u[at(i * v_dim + j)] = b * h.v(first + i, j);
    if (!h.rule.delta) continue;
    for (std::int64_t c = 0; c < k_dim; ++c)
      w[at(i * k_dim + c)] = b * std::exp(g[at(i * k_dim + c)]) * h.k(first + i, c);
    for (std::int64_t m = 0; m < i; ++m) {
      double a = 0;
      for (std::int64_t c = 0; c < k_dim; ++c) a += h.k(first + i, c) * h.k(first + m, c) * decayed(i, m, c);
      a *= b;
      for (std::int64_t j = 0; j < v_dim; ++j) u[at(i * v_dim + j)] -= a * u[at(m * v_dim + j)];
      for (std::int64_t c = 0; c < k_dim; ++c) w[at(i * k_dim + c)] -= a * w[at(m * k_dim + c)];
    }
  }
  // D = U - W S.
  for (std::int64_t i = 0; i < n && h.rule.delta; ++i)
    for (std::int64_t c = 0; c < k_dim; ++c)
      for (std::int64_t j = 0; j < v_dim; ++j)
        u[at(i * v_dim + j)] -= w[at(i * k_dim + c)] * s[c * v_dim + j];
  for (std::int64_t i = 0; i < n; ++i) {
    double* o = &out[at(((first + i) * h.shape.heads + h.head) * v_dim)];
    for (std::int64_t c = 0; c < k_dim; ++c) {
      const double q = h.q(first + i, c) * std::exp(g[at(i * k_dim + c)]);
      for (std::int64_t j = 0; j < v_dim; ++j) o[j] += q * s[c * v_dim + j];
    }
    for (std::int64_t m = 0; m <= i; ++m) {
      double score = 0;
      for (std::int64_t c = 0; c < k_dim; ++c)
        score += h.q(first + i, c) * h.k(first + m, c) * decayed(i, m, c);
      for (std::int64_t j = 0; j < v_dim; ++j) o[j] += score * u[at(m * v_dim + j)];
    }
    for (std::int64_t j = 0; j < v_dim; ++j) o[j] *= scale_of(h.shape);
  }
  for (std::int64_t c = 0; c < k_dim; ++c) {
    const double a = std::exp(g[at((n - 1) * k_dim + c)]);
    for (std::int64_t j = 0; j < v_dim; ++j) {
      double sum = a * s[c * v_dim + j];
      for (std::int64_t i = 0; i < n; ++i)
        sum += h.k(first + i, c) * decayed(n - 1, i, c) * u[at(i * v_dim + j)];
      s[c * v_dim + j] = sum;
    }
  }
}

/// [rows, in] times [out, in]^T.
std::vector<double> linear(const std::vector<double>& x, const std::vector<double>& w,
                           std::int64_t in_width) {
  const std::int64_t rows = std::ssize(x) / in_width, width = std::ssize(w) / in_width;
  std::vector<double> y(at(rows * width));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t o = 0; o < width; ++o)
      y[at(r * width + o)] = std::inner_product(x.begin() + r * in_width, x.begin() + (r + 1) * in_width,
                                                w.begin() + o * in_width, 0.0);
  return y;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

/// Of each `width` values: x / sqrt(sum x^2 + eps), or with `mean` x / sqrt(mean x^2 + eps).
void normalise(std::vector<double>& x, std::int64_t width, bool mean) {
  constexpr double kEpsilon = 1e-6;
  for (auto row = x.begin(); row != x.end(); row += width) {
    const double sum = std::inner_product(row, row + width, row, 0.0);
    const double by = 1 / std::sqrt((mean ? sum / static_cast<double>(width) : sum) + kEpsilon);
    std::transform(row, row + width, row, [by](double v) { return v * by; });
  }
}

}  // namespace

LinearResult recurrent(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                       const std::vector<double>& state) {
  LinearResult r{std::vector<double>(at(in.tokens * shape.heads * shape.v_dim)), state};
  for (std::int64_t head = 0; head < shape.heads; ++head) {
    const Head h{rule, shape, in, head};
    double* s = r.state.data() + head * shape.k_dim * shape.v_dim;
    for (std::int64_t t = 0; t < in.tokens; ++t) {
      step(h, t, s, shape.v_dim, [&](std::int64_t j) { return h.v(t, j); });
      double* o = &r.out[at((t * shape.heads + head) * shape.v_dim)];
      for (std::int64_t c = 0; c < shape.k_dim; ++c)
        for (std::int64_t j = 0; j < shape.v_dim; ++j)
          o[j] += scale_of(shape) * h.q(t, c) * s[c * shape.v_dim + j];
    }
  }
  return r;
}

LinearResult chunkwise(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                       const std::vector<double>& state, std::int64_t chunk) {
  LinearResult r{std::vector<double>(at(in.tokens * shape.heads * shape.v_dim)), state};
  for (std::int64_t head = 0; head < shape.heads; ++head) {
    const Head h{rule, shape, in, head};
    for (std::int64_t first = 0; first < in.tokens; first += chunk)
      run_chunk(h, first, std::min(chunk, in.tokens - first),
                r.state.data() + head * shape.k_dim * shape.v_dim, r.out);
  }
  return r;
}

StateMap state_map(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in) {
  const std::int64_t k = shape.k_dim;
  StateMap map{std::vector<double>(at(shape.heads * k * k)), std::vector<double>(at(shape.state_values()))};
  for (std::int64_t head = 0; head < shape.heads; ++head) {
    const Head h{rule, shape, in, head};
    double* p = map.p.data() + head * k * k;
    for (std::int64_t c = 0; c < k; ++c) p[c * k + c] = 1;
    for (std::int64_t t = 0; t < in.tokens; ++t) {
      step(h, t, p, k, [](std::int64_t) { return 0.0; });
      step(h, t, map.q.data() + head * k * shape.v_dim, shape.v_dim,
           [&](std::int64_t j) { return h.v(t, j); });
    }
  }
  return map;
}

std::vector<double> apply(const LinearShape& shape, const StateMap& map, const std::vector<double>& state) {
  const std::int64_t k = shape.k_dim, v = shape.v_dim;
  std::vector<double> s = map.q;
  for (std::int64_t h = 0; h < shape.heads; ++h)
    for (std::int64_t i = 0; i < k; ++i)
      for (std::int64_t c = 0; c < k; ++c)
        for (std::int64_t j = 0; j < v; ++j)
          s[at((h * k + i) * v + j)] += map.p[at((h * k + i) * k + c)] * state[at((h * k + c) * v + j)];
  return s;
}

StateMap then(const LinearShape& shape, const StateMap& first, const StateMap& second) {
  const LinearShape square{shape.heads, shape.k_dim, shape.k_dim};
  const StateMap only_p{second.p, std::vector<double>(second.p.size())};
  return {apply(square, only_p, first.p), apply(shape, second, first.q)};
}

LinearTokens slice_tokens(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                          std::int64_t first, std::int64_t count) {
  const auto rows = [&](const std::vector<double>& x, std::int64_t width) {
    return x.empty() ? x
                     : std::vector<double>(x.begin() + first * width, x.begin() + (first + count) * width);
  };
  const bool per_token = rule.decay == Decay::scalar || rule.decay == Decay::vector;
  return {count,
          rows(in.q, shape.heads * shape.k_dim),
          rows(in.k, shape.heads * shape.k_dim),
          rows(in.v, shape.heads * shape.v_dim),
          per_token ? rows(in.log_decay, shape.heads * (rule.decay == Decay::vector ? shape.k_dim : 1))
                    : in.log_decay,
          rows(in.beta, shape.heads)};
}

LinearTokens slice_heads(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                         std::int64_t first, std::int64_t count) {
  const auto columns = [&](const std::vector<double>& x, std::int64_t width) {
    std::vector<double> y;
    for (auto row = x.begin(); row != x.end(); row += shape.heads * width)
      y.insert(y.end(), row + first * width, row + (first + count) * width);
    return y;
  };
  return {in.tokens,
          columns(in.q, shape.k_dim),
          columns(in.k, shape.k_dim),
          columns(in.v, shape.v_dim),
          columns(in.log_decay, rule.decay == Decay::vector ? shape.k_dim : 1),
          columns(in.beta, 1)};
}

LinearResult segmented(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                       const std::vector<double>& state, const std::vector<std::int64_t>& lengths,
                       std::int64_t chunk) {
  if (std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}) != in.tokens)
    throw std::invalid_argument{"segments do not add up to the tokens"};
  // Every node: the map of its own segment.
  std::vector<LinearTokens> segments;
  std::vector<StateMap> maps;
  std::int64_t first = 0;
  for (const std::int64_t n : lengths) {
    segments.push_back(slice_tokens(rule, shape, in, first, n));
    maps.push_back(state_map(rule, shape, segments.back()));
    first += n;
  }
  // The scan: in log2(segments) rounds, each map takes in that of 1, 2, 4, ... segments before it.
  for (std::size_t reach = 1; reach < maps.size(); reach *= 2)
    for (std::size_t i = maps.size(); i-- > reach;) maps[i] = then(shape, maps[i - reach], maps[i]);
  LinearResult whole{{}, state};
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const std::vector<double> incoming = i == 0 ? state : apply(shape, maps[i - 1], state);
    LinearResult r = chunkwise(rule, shape, segments[i], incoming, chunk);
    whole.out.insert(whole.out.end(), r.out.begin(), r.out.end());
    whole.state = std::move(r.state);
  }
  return whole;
}

LinearResult head_split(const Recurrence& rule, const LinearShape& shape, const LinearTokens& in,
                        const std::vector<double>& state, const std::vector<std::int64_t>& groups,
                        std::int64_t chunk) {
  if (std::accumulate(groups.begin(), groups.end(), std::int64_t{0}) != shape.heads)
    throw std::invalid_argument{"groups do not add up to the heads"};
  LinearResult whole{std::vector<double>(at(in.tokens * shape.heads * shape.v_dim)), {}};
  std::int64_t first = 0;
  for (const std::int64_t n : groups) {
    const LinearShape part{n, shape.k_dim, shape.v_dim};
    const auto begin = state.begin() + first * shape.k_dim * shape.v_dim;
    const LinearResult r = chunkwise(rule, part, slice_heads(rule, shape, in, first, n),
                                     {begin, begin + part.state_values()}, chunk);
    whole.state.insert(whole.state.end(), r.state.begin(), r.state.end());
    for (std::int64_t t = 0; t < in.tokens; ++t)
      std::copy_n(r.out.begin() + t * n * shape.v_dim, n * shape.v_dim,
                  whole.out.begin() + (t * shape.heads + first) * shape.v_dim);
    first += n;
  }
  return whole;
}

std::vector<double> causal_conv1d(std::int64_t channels, std::int64_t taps, const std::vector<double>& x,
                                  const std::vector<double>& weights, std::vector<double>& before) {
  std::vector<double> all = before;
  all.insert(all.end(), x.begin(), x.end());
  std::vector<double> y(x.size());
  for (std::int64_t t = 0; t < std::ssize(x) / channels; ++t)
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t j = 0; j < taps; ++j)
        y[at(t * channels + c)] += weights[at(c * taps + j)] * all[at((t + j) * channels + c)];
  before.assign(all.end() - (taps - 1) * channels, all.end());
  return y;
}

KdaState empty_state(const KdaWeights& w, std::int64_t heads) {
  if (heads == 0) heads = w.heads;
  const std::vector<double> none(at((w.taps - 1) * heads * w.head_dim));
  return {std::vector<double>(at(heads * w.head_dim * w.head_dim)), none, none, none};
}

KdaRows kda_rows(const KdaWeights& w, const std::vector<double>& hidden_states) {
  const auto project = [&](const std::vector<double>& weights) {
    return linear(hidden_states, weights, w.hidden);
  };
  KdaRows rows{project(w.q), project(w.k), project(w.v), linear(project(w.decay_down), w.decay_up, w.rank),
               project(w.beta)};
  for (double& b : rows.beta) b = sigmoid(b);
  return rows;
}

LinearTokens kda_tokens(const KdaWeights& w, std::int64_t first, std::int64_t count, const KdaRows& rows,
                        KdaState& state) {
  const std::int64_t width = count * w.head_dim, from = first * w.head_dim;
  const auto path = [&](const std::vector<double>& x, const std::vector<double>& conv,
                        std::vector<double>& before) {
    const std::vector<double> mine(conv.begin() + from * w.taps, conv.begin() + (from + width) * w.taps);
    std::vector<double> y = causal_conv1d(width, w.taps, x, mine, before);
    for (double& value : y) value *= sigmoid(value);
    return y;
  };
  LinearTokens in{.tokens = std::ssize(rows.q) / width,
                  .q = path(rows.q, w.conv_q, state.conv_q),
                  .k = path(rows.k, w.conv_k, state.conv_k),
                  .v = path(rows.v, w.conv_v, state.conv_v),
                  .log_decay = rows.decay,
                  .beta = rows.beta};
  normalise(in.q, w.head_dim, false);
  normalise(in.k, w.head_dim, false);
  for (std::int64_t i = 0; i < std::ssize(in.log_decay); ++i) {
    double& g = in.log_decay[at(i)];
    const std::int64_t channel = from + i % width;
    g = -std::exp(w.a_log[at(channel / w.head_dim)]) * softplus(g + w.dt_bias[at(channel)]);
  }
  return in;
}

std::vector<double> kda_heads(const KdaWeights& w, std::int64_t first, std::int64_t count,
                              const KdaRows& rows, KdaState& state, std::int64_t chunk) {
  const LinearTokens in = kda_tokens(w, first, count, rows, state);
  const LinearShape shape{count, w.head_dim, w.head_dim};
  LinearResult r =
      chunk == 0 ? recurrent(kKda, shape, in, state.state) : chunkwise(kKda, shape, in, state.state, chunk);
  state.state = std::move(r.state);
  return r.out;
}

std::vector<double> kda_finish(const KdaWeights& w, const std::vector<double>& hidden_states,
                               std::vector<double> out) {
  normalise(out, w.head_dim, true);
  const std::vector<double> gate = linear(linear(hidden_states, w.gate_down, w.hidden), w.gate_up, w.rank);
  for (std::int64_t i = 0; i < std::ssize(out); ++i)
    out[at(i)] *= w.norm[at(i % w.head_dim)] * sigmoid(gate[at(i)]);
  return linear(out, w.out, w.heads * w.head_dim);
}

std::vector<double> kda_block(const KdaWeights& w, const std::vector<double>& hidden_states, KdaState& state,
                              std::int64_t chunk) {
  return kda_finish(w, hidden_states, kda_heads(w, 0, w.heads, kda_rows(w, hidden_states), state, chunk));
}

}  // namespace tessera::models::reference
