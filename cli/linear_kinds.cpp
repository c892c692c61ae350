#include "cli/kernel_kinds.hpp"

namespace tessera::cli {

std::vector<Kind> linear_kinds() {
  using namespace models;
  std::vector<Kind> list;
  for (const Recurrence& rule : kRecurrences) {
    list.push_back({rule.prefill_kind.data(),
                    "linear attention of whole sequences, in chunks",
                    {{"batch", "1"},
                     {"seq"},
                     {"heads"},
                     {"k_dim", "128"},
                     {"v_dim", "k_dim"},
                     {"chunk", "64"},
                     {"initial_state", "true"},
                     {"segment", "none"}},
                    [rule](const Arguments& a) -> Operator {
                      return LinearAttention{
                          .rule = rule,
                          .batch = a.integer("batch"),
                          .seq = a.integer("seq"),
                          .heads = a.integer("heads"),
                          .k_dim = a.integer("k_dim"),
                          .v_dim = a.integer("v_dim"),
                          .chunk = a.integer("chunk"),
                          .initial_state = a.truth("initial_state"),
                          .part = a.choice<SegmentPart>("segment", {{"none", SegmentPart::none},
                                                                    {"map", SegmentPart::map},
                                                                    {"rest", SegmentPart::rest}}),
                          .dtype = a.dtype()};
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
