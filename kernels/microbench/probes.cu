#include <stdexcept>

#include "kernels/microbench/probes.hpp"

#ifdef __CUDACC__
#include "kernels/cuda/random.hpp"
#include "kernels/cuda/wgmma.cuh"
#endif

namespace tessera::cuda {

namespace {

constexpr std::int64_t kMiB = 1 << 20;
constexpr int kLine = 128, kChaseSteps = 4000, kNearSteps = 200, kLines = 16, kShortSteps = 1000,
              kTmaSteps = 2000, kTmaBytes = 2048, kWgmmaGroup = 64, kWgmmaSteps = 32 * kWgmmaGroup,
              kMufuSteps = 4096, kLoadGroups = 384;
constexpr std::int64_t kChaseL1 = 8192, kReadL2 = 16 * kMiB, kReadHbm = 256 * kMiB, kWriteHbm = 512 * kMiB;
constexpr int kReadPasses = 8;

}  // namespace

const std::vector<Probe>& probes() {
  const auto bytes_per_s = [](const char* name, std::int64_t bytes, double amount) {
    return Probe{
        .name = name, .unit = "GB/s", .bytes = bytes, .amount = amount, .rate = true, .unit_scale = 1e-9};
  };
  const auto cycles = [](const char* name, std::int64_t bytes, double steps, bool hopper = false) {
    return Probe{.name = name,
                 .unit = "cycles",
                 .bytes = bytes,
                 .amount = steps,
                 .from_cycles = true,
                 .needs_hopper = hopper};
  };
  const auto launches = [](const char* name) {
    return Probe{.name = name, .unit = "us", .bytes = 16, .unit_scale = 1e6};
  };
  // Long enough for the power cap to have settled.
  const auto clock = [](const char* name) {
    return Probe{.name = name,
                 .unit = "MHz",
                 .bytes = 16,
                 .unit_scale = 1e3,
                 .from_cycles = true,
                 .least_warm_up_ms = 2000};
  };
  static const std::vector<Probe> all{
      cycles("l1_latency", kChaseL1, kChaseSteps),
      cycles("shared_latency", 16, kShortSteps),
      {.name = "shared_bandwidth",
       .unit = "B/cycle/SM",
       .bytes = 16,
       .amount = 65536.0 * kShortSteps,
       .rate = true,
       .from_cycles = true},
      cycles("l2_latency", 4 * kMiB, kChaseSteps),
      cycles("l2_latency_near", 4 * kMiB, kNearSteps),
      cycles("l2_latency_far", 4 * kMiB, kNearSteps),
      cycles("hbm_latency", kReadHbm, kChaseSteps),
      bytes_per_s("l2_read", kReadL2, static_cast<double>(kReadL2) * kReadPasses),
      bytes_per_s("hbm_read", kReadHbm, static_cast<double>(kReadHbm)),
      bytes_per_s("hbm_write", kWriteHbm, static_cast<double>(kWriteHbm)),
      cycles("tma_latency_l2", 4 * kMiB, kTmaSteps, true),
      cycles("tma_latency_hbm", kReadHbm, kTmaSteps, true),
      cycles("mbarrier_latency", 16, kTmaSteps, true),
      cycles("wgmma_n64", 16, kWgmmaSteps, true),
      cycles("wgmma_n128", 16, kWgmmaSteps, true),
      cycles("wgmma_n256", 16, kWgmmaSteps, true),
      cycles("wgmma_n64_rs", 16, kWgmmaSteps, true),
      cycles("wgmma_n256_rs", 16, kWgmmaSteps, true),
      {.name = "mufu_rate",
       .unit = "results/cycle/SM",
       .bytes = 16,
       .amount = 512.0 * 8 * kMufuSteps,
       .rate = true,
       .from_cycles = true},
      clock("clock_random"),
      clock("clock_zeros"),
      launches("launch_host"),
      launches("launch_graph"),
  };
  return all;
}

#ifdef __CUDACC__

namespace {

__device__ std::uint64_t load_l1(std::uint64_t at) {
  std::uint64_t value;
  asm volatile("ld.global.ca.u64 %0, [%1];" : "=l"(value) : "l"(at) : "memory");
  return value;
}
__device__ std::uint64_t load_l2(std::uint64_t at) {
  std::uint64_t value;
  asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(value) : "l"(at) : "memory");
  return value;
}
__device__ std::int64_t now() { return clock64(); }
__device__ std::uint64_t nanoseconds() {
  std::uint64_t value;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(value)::"memory");
  return value;
}
__device__ std::uint64_t line_at(const void* memory, std::uint32_t line) {
  return reinterpret_cast<std::uint64_t>(memory) + std::uint64_t{line} * kLine;
}

/// Each line begins with the address of the next, so that a step of a chase is a load and nothing else: a
/// full-period generator modulo a power of two.
__global__ void write_chase(std::uint64_t* memory, std::uint32_t lines) {
  for (std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < lines; i += gridDim.x * blockDim.x)
    memory[std::uint64_t{i} * (kLine / 8)] = line_at(memory, (i * 1664525U + 1013904223U) % lines);
}

/// One thread; goes on where the launch before stopped, so that what it reads is not what that one left
/// behind.
template <bool kL1>
__global__ void chase(const std::uint64_t* memory, float* result, int steps) {
  std::uint32_t* const place = reinterpret_cast<std::uint32_t*>(result + 1);
  std::uint64_t at = line_at(memory, *place);
  if (kL1) {
    for (int i = 0; i < kChaseL1 / kLine; ++i) at = load_l1(at);
  }
  const std::int64_t start = now();
  for (int i = 0; i < steps; ++i) at = kL1 ? load_l1(at) : load_l2(at);
  const std::int64_t end = now();
  *place = static_cast<std::uint32_t>((at - line_at(memory, 0)) / kLine);
  *result = static_cast<float>(end - start);
}

/// The least or the greatest time of several lines, each read over and over: the partitions' distances. Every
/// line points to itself.
__global__ void chase_lines(std::uint64_t* memory, float* result, bool greatest) {
  float best = greatest ? 0 : 1e30F;
  for (std::uint32_t l = 0; l < kLines; ++l) {
    std::uint64_t at = line_at(memory, 2 * l);
    memory[l * (2 * kLine / 8)] = at;
    __threadfence();
    at = load_l2(at);
    const std::int64_t start = now();
    for (int i = 0; i < kNearSteps; ++i) at = load_l2(at);
    const auto taken = static_cast<float>(now() - start + (at == 0 ? 1 : 0));
    best = greatest ? fmaxf(best, taken) : fminf(best, taken);
  }
  *result = best;
}

__global__ void shared_chase(float* result) {
  __shared__ std::uint32_t next[32];
  const std::uint32_t base = shared_address(next);
  next[threadIdx.x] = base + (threadIdx.x * 5 + 1) % 32 * 4;
  __syncwarp();
  std::uint32_t at = base + threadIdx.x * 4;
  const std::int64_t start = now();
  for (int i = 0; i < kShortSteps; ++i) asm volatile("ld.shared.u32 %0, [%0];" : "+r"(at)::"memory");
  const std::int64_t end = now();
  if (threadIdx.x == 0) *result = static_cast<float>(end - start) + (at == 1 ? 1 : 0);
}

/// 16 warps, each thread 8 loads of 16 bytes a step: 64 KiB.
__global__ void shared_stream(float* result) {
  TESSERA_DYNAMIC_SHARED(memory);
  const std::uint32_t base = shared_address(memory) + threadIdx.x * 16;
  for (int i = static_cast<int>(threadIdx.x); i < 65536 / 4; i += 512)
    reinterpret_cast<float*>(memory)[i] = 1;
  __syncthreads();
  float sum = 0;
  const std::int64_t start = now();
  for (int step = 0; step < kShortSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float x, y, z, w;
      asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                   : "=f"(x), "=f"(y), "=f"(z), "=f"(w)
                   : "r"(base + i * 8192));
      sum += x + y + z + w;
    }
  }
  __syncthreads();
  const std::int64_t end = now();
  if (sum == -1 || threadIdx.x == 0) *result = static_cast<float>(end - start);
}

/// Each thread loads 16 bytes of every `gridDim x blockDim`-th piece, four before the first is used.
__global__ void read(const uint4* memory, std::int64_t pieces, int passes, float* result) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  unsigned all = 0;
  for (int pass = 0; pass < passes; ++pass) {
    std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; i + 3 * step < pieces; i += 4 * step) {
      uint4 four[4];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(four[j].x), "=r"(four[j].y), "=r"(four[j].z), "=r"(four[j].w)
                     : "l"(memory + i + j * step));
#pragma unroll
      for (int j = 0; j < 4; ++j) all |= four[j].x & four[j].y & four[j].z & four[j].w;
    }
    for (; i < pieces; i += step) all |= memory[i].x;
  }
  if (all == 0x12345678) *result = 0;  // never: memory is zeros
}

__global__ void write(uint4* memory, std::int64_t pieces) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < pieces;
       i += step)
    memory[i] = {1, 2, 3, 4};
}

__global__ void nothing() {}

/// 16 warps, eight exponentials in flight in each thread.
__global__ void exponentials(float* result) {
  float x[8];
  for (int i = 0; i < 8; ++i) x[i] = static_cast<float>(threadIdx.x) * 1e-3F - static_cast<float>(i);
  __syncthreads();
  const std::int64_t start = now();
  for (int step = 0; step < kMufuSteps; ++step)
#pragma unroll
    for (int i = 0; i < 8; ++i) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[i]));
  __syncthreads();
  const std::int64_t end = now();
  float sum = 0;
  for (int i = 0; i < 8; ++i) sum += x[i];
  if (sum == -1 || threadIdx.x == 0) *result = static_cast<float>(end - start);
}

__global__ void tma_chase(const unsigned char* memory, std::uint32_t tiles, float* result) {
#if defined(TESSERA_HOPPER_CODE)
  __shared__ __align__(128) unsigned char tile[kTmaBytes];
  __shared__ Barrier barrier;
  std::uint32_t* const place = reinterpret_cast<std::uint32_t*>(result + 1);
  std::uint32_t at = *place;
  init_barrier(&barrier, 1);
  fence_barriers();
  const std::int64_t start = now();
  for (int i = 0; i < kTmaSteps; ++i) {
    at = (at * 1664525U + 1013904223U) % tiles;
    arrive_expecting(&barrier, kTmaBytes);
    bulk_load(tile, memory + static_cast<std::size_t>(at) * kTmaBytes, kTmaBytes, &barrier);
    wait_phase(&barrier, i % 2);
  }
  const std::int64_t end = now();
  *place = at;
  *result = static_cast<float>(end - start);
#else
  __trap();
#endif
}

__global__ void barrier_round(float* result) {
#if defined(TESSERA_HOPPER_CODE)
  __shared__ Barrier barrier;
  init_barrier(&barrier, 1);
  fence_barriers();
  const std::int64_t start = now();
  for (int i = 0; i < kTmaSteps; ++i) {
    arrive(&barrier);
    wait_phase(&barrier, i % 2);
  }
  *result = static_cast<float>(now() - start);
#else
  __trap();
#endif
}

/// A warpgroup; groups of products, one waited for before the next begins: in flight over the turn of a loop,
/// accumulators and A in registers would be moved, and ptxas would serialise the products (C7511). The
/// operands are zeros: what is measured is the rate of issue, and of each group the last product's latency,
/// about a hundredth of it.
template <int N, bool kARegisters>
__global__ void __launch_bounds__(128) products(float* result) {
  TESSERA_DYNAMIC_SHARED(memory);
  for (int i = static_cast<int>(threadIdx.x); i < (64 + N) * 128 / 4; i += 128)
    reinterpret_cast<float*>(memory)[i] = 0;
  __syncthreads();
#if defined(TESSERA_HOPPER_CODE)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const std::uint64_t a = wgmma_descriptor(shared_address(memory), 16, 1024),
                      b = wgmma_descriptor(shared_address(memory + 64 * 128), 16, 1024);
  std::uint32_t registers[4];
  for (int i = 0; i < 4; ++i)
    registers[i] = reinterpret_cast<const std::uint32_t*>(memory)[threadIdx.x * 4 + i];
  float c[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) c[i] = 0;
  keep(c);
  const std::int64_t start = now();
#pragma unroll 1
  for (int group = 0; group < kWgmmaSteps / kWgmmaGroup; ++group) {
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kWgmmaGroup; ++i) {
      if constexpr (kARegisters)
        wgmma<N, false>(c, registers, b, true);
      else
        wgmma<N, false>(c, a, b, true);
    }
    wgmma_commit();
    wgmma_wait<0>();
    keep(c);
  }
  const std::int64_t end = now();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < N / 2; ++i) sum += c[i];
  if (sum == -1 || threadIdx.x == 0) *result = static_cast<float>(end - start);
#else
  __trap();
#endif
}

template <int N, bool kARegisters>
void start_products(const ProbeCall& c, Stream stream) {
  launch("wgmma", products<N, kARegisters>, {1}, {128}, (64 + N) * 128, stream, c.cycles);
}

/// The SM's clock while all SMs multiply 64 x 64 by 64 x 256 tiles in shared memory, over and over: normal
/// random numbers or zeros. Cycles of the first SM for each nanosecond.
__global__ void __launch_bounds__(128) tensor_load(float* result, bool random) {
  TESSERA_DYNAMIC_SHARED(memory);
  bf16* const tiles = reinterpret_cast<bf16*>(memory);
  for (int i = static_cast<int>(threadIdx.x); i < (64 + 256) * 64; i += 128)
    tiles[i] = bf16{random ? normal_value(blockIdx.x, i) : 0.0F};
  __syncthreads();
#if defined(TESSERA_HOPPER_CODE)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const std::uint64_t a = wgmma_descriptor(shared_address(memory), 16, 1024),
                      b = wgmma_descriptor(shared_address(memory + 64 * 128), 16, 1024);
  float c[128];
#pragma unroll
  for (int i = 0; i < 128; ++i) c[i] = 0;
  keep(c);
#else
  // The same number of products by mma.sync, of operands in registers.
  float c[8][4] = {};
  std::uint32_t a[4], b[4];
  load_a(a, tiles, 64, static_cast<int>(threadIdx.x) / 32 * 16, 0);
  load_b(b, tiles, 64, 64, 0);
#endif
  const std::int64_t start = now();
  const std::uint64_t start_ns = nanoseconds();
#pragma unroll 1
  for (int group = 0; group < kLoadGroups; ++group) {
#if defined(TESSERA_HOPPER_CODE)
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kWgmmaGroup; ++i)  // 32 bytes on for each step of 16 along the depth
      wgmma<256, false>(c, a + i % 4 * 2, b + i % 4 * 2, true);
    wgmma_commit();
    wgmma_wait<0>();
    keep(c);
#else
    for (int i = 0; i < 4 * kWgmmaGroup; ++i)
#pragma unroll
      for (int n = 0; n < 8; ++n) mma(c[n], a, b[n % 2 * 2], b[n % 2 * 2 + 1]);
#endif
  }
  const std::int64_t cycles = now() - start;
  const std::uint64_t ns = nanoseconds() - start_ns;
  float sum = 0;
#if defined(TESSERA_HOPPER_CODE)
#pragma unroll
  for (int i = 0; i < 128; ++i) sum += c[i];
#else
#pragma unroll
  for (int n = 0; n < 8; ++n) sum += c[n][0] + c[n][1] + c[n][2] + c[n][3];
#endif
  if ((blockIdx.x == 0 && threadIdx.x == 0) || sum == -1)
    *result = static_cast<float>(cycles) / static_cast<float>(ns);
}

}  // namespace

void launch_probe_setup(const std::string& name, const ProbeCall& c, Stream stream) {
  std::int64_t bytes = 16;
  for (const Probe& probe : probes())
    if (probe.name == name) bytes = probe.bytes;
  set_bytes(c.memory, 0, bytes, stream);
  set_bytes(c.cycles, 0, 8, stream);
  if (name == "l1_latency" || name == "l2_latency" || name == "hbm_latency")
    launch("write_chase", write_chase, {1024}, {256}, 0, stream, static_cast<std::uint64_t*>(c.memory),
           static_cast<std::uint32_t>(bytes / kLine));
}

void launch_probe(const std::string& name, const ProbeCall& c, Stream stream) {
  auto* const words = static_cast<std::uint64_t*>(c.memory);
  const auto sms = static_cast<unsigned>(c.sms);
  if (name == "l1_latency")
    return launch("chase", chase<true>, {1}, {1}, 0, stream, words, c.cycles, kChaseSteps);
  if (name == "l2_latency" || name == "hbm_latency")
    return launch("chase", chase<false>, {1}, {1}, 0, stream, words, c.cycles, kChaseSteps);
  if (name == "l2_latency_near" || name == "l2_latency_far")
    return launch("chase_lines", chase_lines, {1}, {1}, 0, stream, words, c.cycles, name == "l2_latency_far");
  if (name == "shared_latency") return launch("shared_chase", shared_chase, {1}, {32}, 0, stream, c.cycles);
  if (name == "shared_bandwidth")
    return launch("shared_stream", shared_stream, {1}, {512}, 65536, stream, c.cycles);
  if (name == "l2_read" || name == "hbm_read") {
    // A thread has 64 bytes in flight.
    std::int64_t threads = tiles_of(c.in_flight_bytes, 64);
    threads = threads < 32 ? 32 : threads > 1024 ? 1024 : threads;
    const bool l2 = name == "l2_read";
    return launch("read", read, {sms}, {static_cast<unsigned>(threads)}, 0, stream,
                  static_cast<const uint4*>(c.memory), (l2 ? kReadL2 : kReadHbm) / 16, l2 ? kReadPasses : 1,
                  c.cycles);
  }
  if (name == "hbm_write")
    return launch("write", write, {sms * 2}, {1024}, 0, stream, static_cast<uint4*>(c.memory),
                  kWriteHbm / 16);
  if (name == "launch_host" || name == "launch_graph")
    return launch("nothing", nothing, {1}, {32}, 0, stream);
  if (name == "mufu_rate") return launch("exponentials", exponentials, {1}, {512}, 0, stream, c.cycles);
  if (name == "tma_latency_l2" || name == "tma_latency_hbm")
    return launch("tma_chase", tma_chase, {1}, {1}, 0, stream, static_cast<const unsigned char*>(c.memory),
                  static_cast<std::uint32_t>((name == "tma_latency_l2" ? 4 * kMiB : kReadHbm) / kTmaBytes),
                  c.cycles);
  if (name == "mbarrier_latency")
    return launch("barrier_round", barrier_round, {1}, {1}, 0, stream, c.cycles);
  if (name == "wgmma_n64") return start_products<64, false>(c, stream);
  if (name == "wgmma_n128") return start_products<128, false>(c, stream);
  if (name == "wgmma_n256") return start_products<256, false>(c, stream);
  if (name == "wgmma_n64_rs") return start_products<64, true>(c, stream);
  if (name == "wgmma_n256_rs") return start_products<256, true>(c, stream);
  if (name == "clock_random" || name == "clock_zeros")
    return launch("tensor_load", tensor_load, {sms}, {128}, (64 + 256) * 128, stream, c.cycles,
                  name == "clock_random");
  throw std::invalid_argument{"no probe '" + name + "'"};
}

#else

// What a probe measures is the hardware: nothing of it can be emulated.
void launch_probe_setup(const std::string&, const ProbeCall&, Stream) {}
void launch_probe(const std::string& name, const ProbeCall&, Stream) {
  throw std::runtime_error{"probe " + name + ": this build has no CUDA"};
}

#endif

}  // namespace tessera::cuda
