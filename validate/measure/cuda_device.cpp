// A GPU through the CUDA runtime.

#include <fmt/format.h>

#include <stdexcept>

#include "validate/measure/device.hpp"

#ifdef TESSERA_HAS_CUDA

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/cuda/launch.hpp"
#include "validate/measure/nvml.hpp"

namespace tessera::measure {

namespace {

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index) {
    require(cudaSetDevice(index), "cudaSetDevice");
    cudaDeviceProp p{};
    require(cudaGetDeviceProperties(&p, index), "cudaGetDeviceProperties");
    if (p.major < 8)
      throw std::runtime_error{
          fmt::format("{} has compute capability {}.{}: expected 8.0 or later", p.name, p.major, p.minor)};
    properties_.name = p.name;
    for (int i = 0; i < 16; ++i)
      properties_.uuid += fmt::format("{:02x}", static_cast<unsigned char>(p.uuid.bytes[i]));
    properties_.compute_capability = p.major * 10 + p.minor;
    properties_.sms = p.multiProcessorCount;
    properties_.memory_bytes = static_cast<std::int64_t>(p.totalGlobalMem);
    properties_.l2_bytes = p.l2CacheSize;
    properties_.shared_bytes_per_cta = static_cast<std::int64_t>(p.sharedMemPerBlockOptin);
    properties_.ecc = p.ECCEnabled != 0;
    int runtime = 0, driver = 0;
    require(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    require(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    properties_.cuda = version_text(runtime);
    properties_.driver = version_text(driver);
    char pci[32] = {};
    require(cudaDeviceGetPCIBusId(pci, sizeof pci, index), "cudaDeviceGetPCIBusId");
    nvml_ = Nvml::open(pci);
    if (nvml_) {
      properties_.driver = nvml_->driver();
      properties_.power_limit_w = nvml_->power_limit_w();
      if (const auto ecc = nvml_->ecc()) properties_.ecc = ecc;
    }
    require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~CudaDevice() override {
    if (!lost_) cudaStreamDestroy(stream_);
  }

  const DeviceProperties& properties() const override { return properties_; }
  std::optional<Sensors> sensors() override { return nvml_ ? nvml_->sensors() : std::nullopt; }
  std::optional<Sensors> sensors_at_work() override { return at_work_; }
  bool lost() override {
    // Kernels and libraries throw errors of their own, behind which may be one that stays.
    cudaGetLastError();
    lost_ = lost_ || cudaDeviceSynchronize() != cudaSuccess;
    return lost_;
  }

  std::int64_t free_bytes() override {
    std::size_t free = 0, total = 0;
    require(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return static_cast<std::int64_t>(free);
  }
  void* allocate(std::int64_t bytes) override {
    void* memory = nullptr;
    require(cudaMalloc(&memory, static_cast<std::size_t>(bytes)), "cudaMalloc");
    return memory;
  }
  void release(void* memory) override { cudaFree(memory); }
  void fill(void* memory, const Operand& o, std::uint64_t seed) override {
    const auto bytes = static_cast<std::size_t>(o.bytes());
    if (bytes == 0) return;
    switch (o.fill.kind) {
      case Fill::Kind::poison:
        require(cudaMemsetAsync(memory, 0xff, bytes, stream_), "cudaMemsetAsync");
        break;
      case Fill::Kind::zeros:
        require(cudaMemsetAsync(memory, 0, bytes, stream_), "cudaMemsetAsync");
        break;
      case Fill::Kind::listed:
        require(cudaMemcpyAsync(memory, o.fill.list->data(), bytes, cudaMemcpyHostToDevice, stream_),
                "cudaMemcpyAsync");
        break;
      case Fill::Kind::normal:
      case Fill::Kind::uniform:
        cuda::launch_fill(memory, o.element == Element::bf16, o.count, seed,
                          o.fill.kind == Fill::Kind::normal, o.fill.scale, o.fill.offset, stream_);
    }
    finish("fill");
  }
  void download(const void* memory, std::int64_t first, std::int64_t count, void* to) override {
    require(cudaMemcpy(to, static_cast<const char*>(memory) + first, static_cast<std::size_t>(count),
                       cudaMemcpyDeviceToHost),
            "cudaMemcpy");
  }
  void prepare(const Workload& workload, const Call& set) override {
    workload.prepare(in_stream(set));
    finish("preparation");
  }
  void run(const Workload& workload, const Call& set, std::uint64_t) override {
    enqueue(workload, set, 0, workload.stages.size());
    finish(workload.request.kind.c_str());
  }

  std::vector<double> time_us(const Workload& workload, const std::vector<Call>& sets, std::size_t first,
                              std::size_t last, const Timing& timing) override {
    const auto calls = [&] {
      for (int i = 0; i < timing.calls; ++i)
        enqueue(workload, sets[static_cast<std::size_t>(i) % sets.size()], first, last);
    };
    calls();  // what is loaded or chosen at a first call is not captured
    finish("first call");
    cudaGraphExec_t graph = nullptr;
    if (timing.graph) graph = captured(calls);
    const auto once = [&] {
      if (timing.graph)
        require(cudaGraphLaunch(graph, stream_), "cudaGraphLaunch");
      else
        calls();
    };
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    do {
      once();
      finish("warm-up");
    } while (std::chrono::duration<double, std::milli>(Clock::now() - start).count() < timing.warm_up_ms);

    const auto samples = static_cast<std::size_t>(timing.samples);
    std::vector<cudaEvent_t> marks(samples + 1);
    for (cudaEvent_t& mark : marks) require(cudaEventCreate(&mark), "cudaEventCreate");
    // One sample ends where the next begins, so that the GPU is never idle between them.
    once();
    require(cudaEventRecord(marks[0], stream_), "cudaEventRecord");
    for (std::size_t s = 0; s < samples; ++s) {
      once();
      require(cudaEventRecord(marks[s + 1], stream_), "cudaEventRecord");
    }
    require(cudaEventSynchronize(marks[samples / 2]), "cudaEventSynchronize");
    at_work_ = sensors();
    finish("timing");
    std::vector<double> times;
    for (std::size_t s = 0; s < samples; ++s) {
      float ms = 0;
      require(cudaEventElapsedTime(&ms, marks[s], marks[s + 1]), "cudaEventElapsedTime");
      times.push_back(static_cast<double>(ms) * 1e3 / timing.calls);
    }
    for (cudaEvent_t mark : marks) cudaEventDestroy(mark);
    if (graph != nullptr) cudaGraphExecDestroy(graph);
    return times;
  }

 private:
  Call in_stream(Call set) const {
    set.stream = stream_;
    return set;
  }
  void enqueue(const Workload& workload, const Call& set, std::size_t first, std::size_t last) {
    const Call call = in_stream(set);
    for (std::size_t s = first; s < last; ++s) workload.stages[s].launch(call);
  }
  template <class Calls>
  cudaGraphExec_t captured(const Calls& calls) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    try {
      calls();
    } catch (...) {
      cudaStreamEndCapture(stream_, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      throw;
    }
    require(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
    require(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
    cudaGraphDestroy(graph);
    return executable;
  }
  void finish(const char* what) { require(cudaStreamSynchronize(stream_), what); }
  /// Errors of memory accesses, traps and hardware stay: every later call in the process gives them again.
  void require(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    cudaGetLastError();
    lost_ = cudaDeviceSynchronize() != cudaSuccess;
    throw std::runtime_error{
        fmt::format("{}: {}, {}", what, cudaGetErrorName(error), cudaGetErrorString(error))};
  }

  DeviceProperties properties_;
  std::unique_ptr<Nvml> nvml_;
  cudaStream_t stream_ = nullptr;
  std::optional<Sensors> at_work_;
  bool lost_ = false;
};

}  // namespace

bool has_cuda() { return true; }

std::unique_ptr<Device> make_cuda_device(int index) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess)
    throw std::runtime_error{fmt::format(
        "no GPU can be used: {} ({}); expected an NVIDIA driver for CUDA 13 and a GPU of compute capability "
        "8.0 or later (nvidia-smi shows both); --device emulated tries a suite without one",
        cudaGetErrorString(error), cudaGetErrorName(error))};
  if (index >= count)
    throw std::runtime_error{fmt::format("--device {}: there are {} GPUs, counted from 0", index, count)};
  return std::make_unique<CudaDevice>(index);
}

}  // namespace tessera::measure

#else

namespace tessera::measure {

bool has_cuda() { return false; }

std::unique_ptr<Device> make_cuda_device(int) {
  throw std::runtime_error{
      "this build has no CUDA kernels: expected one of the preset `cuda` (cmake --preset cuda; ninja -C "
      "build/cuda "
      "tessera-measure), which needs nvcc; --device emulated tries a suite without a GPU"};
}

}  // namespace tessera::measure

#endif
