#pragma once
// Where workloads run: a GPU through CUDA, or an emulation of one.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "validate/measure/workload.hpp"

namespace tessera::measure {

struct DeviceProperties {
  std::string name;  ///< "NVIDIA H200"
  std::string uuid;
  int compute_capability = 0;  ///< 90
  int sms = 0;
  std::int64_t memory_bytes = 0, l2_bytes = 0, shared_bytes_per_cta = 0;
  std::string driver, cuda;  ///< versions
  std::optional<bool> ecc;
  double power_limit_w = 0;  ///< 0: not known
};

/// What NVML says at one moment.
struct Sensors {
  double sm_mhz = 0, memory_mhz = 0, power_w = 0, temperature_c = 0;
};

/// One timing. Every sample is the time of `calls` calls, back to back, over the sets in turn.
struct Timing {
  double warm_up_ms = 50;
  int calls = 1, samples = 30;
  bool graph = true;  ///< the calls are one CUDA graph, replayed; else launched from the host
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceProperties& properties() const = 0;
  virtual std::optional<Sensors> sensors() = 0;
  /// In the middle of the last timing, while the GPU was at work.
  virtual std::optional<Sensors> sensors_at_work() { return sensors(); }
  virtual std::int64_t free_bytes() = 0;

  /// All of these: std::runtime_error says what failed.
  virtual void* allocate(std::int64_t bytes) = 0;
  virtual void release(void* memory) = 0;
  virtual void fill(void* memory, const Operand& operand, std::uint64_t seed) = 0;
  /// Copies bytes [first, first + count) to the host.
  virtual void download(const void* memory, std::int64_t first, std::int64_t count, void* to) = 0;
  /// The workload's preparation of a set.
  virtual void prepare(const Workload& workload, const Call& set) = 0;
  /// One call of all stages, finished on return. `seed` is that of the set's fills.
  virtual void run(const Workload& workload, const Call& set, std::uint64_t seed) = 0;
  /// Whether run() runs the kernels, rather than filling in what a check looks at.
  virtual bool computes(const Workload&) const { return true; }
  /// Microseconds per call, of each sample, over stages [first, last).
  virtual std::vector<double> time_us(const Workload& workload, const std::vector<Call>& sets,
                                      std::size_t first, std::size_t last, const Timing& timing) = 0;
  /// Whether nothing more can run in this process: an error that CUDA does not recover from. Asks the device.
  virtual bool lost() { return false; }
};

/// Host memory, float64 results rounded to the outputs' types, and times by a closed formula with noise drawn
/// from a seed: everything but the launch is as on a GPU.
struct Emulation {
  std::int64_t memory_bytes = std::int64_t{16} << 30;
  std::string wrong_kind;       ///< results of this kind are wrong
  std::string crash_kind;       ///< a call of this kind ends the process
  std::string hang_kind;        ///< a call of this kind never ends
  std::string no_library_kind;  ///< a call of this kind finds no library
  std::string refused;          ///< the words of a call that cannot be launched
};
std::unique_ptr<Device> make_emulated_device(const Emulation& emulation = {});

/// Whether this build has CUDA kernels.
bool has_cuda();
/// std::runtime_error: no CUDA in this build, no driver, or no GPU, and what to do about it.
std::unique_ptr<Device> make_cuda_device(int index);

}  // namespace tessera::measure
