#include "configs/reader/hardware.hpp"

#include <fmt/format.h>

#include <cmath>
#include <variant>

#include "configs/reader/calibration.hpp"
#include "configs/reader/document.hpp"
#include "configs/reader/parameters.hpp"

namespace tessera::config {

namespace {

/// One numeric or boolean field of a struct: its key and where it goes.
template <class Struct>
struct Field {
  const char* key;
  std::variant<int Struct::*, std::int64_t Struct::*, double Struct::*, bool Struct::*> member;
  bool may_be_zero = false;
};

/// The value of a {value, source} leaf; insists on the source.
Value sourced(const Value& leaf) {
  leaf.allow_only({"value", "source", "estimate", "fitted", "bounds", "standard_error", "note"});
  if (leaf.at("source").as_string().empty()) throw leaf.at("source").error("a source must be named");
  check_fit(leaf);
  return leaf.at("value");
}

template <class Struct, std::size_t N>
void read_fields(const Value& map, const Field<Struct> (&fields)[N], Struct& out,
                 std::vector<std::string> other_keys = {}) {
  for (const Field<Struct>& f : fields) other_keys.emplace_back(f.key);
  map.allow_only(other_keys);
  for (const Field<Struct>& f : fields) {
    const Value value = sourced(map.at(f.key));
    std::visit(
        [&](auto member) {
          auto& target = out.*member;
          using T = std::remove_reference_t<decltype(target)>;
          if constexpr (std::is_same_v<T, bool>) {
            target = value.as_bool();
          } else if constexpr (std::is_integral_v<T>) {
            target = static_cast<T>(value.as_integer(f.may_be_zero ? 0 : 1, std::numeric_limits<T>::max()));
          } else {
            target = value.as_number(0, 1e18);
            if (target == 0 && !f.may_be_zero) throw value.error("must be positive");
          }
        },
        f.member);
  }
}

constexpr Field<SmSpec> kSm[] = {
    {"subcores", &SmSpec::subcores},
    {"fp32_lanes", &SmSpec::fp32_lanes},
    {"int_lanes", &SmSpec::int_lanes},
    {"mufu_per_cycle", &SmSpec::mufu_per_cycle},
    {"conversions_per_cycle", &SmSpec::conversions_per_cycle},
    {"tensor_flops_per_cycle", &SmSpec::tensor_flops_per_cycle},
    {"mma_flops_per_cycle", &SmSpec::mma_flops_per_cycle},
    {"tensor_latency", &SmSpec::tensor_latency},
    {"registers", &SmSpec::registers},
    {"shared_bytes", &SmSpec::shared_bytes},
    {"shared_bytes_per_cta", &SmSpec::shared_bytes_per_cta},
    {"shared_bytes_reserved_per_cta", &SmSpec::shared_bytes_reserved_per_cta, true},
    {"max_threads", &SmSpec::max_threads},
    {"max_ctas", &SmSpec::max_ctas},
    {"shared_bytes_per_cycle", &SmSpec::shared_bytes_per_cycle},
    {"shared_latency", &SmSpec::shared_latency},
    {"l1_latency", &SmSpec::l1_latency},
    {"ingress_bytes_per_cycle", &SmSpec::ingress_bytes_per_cycle},
    {"l1_fill_bytes_per_cycle", &SmSpec::l1_fill_bytes_per_cycle},
    {"egress_bytes_per_cycle", &SmSpec::egress_bytes_per_cycle},
    {"has_tma", &SmSpec::has_tma},
    {"tma_issue_latency", &SmSpec::tma_issue_latency, true},
    {"tma_lines_per_cycle", &SmSpec::tma_lines_per_cycle, true},
    {"tma_load_piece_cycles", &SmSpec::tma_load_piece_cycles, true},
    {"tma_store_piece_cycles", &SmSpec::tma_store_piece_cycles, true},
    {"tma_completion_latency", &SmSpec::tma_completion_latency, true},
    {"mbarrier_latency", &SmSpec::mbarrier_latency},
    {"named_barrier_latency", &SmSpec::named_barrier_latency},
    {"wgmma_leaves_share", &SmSpec::wgmma_leaves_share},
    {"dsmem_latency", &SmSpec::dsmem_latency, true},
};

constexpr Field<L2Spec> kL2[] = {
    {"bytes", &L2Spec::bytes},
    {"partitions", &L2Spec::partitions},
    {"slices", &L2Spec::slices},
    {"ways", &L2Spec::ways},
    {"reused_share", &L2Spec::reused_share},
    {"slice_bytes_per_cycle", &L2Spec::slice_bytes_per_cycle},
    {"hit_latency", &L2Spec::hit_latency},
    {"far_latency", &L2Spec::far_latency, true},
    {"partition_link_bytes_per_cycle", &L2Spec::partition_link_bytes_per_cycle},
    {"gpc_bytes_per_cycle", &L2Spec::gpc_bytes_per_cycle},
    {"gpc_write_bytes_per_cycle", &L2Spec::gpc_write_bytes_per_cycle},
    {"clock_mhz", &L2Spec::clock_mhz},
};

constexpr Field<HbmSpec> kHbm[] = {
    {"stacks", &HbmSpec::stacks},
    {"channels_per_stack", &HbmSpec::channels_per_stack},
    {"pseudo_channels", &HbmSpec::pseudo_channels},
    {"stack_ids", &HbmSpec::stack_ids},
    {"bank_groups", &HbmSpec::bank_groups},
    {"banks_per_group", &HbmSpec::banks_per_group},
    {"page_bytes", &HbmSpec::page_bytes},
    {"access_bytes", &HbmSpec::access_bytes},
    {"capacity_bytes", &HbmSpec::capacity_bytes},
    {"pin_gbps", &HbmSpec::pin_gbps},
    {"pins_per_pseudo_channel", &HbmSpec::pins_per_pseudo_channel},
    {"tck_ns", &HbmSpec::tck_ns},
    {"nbl_ck", &HbmSpec::nbl_ck},
    {"nccd_s_ck", &HbmSpec::nccd_s_ck},
    {"nccd_l_ck", &HbmSpec::nccd_l_ck},
    {"nccd_r_ck", &HbmSpec::nccd_r_ck},
    {"nrtw_ck", &HbmSpec::nrtw_ck},
    {"nwtr_s_ck", &HbmSpec::nwtr_s_ck},
    {"nwtr_l_ck", &HbmSpec::nwtr_l_ck},
    {"nrrd_s_ck", &HbmSpec::nrrd_s_ck},
    {"nrrd_l_ck", &HbmSpec::nrrd_l_ck},
    {"nrtp_ck", &HbmSpec::nrtp_ck},
    {"nppd_ck", &HbmSpec::nppd_ck},
    {"nrrefd_ck", &HbmSpec::nrrefd_ck},
    {"tcl_ns", &HbmSpec::tcl_ns},
    {"tcwl_ns", &HbmSpec::tcwl_ns},
    {"trcd_rd_ns", &HbmSpec::trcd_rd_ns},
    {"trcd_wr_ns", &HbmSpec::trcd_wr_ns},
    {"trp_ns", &HbmSpec::trp_ns},
    {"tras_ns", &HbmSpec::tras_ns},
    {"trc_ns", &HbmSpec::trc_ns},
    {"twr_ns", &HbmSpec::twr_ns},
    {"tfaw_ns", &HbmSpec::tfaw_ns},
    {"trfc_pb_ns", &HbmSpec::trfc_pb_ns},
    {"trfc_ab_ns", &HbmSpec::trfc_ab_ns},
    {"trefi_ns", &HbmSpec::trefi_ns},
    {"per_bank_refresh", &HbmSpec::per_bank_refresh},
    {"read_queue", &HbmSpec::read_queue},
    {"write_queue", &HbmSpec::write_queue},
    {"write_drain_high", &HbmSpec::write_drain_high},
    {"write_drain_low", &HbmSpec::write_drain_low},
    {"hit_cap", &HbmSpec::hit_cap, true},
    {"row_hits_first", &HbmSpec::row_hits_first},
    {"refresh_exclusive", &HbmSpec::refresh_exclusive},
    {"l2_to_hbm_ns", &HbmSpec::l2_to_hbm_ns},
    {"hbm_to_l2_ns", &HbmSpec::hbm_to_l2_ns},
};

constexpr Field<PowerSpec> kPower[] = {
    {"cap_w", &PowerSpec::cap_w},
    {"peak_w", &PowerSpec::peak_w},
    {"average_ms", &PowerSpec::average_ms},
    {"idle_w", &PowerSpec::idle_w},
    {"tensor_pj_per_flop", &PowerSpec::tensor_pj_per_flop},
    {"tensor_zero_share", &PowerSpec::tensor_zero_share, true},
    {"fp32_pj_per_flop", &PowerSpec::fp32_pj_per_flop},
    {"mufu_pj_per_op", &PowerSpec::mufu_pj_per_op},
    {"shared_pj_per_byte", &PowerSpec::shared_pj_per_byte},
    {"l2_pj_per_byte", &PowerSpec::l2_pj_per_byte},
    {"hbm_pj_per_byte", &PowerSpec::hbm_pj_per_byte},
    {"link_pj_per_byte", &PowerSpec::link_pj_per_byte},
    {"voltage_exponent", &PowerSpec::voltage_exponent, true},
    {"min_clock_mhz", &PowerSpec::min_clock_mhz},
    {"window_us", &PowerSpec::window_us},
};

constexpr Field<Flash3Spec> kFlash3[] = {
    {"tile_search_cycles", &Flash3Spec::tile_search_cycles},
    {"tile_search_few_registers_cycles", &Flash3Spec::tile_search_few_registers_cycles},
    {"copy_chunk_cycles", &Flash3Spec::copy_chunk_cycles},
};

constexpr Field<LaunchSpec> kLaunch[] = {
    {"host_launch_us", &LaunchSpec::host_launch_us},
    {"graph_launch_us", &LaunchSpec::graph_launch_us},
    {"host_graph_us", &LaunchSpec::host_graph_us},
    {"first_instruction_us", &LaunchSpec::first_instruction_us},
    {"cta_launch_cycles", &LaunchSpec::cta_launch_cycles},
    {"completion_us", &LaunchSpec::completion_us},
};

constexpr Field<GpuSpec> kGpu[] = {
    {"boost_clock_mhz", &GpuSpec::boost_clock_mhz},
    {"overlap_exponent", &GpuSpec::overlap_exponent},
    {"nvlink_gb_per_s", &GpuSpec::nvlink_gb_per_s, true},
    {"price_usd_per_hour", &GpuSpec::price_usd_per_hour, true},
};

constexpr Field<ManufactureSpec> kManufacture[] = {
    {"dies", &ManufactureSpec::dies},
    {"die_mm2", &ManufactureSpec::die_mm2},
    {"wafer_usd", &ManufactureSpec::wafer_usd},
    {"wafer_mm", &ManufactureSpec::wafer_mm},
    {"defects_per_cm2", &ManufactureSpec::defects_per_cm2, true},
    {"defect_clustering", &ManufactureSpec::defect_clustering},
    {"spare_share", &ManufactureSpec::spare_share, true},
    {"hbm_usd_per_gb", &ManufactureSpec::hbm_usd_per_gb, true},
    {"package_usd", &ManufactureSpec::package_usd, true},
    {"package_yield", &ManufactureSpec::package_yield},
    {"board_usd", &ManufactureSpec::board_usd, true},
    {"margin", &ManufactureSpec::margin, true},
    {"server_usd", &ManufactureSpec::server_usd, true},
};

constexpr Field<FabricSpec> kFabric[] = {
    {"node_gb_per_s", &FabricSpec::node_gb_per_s},
    {"links", &FabricSpec::links},
    {"link_latency_ns", &FabricSpec::link_latency_ns, true},
    {"switch_latency_ns", &FabricSpec::switch_latency_ns, true},
    {"endpoint_latency_ns", &FabricSpec::endpoint_latency_ns, true},
    {"message_overhead_us", &FabricSpec::message_overhead_us, true},
    {"packet_bytes", &FabricSpec::packet_bytes},
    {"header_bytes", &FabricSpec::header_bytes, true},
    {"buffer_bytes", &FabricSpec::buffer_bytes},
    {"nodes_per_switch", &FabricSpec::nodes_per_switch},
    {"uplink_gb_per_s", &FabricSpec::uplink_gb_per_s, true},
    {"core_latency_ns", &FabricSpec::core_latency_ns, true},
};

void check_consistency(const Value& root, const GpuSpec& gpu) {
  const auto require = [](bool holds, const Value& at, const std::string& message) {
    if (!holds) throw at.error(message);
  };
  const Value sm = root.at("sm"), l2 = root.at("l2"), hbm = root.at("hbm");
  require(gpu.sm.shared_bytes_per_cta <= gpu.sm.shared_bytes, sm.at("shared_bytes_per_cta"),
          "a CTA cannot have more shared memory than the SM");
  require(gpu.l2.slices % gpu.l2.partitions == 0, l2.at("slices"), "must be a multiple of partitions");
  require(gpu.l2.ways == 16, l2.at("ways"), "only 16 ways are modelled");
  require(gpu.hbm.banks_per_group % 2 == 0 || gpu.hbm.bank_groups % 2 == 0, hbm.at("bank_groups"),
          "banks must pair up over bank groups");
  require(gpu.hbm.bank_groups <= 16, hbm.at("bank_groups"), "at most 16 bank groups are modelled");
  // A burst must move exactly access_bytes over the pseudo-channel's pins.
  const double bytes =
      gpu.hbm.pin_gbps * gpu.hbm.pins_per_pseudo_channel / 8 * gpu.hbm.nbl_ck * gpu.hbm.tck_ns;
  require(std::abs(bytes - static_cast<double>(gpu.hbm.access_bytes)) <
              0.02 * static_cast<double>(gpu.hbm.access_bytes),
          hbm.at("tck_ns"),
          fmt::format("nbl_ck cycles move {:.1f} bytes at pin_gbps, not access_bytes", bytes));
  require(gpu.power.idle_w < gpu.power.cap_w, root.at("power").at("idle_w"), "must lie below cap_w");
  require(gpu.power.min_clock_mhz <= gpu.boost_clock_mhz, root.at("power").at("min_clock_mhz"),
          "must not exceed boost_clock_mhz");
}

}  // namespace

GpuSpec read_gpu(const std::filesystem::path& file) { return read_gpu(Document::read(file)); }

GpuSpec read_gpu(const Document& document) {
  const Value root = document.root();
  GpuSpec gpu;
  read_fields(root, kGpu, gpu,
              {"name", "product", "architecture", "description", "calibration", "gpc_sms", "sm", "l2", "hbm",
               "power", "launch", "flash3", "manufacture"});
  gpu.name = root.at("name").as_string();
  gpu.product = root.at("product").as_string();
  gpu.architecture = root.at("architecture").as_one_of({"ampere", "hopper"}) == "hopper"
                         ? GpuArchitecture::hopper
                         : GpuArchitecture::ampere;
  gpu.calibration = summary_of(read_calibration(document));
  for (const Value& sms : sourced(root.at("gpc_sms")).items())
    gpu.gpc_sms.push_back(static_cast<int>(sms.as_integer(1, 255)));
  if (gpu.gpc_sms.empty() || gpu.gpc_sms.size() > 16) throw root.at("gpc_sms").error("expected 1 to 16 GPCs");
  read_fields(root.at("sm"), kSm, gpu.sm);
  read_fields(root.at("l2"), kL2, gpu.l2);
  read_fields(root.at("hbm"), kHbm, gpu.hbm);
  read_fields(root.at("power"), kPower, gpu.power);
  read_fields(root.at("launch"), kLaunch, gpu.launch);
  read_fields(root.at("flash3"), kFlash3, gpu.flash3);
  check_consistency(root, gpu);
  check_fitted_count(document);
  return gpu;
}

ManufactureSpec read_manufacture(const Document& document) {
  ManufactureSpec spec;
  const auto map = document.root().find("manufacture");
  if (!map) return spec;
  read_fields(*map, kManufacture, spec);
  for (const auto& [key, most] : {std::pair{"spare_share", spec.spare_share}, {"margin", spec.margin}}) {
    if (most >= 1) throw map->at(key).error("must be less than 1");
  }
  if (spec.package_yield > 1) throw map->at("package_yield").error("must be at most 1");
  return spec;
}

FabricSpec read_fabric(const std::filesystem::path& file) { return read_fabric(Document::read(file)); }

FabricSpec read_fabric(const Document& document) {
  const Value root = document.root();
  FabricSpec fabric;
  read_fields(root, kFabric, fabric, {"name", "kind", "description"});
  fabric.name = root.at("name").as_string();
  const std::string kind = root.at("kind").as_one_of({"nvlink", "infiniband", "ethernet", "wan"});
  fabric.kind = kind == "nvlink"       ? FabricKind::nvlink
                : kind == "infiniband" ? FabricKind::infiniband
                : kind == "ethernet"   ? FabricKind::ethernet
                                       : FabricKind::wan;
  if (fabric.buffer_bytes < fabric.packet_bytes + fabric.header_bytes) {
    throw root.at("buffer_bytes").error("must hold at least one packet with its header");
  }
  return fabric;
}

}  // namespace tessera::config
