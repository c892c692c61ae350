#include "kernels/cuda/reduce.cuh"
#include "kernels/stream/rows.hpp"

namespace tessera::cuda {

namespace {

constexpr int kThreads = 256;

__global__ void norm(NormCall c) {
  TESSERA_DYNAMIC_SHARED(memory);
  float* const row = reinterpret_cast<float*>(memory);
  TESSERA_SHARED(float, scratch, 32);
  const auto width = static_cast<int>(c.width);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * width;
  const bf16 *const in = static_cast<const bf16*>(c.in) + first, *const weight =
                                                                     static_cast<const bf16*>(c.weight);
  float sum = 0, squares = 0;
  for (int i = static_cast<int>(threadIdx.x) * 8; i < width; i += kThreads * 8) {
    Eight x = load_eight(in + i);
    if (c.residual != nullptr) {
      const Eight r = load_eight(static_cast<const bf16*>(c.residual) + first + i);
      for (int j = 0; j < 8; ++j) x.set(j, x.get(j) + r.get(j));
      store_eight(static_cast<bf16*>(c.sum) + first + i, x);
    }
    for (int j = 0; j < 8; ++j) {
      row[i + j] = x.get(j);
      sum += x.get(j);
      squares += x.get(j) * x.get(j);
    }
  }
  const float count = static_cast<float>(width);
  const float mean = c.layer ? block_reduce(sum, scratch, Add{}) / count : 0;
  float power = block_reduce(squares, scratch, Add{}) / count;
  if (c.layer) {
    // About the mean, not by the difference of two large sums.
    float about = 0;
    for (int i = static_cast<int>(threadIdx.x) * 8; i < width; i += kThreads * 8)
      for (int j = 0; j < 8; ++j) about += (row[i + j] - mean) * (row[i + j] - mean);
    power = block_reduce(about, scratch, Add{}) / count;
  }
  const float scale = rsqrtf(power + kNormEpsilon);
  for (int i = static_cast<int>(threadIdx.x) * 8; i < width; i += kThreads * 8) {
    const Eight w = load_eight(weight + i);
    Eight y{};
    for (int j = 0; j < 8; ++j) y.set(j, (row[i + j] - mean) * scale * w.get(j));
    store_eight(static_cast<bf16*>(c.out) + first + i, y);
  }
}

__global__ void rope(RopeCall c) {
  const auto half = static_cast<int>(c.head_dim / 2);
  const auto row = static_cast<std::int64_t>(blockIdx.x);
  const auto pairs = static_cast<int>((c.heads + c.kv_heads) * half);
  for (int p = static_cast<int>(threadIdx.x); p < pairs; p += kThreads) {
    const int head = p / half, i = p % half;
    const bool of_q = head < c.heads;
    bf16* const at = of_q ? static_cast<bf16*>(c.q) + (row * c.heads + head) * c.head_dim
                          : static_cast<bf16*>(c.k) + (row * c.kv_heads + head - c.heads) * c.head_dim;
    const float angle = static_cast<float>(row) *
                        powf(10000.0F, -2.0F * static_cast<float>(i) / static_cast<float>(c.head_dim));
    const float cosine = cosf(angle), sine = sinf(angle);
    const float x = static_cast<float>(at[i]), y = static_cast<float>(at[i + half]);
    at[i] = bf16{x * cosine - y * sine};
    at[i + half] = bf16{y * cosine + x * sine};
  }
}

__global__ void activation(const bf16* in, bf16* out, std::int64_t rows, std::int64_t width, bool swiglu) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * 8;
  if (i >= rows * width) return;
  const std::int64_t row = i / width, column = i % width;
  const Eight x = load_eight(in + row * width * (swiglu ? 2 : 1) + column);
  Eight up{}, y{};
  if (swiglu) up = load_eight(in + row * width * 2 + width + column);
  for (int j = 0; j < 8; ++j) {
    const float v = x.get(j);
    y.set(j, swiglu ? v / (1 + __expf(-v)) * up.get(j) : 0.5F * v * (1 + erff(v * 0.70710678F)));
  }
  store_eight(out + i, y);
}

__global__ void softmax(const bf16* in, bf16* out, int width) {
  TESSERA_DYNAMIC_SHARED(memory);
  float* const row = reinterpret_cast<float*>(memory);
  TESSERA_SHARED(float, scratch, 32);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * width;
  float most = Most::kNone;
  for (int i = static_cast<int>(threadIdx.x) * 8; i < width; i += kThreads * 8) {
    const Eight x = load_eight(in + first + i);
    for (int j = 0; j < 8; ++j) {
      row[i + j] = x.get(j);
      most = fmaxf(most, x.get(j));
    }
  }
  most = block_reduce(most, scratch, Most{});
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x) * 8; i < width; i += kThreads * 8) {
    for (int j = 0; j < 8; ++j) {
      row[i + j] = __expf(row[i + j] - most);
      sum += row[i + j];
    }
  }
  const float scale = 1 / block_reduce(sum, scratch, Add{});
  for (int i = static_cast<int>(threadIdx.x) * 8; i < width; i += kThreads * 8) {
    Eight y{};
    for (int j = 0; j < 8; ++j) y.set(j, row[i + j] * scale);
    store_eight(out + first + i, y);
  }
}

__global__ void sum_rows(const bf16* in, bf16* out, std::int64_t elements, int parts) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * 8;
  if (i >= elements) return;
  float sum[8] = {};
  for (int p = 0; p < parts; ++p) {
    const Eight x = load_eight(in + p * elements + i);
    for (int j = 0; j < 8; ++j) sum[j] += x.get(j);
  }
  Eight y{};
  for (int j = 0; j < 8; ++j) y.set(j, sum[j]);
  store_eight(out + i, y);
}

__global__ void embedding(const bf16* table, const std::int32_t* ids, bf16* out, std::int64_t width) {
  const std::int64_t row = blockIdx.x, id = ids[row];
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * 8; i < width; i += kThreads * 8)
    store_eight(out + row * width + i, load_eight(table + id * width + i));
}

void require_width(const char* name, std::int64_t width) {
  if (width % 8 != 0 || width > 16384)
    throw std::invalid_argument{std::string{name} + ": the width must be a multiple of 8, at most 16384"};
}

}  // namespace

void launch_norm(const NormCall& c, Stream stream) {
  require_width("norm", c.width);
  launch("norm", norm, {static_cast<unsigned>(c.rows)}, {kThreads}, static_cast<int>(c.width) * 4, stream, c);
}
void launch_rope(const RopeCall& c, Stream stream) {
  launch("rope", rope, {static_cast<unsigned>(c.rows)}, {kThreads}, 0, stream, c);
}
void launch_activation(const void* in, void* out, std::int64_t rows, std::int64_t width, bool swiglu,
                       Stream stream) {
  launch("activation", activation, {blocks_of(rows * width, kThreads * 8)}, {kThreads}, 0, stream,
         static_cast<const bf16*>(in), static_cast<bf16*>(out), rows, width, swiglu);
}
void launch_softmax(const void* in, void* out, std::int64_t rows, std::int64_t width, Stream stream) {
  require_width("softmax", width);
  launch("softmax", softmax, {static_cast<unsigned>(rows)}, {kThreads}, static_cast<int>(width) * 4, stream,
         static_cast<const bf16*>(in), static_cast<bf16*>(out), static_cast<int>(width));
}
void launch_sum(const void* in, void* out, std::int64_t rows, std::int64_t inputs, std::int64_t width,
                Stream stream) {
  launch("sum", sum_rows, {blocks_of(rows * width, kThreads * 8)}, {kThreads}, 0, stream,
         static_cast<const bf16*>(in), static_cast<bf16*>(out), rows * width,
         static_cast<int>(inputs / rows));
}
void launch_embedding(const void* table, const std::int32_t* ids, void* out, std::int64_t rows,
                      std::int64_t width, Stream stream) {
  launch("embedding", embedding, {static_cast<unsigned>(rows)}, {kThreads}, 0, stream,
         static_cast<const bf16*>(table), ids, static_cast<bf16*>(out), width);
}
void launch_copy(const void* from, void* to, std::int64_t bytes, Stream stream) {
#ifdef __CUDACC__
  require(
      cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice, stream_of(stream)),
      "cudaMemcpyAsync");
#else
  static_cast<void>(stream);
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
#endif
}

}  // namespace tessera::cuda
