// A GPU that is not there.

#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "kernels/cuda/loaded_library.hpp"
#include "kernels/cuda/random.hpp"
#include "validate/measure/check.hpp"
#include "validate/measure/device.hpp"

namespace tessera::measure {

namespace {

/// What the kernels' emulation on the CPU does in some seconds.
constexpr double kEmulatedFlops = 1e8;
constexpr double kFlopsPerUs = 4e8, kBytesPerUs = 3e6, kLaunchUs = 2;

void store(void* memory, Element element, std::int64_t index, double value) {
  if (element == Element::i32) {
    static_cast<std::int32_t*>(memory)[index] = static_cast<std::int32_t>(value);
    return;
  }
  const auto single = static_cast<float>(rounded(value, element));
  if (element == Element::f32) {
    static_cast<float*>(memory)[index] = single;
  } else {
    static_cast<std::uint16_t*>(memory)[index] =
        static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(single) >> 16);
  }
}

class EmulatedDevice final : public Device {
 public:
  explicit EmulatedDevice(const Emulation& emulation) : emulation_{emulation}, free_{emulation.memory_bytes} {
    properties_ = {.name = "emulated",
                   .uuid = "emulated-0",
                   .compute_capability = 90,
                   .sms = 132,
                   .memory_bytes = emulation.memory_bytes,
                   .l2_bytes = 50 << 20,
                   .shared_bytes_per_cta = 232448,
                   .driver = "none",
                   .cuda = "none",
                   .ecc = true,
                   .power_limit_w = 700};
  }

  const DeviceProperties& properties() const override { return properties_; }
  std::optional<Sensors> sensors() override {
    return Sensors{.sm_mhz = 1980, .memory_mhz = 3201, .power_w = 350, .temperature_c = 45};
  }
  std::int64_t free_bytes() override { return free_; }

  void* allocate(std::int64_t bytes) override {
    if (bytes > free_) throw std::runtime_error{"emulated: out of memory"};
    auto* const memory = static_cast<std::int64_t*>(::operator new(static_cast<std::size_t>(bytes) + 16));
    memory[0] = bytes;
    free_ -= bytes;
    return memory + 2;
  }
  void release(void* memory) override {
    std::int64_t* const start = static_cast<std::int64_t*>(memory) - 2;
    free_ += start[0];
    ::operator delete(start);
  }
  void fill(void* memory, const Operand& operand, std::uint64_t seed) override {
    if (operand.fill.kind == Fill::Kind::poison) {
      std::memset(memory, 0xff, static_cast<std::size_t>(operand.bytes()));
      return;
    }
    const Generated values{operand, seed};
    for (std::int64_t i = 0; i < operand.count; ++i) store(memory, operand.element, i, values[i]);
  }
  void download(const void* memory, std::int64_t first, std::int64_t count, void* to) override {
    std::memcpy(to, static_cast<const char*>(memory) + first, static_cast<std::size_t>(count));
  }

  void run(const Workload& workload, const Call& set, std::uint64_t seed) override {
    if (workload.request.kind == emulation_.crash_kind) _exit(77);
    if (workload.request.kind == emulation_.hang_kind)
      for (;;) pause();
    if (workload.request.kind == emulation_.no_library_kind)
      throw cuda::LibraryMissing{"cuDNN not found: TESSERA_CUDNN is not set"};
    if (workload.request.text() == emulation_.refused) throw std::runtime_error{"emulated: refused"};
    if (computes(workload)) {
      for (const Stage& stage : workload.stages) stage.launch(set);
    } else if (workload.expect) {
      const Inputs inputs{workload.operands, seed};
      for (const Expected& e : workload.expect(inputs, sample_limit(workload)))
        store(set.at[e.operand], workload.operands[e.operand].element, e.index, e.value);
    }
    if (workload.request.kind != emulation_.wrong_kind) return;
    const Inputs inputs{workload.operands, seed};
    for (const Expected& e : workload.expect(inputs, sample_limit(workload)))
      store(set.at[e.operand], workload.operands[e.operand].element, e.index, e.value + 1);
  }
  bool computes(const Workload& workload) const override {
    return workload.emulable && !has_cuda() && workload.flops <= kEmulatedFlops;
  }
  void prepare(const Workload&, const Call&) override {}

  std::vector<double> time_us(const Workload& workload, const std::vector<Call>&, std::size_t first,
                              std::size_t last, const Timing& timing) override {
    const double share = static_cast<double>(last - first) / static_cast<double>(workload.stages.size());
    const double us = kLaunchUs * static_cast<double>(last - first) +
                      share * std::max(workload.flops / kFlopsPerUs, workload.min_bytes / kBytesPerUs);
    std::vector<double> samples;
    for (int i = 0; i < timing.samples; ++i) {
      const double noise = 0.01 * cuda::normal_value(7, draws_++);
      samples.push_back(us * (1 + noise) * (i % 17 == 16 ? 1.5 : 1));  // a disturbance now and then
    }
    return samples;
  }

 private:
  Emulation emulation_;
  DeviceProperties properties_;
  std::int64_t free_, draws_ = 0;
};

}  // namespace

std::unique_ptr<Device> make_emulated_device(const Emulation& emulation) {
  return std::make_unique<EmulatedDevice>(emulation);
}

}  // namespace tessera::measure
