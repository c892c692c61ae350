#pragma once
// A serving deployment under a trace of requests: continuous batching in steps, chunked prefill, paged cache
// memory with preemption, a prefix cache, and prefill apart from decoding if asked for. Event-driven, in
// whole nanoseconds; equal inputs give equal reports. The rules are in docs/replay.md.

#include <cstdint>
#include <deque>
#include <functional>
#include <queue>
#include <vector>

#include "traces/requests/request.hpp"
#include "traces/serving/memory.hpp"
#include "traces/serving/observer.hpp"
#include "traces/serving/report.hpp"
#include "traces/serving/spec.hpp"
#include "traces/serving/step_time.hpp"

namespace tessera::traces {

/// The next request into its argument; false at the end. Arrivals must not fall.
using NextRequest = std::function<bool(Request&)>;

struct Deployment {
  ServingSpec spec;
  InstanceMemory memory;
  Handover handover;              ///< used if spec.prefill_replicas > 0
  std::int64_t block_tokens = 0;  ///< of Request::blocks
  std::int64_t max_tokens = 0;    ///< of a request, prompt and output; 0: any
};

class Simulation {
 public:
  /// Throws std::invalid_argument for a deployment that makes no sense.
  Simulation(const Deployment& deployment, StepTime& step_time, const Objective& objective);

  /// Is told of every step and change from now on; must outlive the simulation.
  void observe(ServingObserver& observer) { observer_ = &observer; }

  /// Until all requests have their fate, or until stop_ns.
  ServingReport run(const NextRequest& next, std::int64_t stop_ns, const RecordSink& record);

 private:
  using Id = std::uint32_t;  // of a sequence
  struct Sequence {
    RequestRecord record;
    std::vector<std::uint64_t> blocks;  // whole ones only
    std::int64_t computed = 0;          // tokens whose keys, values or state are there
    std::int64_t held_bytes = 0;        // besides blocks
    std::size_t used_blocks = 0;        // of `blocks`, from the first on
    std::uint32_t instance = 0;         // that holds it; while it is handed over, the sender
    std::uint32_t destination = 0;
    std::int64_t destination_bytes = 0;  // held for it there

    std::int64_t missing() const { return record.input_tokens + record.produced - computed; }
  };
  struct Piece {
    Id id = 0;
    std::int64_t tokens = 0;
  };
  struct Instance {
    explicit Instance(std::int64_t capacity) : memory{capacity} {}
    Memory memory;
    std::deque<Id> waiting;
    std::deque<Id> incoming;   // prefilled elsewhere, to be handed over as soon as there is room
    std::vector<Id> running;   // in the order of their admission
    std::vector<Piece> batch;  // of the step under way
    bool busy = false;
    bool prefills = true, decodes = true;
    std::int64_t on_wire = 0;                        // sequences being handed over to it
    std::int64_t wire_free_ns = 0;                   // its way out
    std::int64_t unfinished = 0, prompt_tokens = 0;  // for routing
    std::int64_t held_bytes = 0, last_ns = 0;
    double held_area = 0;
    InstanceReport report;
  };
  enum class What : std::uint8_t { queue, step, handed_over };
  struct Event {
    std::int64_t at_ns = 0;
    std::uint64_t order = 0;
    What what = What::queue;
    std::uint32_t of = 0;  // sequence or instance
    bool operator>(const Event& o) const { return at_ns != o.at_ns ? at_ns > o.at_ns : order > o.order; }
  };

  void push(std::int64_t at_ns, What what, std::uint32_t of);
  void account(std::int64_t now_ns);
  Id arrive(Request& request);
  void queue(Id id);
  std::uint32_t route(const Sequence& s);
  void kick(std::uint32_t instance);
  bool fill_batch(Instance& i);
  /// Memory for `tokens` of the sequence, beside its blocks.
  bool hold(Instance& i, Sequence& s, std::int64_t tokens);
  std::size_t cached_blocks(const Instance& i, const Sequence& s) const;
  bool admit(Instance& i, Id id);
  void preempt(Instance& i);
  void drop(Instance& i, Sequence& s);
  void end_step(std::uint32_t instance);
  void publish(Instance& i, Sequence& s);
  void produce(Sequence& s);
  void hand_over(Id id);
  void take_incoming(std::uint32_t instance);
  void handed_over(Id id);
  void end(Id id, Fate fate);
  void measure(Instance& i);
  void tell_state(std::uint32_t instance);
  /// Of `tokens` of the sequence, its blocks left out.
  std::int64_t bytes_for(const Sequence& s, std::int64_t tokens) const;

  Deployment d_;
  StepTime& step_time_;
  Objective objective_;
  std::vector<Instance> instances_;
  std::vector<Sequence> sequences_;
  std::vector<Id> free_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::uint64_t order_ = 0;
  std::int64_t now_ns_ = 0;
  std::int64_t waiting_ = 0, running_ = 0, held_ = 0;
  std::uint32_t turn_ = 0;  // of round robin
  ServingReport report_;
  RecordSink record_;
  ServingObserver* observer_ = nullptr;
};

}  // namespace tessera::traces
