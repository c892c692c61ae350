#include "kernels/library/lower.hpp"

#include "kernels/attention_decode/attention_decode.hpp"
#include "kernels/attention_paged/call.hpp"
#include "kernels/attention_prefill/attention_prefill.hpp"
#include "kernels/block_sparse/block_sparse.hpp"
#include "kernels/experts/experts.hpp"
#include "kernels/gemm/batched.hpp"
#include "kernels/gemm/gemm.hpp"
#include "kernels/gemv/gemv.hpp"
#include "kernels/latent/latent.hpp"
#include "kernels/linear_attention/linear_attention.hpp"
#include "kernels/stream/stream.hpp"
#include "kernels/token_sparse/token_sparse.hpp"

namespace tessera::kernels {

namespace {

using Kernels = std::vector<std::unique_ptr<tile::Kernel>>;

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

}  // namespace

std::vector<std::unique_ptr<tile::Kernel>> lower(const models::Operator& op, const GpuSpec& gpu,
                                                 const Addresses& addresses) {
  const auto stream = [&](StreamWork work) {
    Kernels kernels;
    kernels.push_back(std::make_unique<StreamKernel>(std::move(work), gpu));
    return kernels;
  };
  return std::visit(
      Overloaded{[&](const models::Gemm& g) {
    if (g.m > Gemv::kMostRows || gpu.sm.has_tma) return make_gemm(g, gpu, addresses);
    Kernels kernels;
    kernels.push_back(std::make_unique<Gemv>(g, gpu, addresses));
    return kernels;
                 },
                 [&](const models::Attention& a) {
    return a.paged ? make_paged_attention(a, gpu, addresses) : make_attention_prefill(a, gpu, addresses);
                 },
                 [&](const models::AttentionDecode& a) {
    return a.paged ? make_paged_decode(a, gpu, addresses) : make_attention_decode(a, gpu, addresses);
                 },
                 [&](const models::LinearAttention& l) {
    return make_linear_attention(l, gpu, addresses); },
                 [&](const models::StateScan& s) {
    return make_state_scan(s, gpu, addresses); },
                 [&](const models::LinearDecode& l) {
    return make_linear_decode(l, gpu, addresses); },
                 [&](const models::CausalConv1d& c) {
    return make_causal_conv1d(c, gpu, addresses); },
                 [&](const models::BatchedGemm& g) {
    return make_batched_gemm(g, gpu, addresses); },
                 [&](const models::LatentAttention& a) {
    return make_latent_attention(a, gpu, addresses); },
                 [&](const models::LatentDecode& a) {
    return make_latent_decode(a, gpu, addresses); },
                 [&](const models::Merge& m) {
    return stream(merge_work(m, addresses)); },
                 [&](const models::Norm& n) {
    return stream(norm_work(n, addresses)); },
                 [&](const models::Rope& r) {
    return stream(rope_work(r, addresses)); },
                 [&](const models::Activation& a) {
    return stream(activation_work(a, addresses)); },
                 [&](const models::Softmax& s) {
    return stream(softmax_work(s, addresses)); },
                 [&](const models::Sum& s) {
    return stream(sum_work(s, addresses)); },
                 [&](const models::Copy& c) {
    return stream(copy_work(c, addresses)); },
                 [&](const models::Embedding& e) {
    return stream(embedding_work(e, addresses)); },
                 [&](const models::Moba& m) {
    return make_moba(m, gpu, addresses); },
                 [&](const models::BlockPool& p) {
    return make_block_pool(p, gpu, addresses); },
                 [&](const models::BlockGate& g) {
    return make_block_gate(g, gpu, addresses); },
                 [&](const models::BlockSparseAttention& a) {
    return make_block_sparse_attention(a, gpu, addresses);
                 },
                 [&](const models::Router& r) {
    return make_router(r, gpu, addresses); },
                 [&](const models::Moe& m) {
    return make_moe(m, gpu, addresses); },
                 [&](const models::NativeSparse& n) {
    return make_native_sparse(n, gpu, addresses); },
                 [&](const models::IndexedLatent& i) {
    return make_indexed_latent(i, gpu, addresses); }},
      op);
}

}  // namespace tessera::kernels
