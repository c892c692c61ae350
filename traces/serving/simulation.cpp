#include "traces/serving/simulation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace tessera::traces {

namespace {

std::int64_t ns_of(double us) { return std::llround(us * 1e3); }

void require(bool good, const std::string& message) {
  if (!good) throw std::invalid_argument{message};
}

}  // namespace

Simulation::Simulation(const Deployment& deployment, StepTime& step_time, const Objective& objective)
    : d_{deployment}, step_time_{step_time}, objective_{objective} {
  const ServingSpec& s = d_.spec;
  require(s.replicas >= 1, "replicas: there must be one at least");
  require(s.prefill_replicas >= 0 && (s.prefill_replicas == 0 || s.prefill_replicas < s.replicas),
          fmt::format("prefill_replicas: {} of {} replicas leave none to decode", s.prefill_replicas,
                      s.replicas));
  require(s.max_batched_tokens >= 1 && s.max_sequences >= 1,
          "a step must have room for a token and a sequence");
  require(s.page_tokens >= 1, "page_tokens: must be positive");
  require(d_.block_tokens % s.page_tokens == 0,
          fmt::format("page_tokens: the trace's blocks of {} tokens are not whole pages of {}",
                      d_.block_tokens, s.page_tokens));
  require(d_.memory.capacity_bytes > 0, "the model leaves no memory for caches");
  for (std::int64_t i = 0; i < s.replicas; ++i) {
    Instance& made = instances_.emplace_back(d_.memory.capacity_bytes);
    if (s.prefill_replicas > 0) {
      made.prefills = i < s.prefill_replicas;
      made.decodes = !made.prefills;
    }
    made.report.role = !made.decodes ? "prefill" : !made.prefills ? "decode" : "serve";
  }
}

void Simulation::push(std::int64_t at_ns, What what, std::uint32_t of) {
  events_.push({at_ns, order_++, what, of});
}

/// Before anything changes: what was so far held until now.
void Simulation::account(std::int64_t now_ns) {
  now_ns_ = now_ns;
  report_.waiting.hold(now_ns, static_cast<double>(waiting_));
  report_.running.hold(now_ns, static_cast<double>(running_));
  report_.memory.hold(now_ns, static_cast<double>(held_) / static_cast<double>(d_.memory.capacity_bytes) /
                                  static_cast<double>(instances_.size()));
}

/// What the instance's sequences hold, after it may have changed.
void Simulation::measure(Instance& i) {
  i.held_area += static_cast<double>(i.held_bytes) * static_cast<double>(now_ns_ - i.last_ns);
  i.last_ns = now_ns_;
  held_ += i.memory.held() - i.held_bytes;
  i.held_bytes = i.memory.held();
  i.report.memory_most = std::max(
      i.report.memory_most, static_cast<double>(i.held_bytes) / static_cast<double>(i.memory.capacity()));
}

void Simulation::tell_state(std::uint32_t instance) {
  if (observer_ == nullptr) return;
  const Instance& i = instances_[instance];
  observer_->state(
      instance, now_ns_,
      {.waiting = static_cast<std::int64_t>(i.waiting.size() + i.incoming.size()) + i.on_wire,
       .running = static_cast<std::int64_t>(i.running.size()),
       .memory_held = static_cast<double>(i.memory.held()) / static_cast<double>(i.memory.capacity())});
}

ServingReport Simulation::run(const NextRequest& next, std::int64_t stop_ns, const RecordSink& record) {
  record_ = record;
  Request request;
  bool more = next(request);
  for (;;) {
    const bool arrival = more && (events_.empty() || request.arrival_ns <= events_.top().at_ns);
    if (!arrival && events_.empty()) break;
    const std::int64_t at = arrival ? request.arrival_ns : events_.top().at_ns;
    if (at > stop_ns) {
      account(stop_ns);
      break;
    }
    account(at);
    if (arrival) {
      const Id id = arrive(request);
      if (id != UINT32_MAX)
        push(at + ns_of(d_.spec.tokenize_us_per_token * static_cast<double>(request.input_tokens)),
             What::queue, id);
      more = next(request);
      continue;
    }
    const Event event = events_.top();
    events_.pop();
    switch (event.what) {
      case What::queue:
        queue(event.of);
        break;
      case What::step:
        end_step(event.of);
        break;
      case What::handed_over:
        handed_over(event.of);
    }
  }
  for (Id id = 0; id < sequences_.size(); ++id) {
    const RequestRecord& r = sequences_[id].record;
    if (r.line >= 0) end(id, r.started_ns < 0 ? Fate::still_waiting : Fate::still_running);
  }
  report_.end_ns = now_ns_;
  for (Instance& i : instances_) {
    i.held_area += static_cast<double>(i.held_bytes) * static_cast<double>(now_ns_ - i.last_ns);
    i.report.memory_mean =
        now_ns_ > 0 ? i.held_area / static_cast<double>(now_ns_) / static_cast<double>(i.memory.capacity())
                    : 0;
    i.report.evicted_blocks = i.memory.evicted();
    report_.instances.push_back(i.report);
  }
  return std::move(report_);
}

/// The sequence of a new request; UINT32_MAX if it was rejected.
Simulation::Id Simulation::arrive(Request& request) {
  ++report_.arrived;
  Id id = static_cast<Id>(sequences_.size());
  if (free_.empty()) {
    sequences_.emplace_back();
  } else {
    id = free_.back();
    free_.pop_back();
  }
  Sequence& s = sequences_[id];
  s = {.record = {.line = request.line,
                  .arrival_ns = request.arrival_ns,
                  .input_tokens = request.input_tokens,
                  .output_tokens = request.output_tokens},
       .blocks = std::move(s.blocks)};
  s.blocks.clear();
  if (d_.spec.prefix_cache && d_.block_tokens > 0) {
    const auto whole = static_cast<std::size_t>(request.input_tokens / d_.block_tokens);
    s.blocks.assign(request.blocks.begin(), request.blocks.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                                         whole, request.blocks.size())));
  }
  const std::int64_t tokens = request.input_tokens + request.output_tokens;
  Fate fate = Fate::finished;
  if (request.output_tokens == 0) {
    fate = Fate::no_output;
  } else if (d_.max_tokens > 0 && tokens > d_.max_tokens) {
    fate = Fate::too_long;
  } else if (bytes_for(s, tokens) > d_.memory.capacity_bytes) {
    fate = Fate::no_memory;
  }
  if (fate == Fate::finished) return id;
  end(id, fate);
  return UINT32_MAX;
}

std::int64_t Simulation::bytes_for(const Sequence& s, std::int64_t tokens) const {
  const std::int64_t own = tokens - static_cast<std::int64_t>(s.used_blocks) * d_.block_tokens;
  const std::int64_t pages = (own + d_.spec.page_tokens - 1) / d_.spec.page_tokens;
  return std::max<std::int64_t>(0, pages) * d_.spec.page_tokens * d_.memory.token_bytes +
         d_.memory.state_bytes;
}

bool Simulation::hold(Instance& i, Sequence& s, std::int64_t tokens) {
  const std::int64_t more = bytes_for(s, tokens) - s.held_bytes;
  if (more <= 0) return true;
  if (!i.memory.take(more)) return false;
  s.held_bytes += more;
  return true;
}

std::uint32_t Simulation::route(const Sequence& s) {
  const auto eligible =
      static_cast<std::uint32_t>(d_.spec.prefill_replicas > 0 ? d_.spec.prefill_replicas : d_.spec.replicas);
  if (d_.spec.routing == Routing::round_robin) return turn_++ % eligible;
  std::uint32_t best = 0;
  std::int64_t least = INT64_MAX;
  for (std::uint32_t n = 0; n < eligible; ++n) {
    const Instance& i = instances_[n];
    std::int64_t load = i.unfinished;
    if (d_.spec.routing == Routing::least_prefill) {
      load = i.prompt_tokens + s.record.input_tokens -
             static_cast<std::int64_t>(cached_blocks(i, s)) * d_.block_tokens;
    }
    // Equal ones: who has had the fewest.
    if (load < least || (load == least && i.report.requests < instances_[best].report.requests)) {
      least = load;
      best = n;
    }
  }
  return best;
}

void Simulation::queue(Id id) {
  Sequence& s = sequences_[id];
  const std::uint32_t to = route(s);
  Instance& i = instances_[to];
  s.instance = to;
  s.record.instance = static_cast<std::int32_t>(to);
  if (d_.spec.max_waiting > 0 && static_cast<std::int64_t>(i.waiting.size()) >= d_.spec.max_waiting) {
    end(id, Fate::queue_full);
    return;
  }
  ++i.report.requests;
  ++i.unfinished;
  i.prompt_tokens += s.record.input_tokens;
  i.waiting.push_back(id);
  ++waiting_;
  kick(to);
  tell_state(to);
}

/// Begins a step if the instance is idle and has something to do.
void Simulation::kick(std::uint32_t instance) {
  Instance& i = instances_[instance];
  if (i.busy || !fill_batch(i)) return;
  StepShape shape;
  for (const Piece& p : i.batch) {
    const Sequence& s = sequences_[p.id];
    if (s.computed >= s.record.input_tokens && s.missing() == 1) {
      ++shape.sequences;
      shape.context_tokens += s.computed + 1;
    } else {
      shape.prefill_tokens += p.tokens;
      shape.prefill_pairs += static_cast<double>(p.tokens) *
                             (static_cast<double>(s.computed) + 0.5 * static_cast<double>(p.tokens));
    }
  }
  if (observer_ != nullptr) observer_->before_step(instance, now_ns_);
  const std::int64_t gpu = step_time_.ns(shape, instance);
  const std::int64_t host =
      ns_of(d_.spec.step_us + d_.spec.sequence_us * static_cast<double>(i.batch.size()));
  const std::int64_t length = std::max<std::int64_t>(1, d_.spec.overlap ? std::max(gpu, host) : gpu + host);
  i.busy = true;
  ++i.report.steps;
  i.report.busy_ns += length;
  i.report.gpu_ns += gpu;
  i.report.prefilled_tokens += shape.prefill_tokens;
  i.report.decoded_tokens += shape.sequences;
  measure(i);
  push(now_ns_ + length, What::step, instance);
  if (observer_ == nullptr) return;
  observer_->step(instance, {.start_ns = now_ns_,
                             .end_ns = now_ns_ + length,
                             .gpu_ns = gpu,
                             .prefill_tokens = shape.prefill_tokens,
                             .decoded_tokens = shape.sequences});
}

bool Simulation::fill_batch(Instance& i) {
  i.batch.clear();
  std::int64_t budget = d_.spec.max_batched_tokens;
  bool preempted = false;
  for (std::size_t n = 0; n < i.running.size() && budget > 0; ++n) {
    const Id id = i.running[n];
    Sequence& s = sequences_[id];
    const std::int64_t tokens = std::min(s.missing(), budget);
    bool held = hold(i, s, s.computed + tokens);
    while (!held) {
      preempted = true;
      const bool itself = i.running.back() == id;
      preempt(i);
      if (itself) break;
      held = hold(i, s, s.computed + tokens);
    }
    if (!held) break;
    i.batch.push_back({id, tokens});
    budget -= tokens;
  }
  // Whoever was just put back should not come in again for the room that was lacking.
  while (!preempted && !i.waiting.empty() && budget > 0 &&
         static_cast<std::int64_t>(i.running.size()) + i.on_wire < d_.spec.max_sequences) {
    const Id id = i.waiting.front();
    if (!admit(i, id)) break;
    i.waiting.pop_front();
    const std::int64_t tokens = std::min(sequences_[id].missing(), budget);
    i.batch.push_back({id, tokens});
    budget -= tokens;
  }
  return !i.batch.empty();
}

/// Of the sequence's prompt, in the instance. One token at least is computed: that whose successor is asked
/// for.
std::size_t Simulation::cached_blocks(const Instance& i, const Sequence& s) const {
  if (s.blocks.empty()) return 0;
  const std::int64_t most = (s.record.input_tokens + s.record.produced - 1) / d_.block_tokens;
  return i.memory.match(s.blocks, static_cast<std::size_t>(most), d_.memory.state_bytes > 0);
}

/// From the queue to the running ones: what of its prompt is cached, and memory for all the rest of it.
bool Simulation::admit(Instance& i, Id id) {
  Sequence& s = sequences_[id];
  const std::size_t cached = cached_blocks(i, s);
  while (s.used_blocks < cached) i.memory.use(s.blocks[s.used_blocks++]);
  if (!hold(i, s, s.record.input_tokens + s.record.produced)) {
    while (s.used_blocks > 0) i.memory.release(s.blocks[--s.used_blocks]);
    return false;
  }
  s.computed = static_cast<std::int64_t>(cached) * d_.block_tokens;
  if (s.record.started_ns < 0) {
    s.record.started_ns = now_ns_;
    s.record.cached_tokens = s.computed;
    report_.queue.add(now_ns_ - s.record.arrival_ns);
    report_.input_tokens += s.record.input_tokens;
    report_.cached_tokens += s.computed;
  }
  if (s.record.produced == 0) i.prompt_tokens -= s.computed;
  i.running.push_back(id);
  --waiting_;
  ++running_;
  return true;
}

/// Gives back all that the sequence has in the instance's memory; its blocks from the last on, so that the
/// beginnings of prompts are evicted last.
void Simulation::drop(Instance& i, Sequence& s) {
  while (s.used_blocks > 0) i.memory.release(s.blocks[--s.used_blocks]);
  i.memory.give_back(s.held_bytes);
  s.held_bytes = 0;
}

/// The one admitted last goes back to the front of the queue, to be computed again.
void Simulation::preempt(Instance& i) {
  const Id id = i.running.back();
  Sequence& s = sequences_[id];
  i.running.pop_back();
  drop(i, s);
  if (s.record.produced == 0) i.prompt_tokens += s.computed;
  s.computed = 0;
  ++s.record.preemptions;
  ++i.report.preemptions;
  i.waiting.push_front(id);
  ++waiting_;
  --running_;
}

/// Blocks of the prompt that are computed now become everyone's.
void Simulation::publish(Instance& i, Sequence& s) {
  const std::int64_t bytes = d_.block_tokens * d_.memory.token_bytes;
  while (s.used_blocks < s.blocks.size() &&
         static_cast<std::int64_t>(s.used_blocks + 1) * d_.block_tokens <= s.computed) {
    const std::uint64_t name = s.blocks[s.used_blocks++];
    s.held_bytes -= bytes;
    i.memory.publish(name, bytes);
    const std::int64_t tokens = static_cast<std::int64_t>(s.used_blocks) * d_.block_tokens;
    const bool kept = s.used_blocks == s.blocks.size() || tokens % d_.spec.snapshot_tokens == 0;
    if (d_.memory.state_bytes > 0 && kept) i.memory.keep_state(name, d_.memory.state_bytes);
  }
}

void Simulation::produce(Sequence& s) {
  RequestRecord& r = s.record;
  if (r.produced++ == 0) {
    r.first_token_ns = now_ns_;
    report_.ttft.add(now_ns_ - r.arrival_ns);
  } else {
    report_.itl.add(now_ns_ - r.last_token_ns);
  }
  r.last_token_ns = now_ns_;
  ++report_.output_tokens;
}

void Simulation::end_step(std::uint32_t instance) {
  Instance& i = instances_[instance];
  i.busy = false;
  bool leave = false;
  for (const Piece& p : i.batch) {
    Sequence& s = sequences_[p.id];
    if (s.record.produced == 0) i.prompt_tokens -= p.tokens;
    s.computed += p.tokens;
    if (i.prefills) publish(i, s);
    if (s.missing() > 0) continue;
    produce(s);
    leave = leave || s.record.produced == s.record.output_tokens || !i.decodes;
  }
  if (leave) {
    // In place, in order: those that go on stay.
    std::size_t kept = 0;
    for (const Id id : i.running) {
      Sequence& s = sequences_[id];
      const bool done = s.record.produced == s.record.output_tokens;
      if (!done && (i.decodes || s.missing() != 1 || s.record.produced == 0)) {
        i.running[kept++] = id;
        continue;
      }
      --running_;
      if (done) {
        drop(i, s);
        --i.unfinished;
        end(id, Fate::finished);
      } else {
        hand_over(id);
      }
    }
    i.running.resize(kept);
  }
  if (!i.incoming.empty()) take_incoming(instance);
  measure(i);
  kick(instance);
  tell_state(instance);
}

/// A prefilled sequence to the decoding instance with the fewest unfinished requests.
void Simulation::hand_over(Id id) {
  std::uint32_t best = static_cast<std::uint32_t>(d_.spec.prefill_replicas);
  for (std::uint32_t n = best + 1; n < instances_.size(); ++n) {
    if (instances_[n].unfinished < instances_[best].unfinished) best = n;
  }
  ++instances_[best].unfinished;
  ++instances_[best].report.requests;
  instances_[best].incoming.push_back(id);
  ++waiting_;
  take_incoming(best);
  tell_state(best);
}

/// Begins to hand over what the instance has room for.
void Simulation::take_incoming(std::uint32_t instance) {
  Instance& to = instances_[instance];
  while (!to.incoming.empty() && to.waiting.empty() &&
         static_cast<std::int64_t>(to.running.size()) + to.on_wire < d_.spec.max_sequences) {
    const Id id = to.incoming.front();
    Sequence& s = sequences_[id];
    // Of the prompt and the token that comes next.
    const std::int64_t bytes = (s.record.input_tokens + d_.spec.page_tokens) / d_.spec.page_tokens *
                                   d_.spec.page_tokens * d_.memory.token_bytes +
                               d_.memory.state_bytes;
    if (!to.memory.take(bytes)) return;
    to.incoming.pop_front();
    ++to.on_wire;
    measure(to);
    Instance& from = instances_[s.instance];
    const std::int64_t begin = std::max(now_ns_, from.wire_free_ns);
    const double sent =
        static_cast<double>(s.record.input_tokens * d_.handover.token_bytes + d_.handover.state_bytes);
    from.wire_free_ns = begin + std::llround(sent / d_.handover.gb_per_s);  // bytes per ns
    s.destination = instance;
    s.destination_bytes = bytes;
    push(from.wire_free_ns + ns_of(d_.handover.latency_us), What::handed_over, id);
  }
}

void Simulation::handed_over(Id id) {
  Sequence& s = sequences_[id];
  const std::uint32_t sender = s.instance;
  Instance& from = instances_[sender];
  drop(from, s);
  --from.unfinished;
  measure(from);
  Instance& to = instances_[s.destination];
  --to.on_wire;
  s.instance = s.destination;
  s.held_bytes = s.destination_bytes;
  s.record.decode_instance = static_cast<std::int32_t>(s.destination);
  s.record.handed_over_ns = now_ns_;
  report_.handover.add(now_ns_ - s.record.first_token_ns);
  s.blocks.clear();  // they are the sender's
  to.running.push_back(id);
  --waiting_;
  ++running_;
  const std::uint32_t receiver = s.instance;
  kick(sender);
  kick(receiver);
  tell_state(sender);
  tell_state(receiver);
}

void Simulation::end(Id id, Fate fate) {
  Sequence& s = sequences_[id];
  RequestRecord& r = s.record;
  r.fate = fate;
  ++report_.fates[static_cast<std::size_t>(fate)];
  if (fate == Fate::finished) {
    const std::int64_t ttft = r.first_token_ns - r.arrival_ns, e2e = r.last_token_ns - r.arrival_ns;
    const std::int64_t tpot = r.produced > 1 ? (r.last_token_ns - r.first_token_ns) / (r.produced - 1) : 0;
    report_.e2e.add(e2e);
    if (r.produced > 1) report_.tpot.add(tpot);
    const auto within = [](std::int64_t ns, double ms) {
      return ms <= 0 || static_cast<double>(ns) <= ms * 1e6;
    };
    if (within(ttft, objective_.ttft_ms) && within(tpot, objective_.tpot_ms) &&
        within(e2e, objective_.e2e_ms))
      ++report_.good;
  }
  if (record_) record_(r);
  r.line = -1;  // free
  free_.push_back(id);
}

}  // namespace tessera::traces
