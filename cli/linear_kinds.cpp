#include <algorithm>
#include <charconv>

#include "cli/kernel_kinds.hpp"

namespace tessera::cli {

namespace {

/// "1300,547,2048": sequences that share out the `seq` tokens.
void share_out(models::LinearAttention& op, const Arguments& a) {
  const std::string& text = a.text("lengths");
  const auto fail = [&] {
    throw UsageError{
        fmt::format("kernel {}: lengths: expected equal, or lengths with commas between them that add up "
                    "to seq {} of batch 1, not '{}'",
                    op.rule.prefill_kind, op.seq, text)};
  };
  for (const char *at = text.data(), *end = at + text.size(); at < end;) {
    std::int64_t length = 0;
    const auto [next, error] = std::from_chars(at, end, length);
    if (error != std::errc{} || length <= 0 || length > op.seq ||
        (next < end && (*next != ',' || next + 1 == end)))
      fail();
    op.lengths.push_back(length);
    at = next + 1;
  }
  if (op.batch != 1 || op.lengths.empty() || op.tokens() != op.seq) fail();
  op.batch = static_cast<std::int64_t>(op.lengths.size());
  op.seq = *std::max_element(op.lengths.begin(), op.lengths.end());
}

}  // namespace

std::vector<Kind> linear_kinds() {
  using namespace models;
  std::vector<Kind> list;
  for (const Recurrence& rule : kRecurrences) {
    list.push_back(
        {rule.prefill_kind.data(),
         "linear attention of whole sequences, in chunks",
         {{"batch", "1"},
          {"seq"},
          {"heads"},
          {"k_dim", "128"},
          {"v_dim", "k_dim"},
          {"chunk", "auto"},
          {"initial_state", "true"},
          {"segment", "none"},
          {"algorithm", "fla"},
          {"lengths", "equal"}},
         [rule](const Arguments& a) -> Operator {
           LinearAttention op{
               .rule = rule,
               .batch = a.integer("batch"),
               .seq = a.integer("seq"),
               .heads = a.integer("heads"),
               .k_dim = a.integer("k_dim"),
               .v_dim = a.integer("v_dim"),
               .initial_state = a.truth("initial_state"),
               .part = a.choice<SegmentPart>(
                   "segment",
                   {{"none", SegmentPart::none}, {"map", SegmentPart::map}, {"rest", SegmentPart::rest}}),
               .dtype = a.dtype(),
               .kernels = a.choice<ChunkKernels>(
                   "algorithm", {{"fla", ChunkKernels::fla}, {"flash_kda", ChunkKernels::flash_kda}})};
           if (!a.is("chunk", "auto"))
             op.chunk = a.integer("chunk");
           else if (op.kernels == ChunkKernels::flash_kda)
             op.chunk = 16;
           if (!a.is("lengths", "equal")) share_out(op, a);
           return op;
         }});
    list.push_back({rule.decode_kind.data(),
                    "linear attention of new tokens, through the state",
                    {{"batch", "1"},
                     {"heads"},
                     {"tokens", "1"},
                     {"k_dim", "128"},
                     {"v_dim", "k_dim"},
                     {"form", "packed"}},
                    [rule](const Arguments& a) -> Operator {
                      return LinearDecode{
                          .rule = rule,
                          .batch = a.integer("batch"),
                          .heads = a.integer("heads"),
                          .tokens = a.integer("tokens"),
                          .k_dim = a.integer("k_dim"),
                          .v_dim = a.integer("v_dim"),
                          .form = a.choice<DecodeForm>("form", {{"packed", DecodeForm::packed},
                                                                {"fused", DecodeForm::fused},
                                                                {"verify", DecodeForm::verify}}),
                          .dtype = a.dtype()};
                    }});
  }
  list.push_back({"state_scan",
                  "the state that reaches a segment, from the maps of those before it",
                  {{"batch", "1"},
                   {"heads"},
                   {"maps"},
                   {"k_dim", "128"},
                   {"v_dim", "k_dim"},
                   {"initial_state", "false"}},
                  [](const Arguments& a) -> Operator {
                    return StateScan{.batch = a.integer("batch"),
                                     .heads = a.integer("heads"),
                                     .k_dim = a.integer("k_dim"),
                                     .v_dim = a.integer("v_dim"),
                                     .maps = a.integer("maps"),
                                     .initial_state = a.truth("initial_state")};
                  }});
  list.push_back({"causal_conv1d",
                  "short causal convolutions with SiLU",
                  {{"batch", "1"},
                   {"seq"},
                   {"heads"},
                   {"head_dim", "128"},
                   {"convs", "3"},
                   {"taps", "4"},
                   {"mode", "prefill"}},
                  [](const Arguments& a) -> Operator {
                    return CausalConv1d{
                        .batch = a.integer("batch"),
                        .seq = a.integer("seq"),
                        .channels = a.integer("heads") * a.integer("head_dim"),
                        .convs = a.integer("convs"),
                        .taps = a.integer("taps"),
                        .update = a.choice<bool>("mode", {{"prefill", false}, {"update", true}}),
                        .dtype = a.dtype()};
                  }});
  return list;
}

}  // namespace tessera::cli
