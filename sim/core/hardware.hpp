#pragma once
// What a machine is made of, as plain data. Read from configs/hardware/*.yaml and configs/fabrics/*.yaml
// by configs/reader; used by kernels (tile shapes), sim (timing) and the cost model. No SystemC here.
//
// Latencies inside the GPU are in SM cycles unless the name ends in _ns; bandwidths in bytes per cycle of
// the named clock, or GB/s (10^9 bytes per second) where the name says so.

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

enum class GpuArchitecture { ampere, hopper };

/// One streaming multiprocessor.
struct SmSpec {
  int subcores = 4;
  double fp32_lanes = 128;                     ///< FMA results per cycle
  double int_lanes = 64;                       ///< integer and logic results per cycle
  double mufu_per_cycle = 16;                  ///< exp2, rcp, rsqrt, ... results per cycle
  double conversions_per_cycle = 64;           ///< fp32 -> bf16 pairs and other F2F results per cycle
  double tensor_flops_per_cycle = 4096;        ///< dense bf16, one FMA = 2 FLOP
  double mma_flops_per_cycle = 4096;           ///< the same by mma.sync, whose operands are all in registers
  double tensor_latency = 33;                  ///< cycles from the last operand read to a result's visibility
  std::int64_t registers = 65536;              ///< 32-bit registers
  std::int64_t shared_bytes = 233472;          ///< shared memory of the SM
  std::int64_t shared_bytes_per_cta = 232448;  ///< most one CTA may have
  std::int64_t shared_bytes_reserved_per_cta = 1024;
  int max_threads = 2048;
  int max_ctas = 32;
  double shared_bytes_per_cycle = 128;
  double shared_latency = 30;
  double l1_latency = 38;
  double ingress_bytes_per_cycle = 128;  ///< from the crossbar into the SM
  double l1_fill_bytes_per_cycle =
      64;                              ///< of those, for loads and copies of threads, which go through the L1
  double egress_bytes_per_cycle = 15;  ///< from the SM into the crossbar
  bool has_tma = true;
  double tma_issue_latency = 60;   ///< instruction issue to the first request leaving the SM
  double tma_lines_per_cycle = 1;  ///< 128 B lines requested per cycle
  /// Cycles for each piece of a box, where shared memory holds its rows in pieces of less than a line.
  double tma_load_piece_cycles = 2, tma_store_piece_cycles = 3;
  double tma_completion_latency = 40;  ///< data in shared memory to the mbarrier's transaction count
  double mbarrier_latency = 20;        ///< arrive to a waiter's next instruction
  double named_barrier_latency = 20;
  double wgmma_leaves_share = 1;  ///< of the register bandwidth, to others while a wgmma or mma.sync runs
  double dsmem_latency = 180;     ///< a remote arrive or store inside a cluster
};

struct L2Spec {
  std::int64_t bytes = 62914560;
  int partitions = 2;
  int slices = 96;  ///< over all partitions
  int ways = 16;
  double reused_share = 1;  ///< of the capacity: what a replayed kernel may touch and still find again
  double slice_bytes_per_cycle = 64;  ///< of the L2 clock
  double hit_latency = 200;           ///< SM cycles from SM egress to SM ingress, near partition, unloaded
  double far_latency = 80;            ///< additional, to the other partition and back
  double partition_link_bytes_per_cycle = 1536;  ///< between the partitions, each direction
  double gpc_bytes_per_cycle = 640;              ///< crossbar port of one GPC, to its SMs
  double gpc_write_bytes_per_cycle = 450;        ///< the same, from its SMs
  double clock_mhz = 1620;
};

/// One HBM generation's timings. `_ck` in command clock cycles (tCK), `_ns` in nanoseconds.
struct HbmSpec {
  int stacks = 6;
  int channels_per_stack = 16;
  int pseudo_channels = 2;  ///< per channel
  int stack_ids = 1;        ///< SIDs (ranks) per pseudo-channel
  int bank_groups = 4;      ///< per SID
  int banks_per_group = 4;
  std::int64_t page_bytes = 1024;  ///< row of one pseudo-channel
  std::int64_t access_bytes = 32;  ///< one burst
  std::int64_t capacity_bytes = 151397597184;
  double pin_gbps = 6.25;  ///< Gb/s per pin
  int pins_per_pseudo_channel = 32;
  double tck_ns = 0.64;  ///< command clock: four data bits per pin and tCK
  int nbl_ck = 2, nccd_s_ck = 2, nccd_l_ck = 4, nccd_r_ck = 3, nrtw_ck = 20, nwtr_s_ck = 7, nwtr_l_ck = 10;
  int nrrd_s_ck = 4, nrrd_l_ck = 5, nrtp_ck = 9, nppd_ck = 2, nrrefd_ck = 8;
  double tcl_ns = 12.5, tcwl_ns = 6.25, trcd_rd_ns = 19.375, trcd_wr_ns = 9.375, trp_ns = 16.25,
         tras_ns = 28.125;
  double trc_ns = 45, twr_ns = 20.625, tfaw_ns = 15, trfc_pb_ns = 200, trfc_ab_ns = 350, trefi_ns = 3900;
  bool per_bank_refresh = true;
  int read_queue = 64;  ///< requests a pseudo-channel's scheduler sees
  int write_queue = 64;
  int write_drain_high = 48, write_drain_low = 16;
  int hit_cap = 16;                ///< hits in a row while another row of the bank waits; 0: no limit
  bool row_hits_first = true;      ///< else a row is closed as soon as another is asked for and timings allow
  bool refresh_exclusive = false;  ///< nothing new is begun while a refresh waits, in any bank
  double l2_to_hbm_ns = 60;        ///< L2 miss to the controller's queue, one way
  double hbm_to_l2_ns = 60;        ///< last data beat to the L2 slice, one way

  /// What all pins together move.
  double peak_bytes_per_us() const {
    return static_cast<double>(stacks) * channels_per_stack * pseudo_channels * pins_per_pseudo_channel *
           pin_gbps / 8 * 1e3;
  }
};

struct PowerSpec {
  double cap_w = 700;                ///< what the mean over average_ms may reach
  double peak_w = 880;               ///< what may be drawn meanwhile
  double average_ms = 25;            ///< time constant of the mean that is held below cap_w
  double idle_w = 110;               ///< leakage and idle clocks at temperature
  double tensor_pj_per_flop = 0.95;  ///< operands switching at random, at nominal voltage
  double tensor_zero_share = 0.5;    ///< the part of it left when every operand is zero
  double fp32_pj_per_flop = 5.0;
  double mufu_pj_per_op = 20.0;
  double shared_pj_per_byte = 2.0;
  double l2_pj_per_byte = 8.0;
  double hbm_pj_per_byte = 32.0;
  double link_pj_per_byte = 10.4;
  double voltage_exponent = 2.0;  ///< dynamic energy per operation falls as (f / f_boost)^this
  double min_clock_mhz = 1200;
  double window_us = 20;  ///< how often the governor looks
};

struct LaunchSpec {
  double host_launch_us = 2.5;        ///< a kernel launched from the host, stream already busy: not hidden
  double graph_launch_us = 1.2;       ///< node to dependent node in a CUDA graph
  double host_graph_us = 4;           ///< the host's call that launches a CUDA graph
  double first_instruction_us = 0.8;  ///< grid start to the first CTA's first instruction
  double cta_launch_cycles = 300;     ///< a CTA slot falls free to its next CTA's first instruction
  double completion_us = 0.5;         ///< last CTA's exit, flushes, to the grid's completion
};

/// What the producer warps of FlashAttention-3's paged kernel spend on instructions that wait for each other.
/// They are properties of its machine code more than of the part, but in SM cycles.
struct Flash3Spec {
  double tile_search_cycles = 2400;                ///< the way to the next tile, with 56 registers per thread
  double tile_search_few_registers_cycles = 5000;  ///< with 40 or 32, beside two or three consumers
  double copy_chunk_cycles = 60;                   ///< a thread's cp.async of 16 B
};

struct GpuSpec {
  std::string name;     ///< "h200_sxm"
  std::string product;  ///< "NVIDIA H200 SXM 141GB"
  GpuArchitecture architecture = GpuArchitecture::hopper;
  std::vector<int> gpc_sms;  ///< SMs of each GPC
  double boost_clock_mhz = 1980;
  SmSpec sm;
  L2Spec l2;
  HbmSpec hbm;
  PowerSpec power;
  LaunchSpec launch;
  double overlap_exponent =
      6;  ///< cost model: of the norm that joins what SMs, L2 and HBM need; large: all overlaps
  Flash3Spec flash3;
  double nvlink_gb_per_s = 450;   ///< per direction
  double price_usd_per_hour = 0;  ///< 0: not stated
  std::string calibration = "uncalibrated";

  int sms() const {
    int n = 0;
    for (const int g : gpc_sms) n += g;
    return n;
  }
};

enum class FabricKind { nvlink, infiniband, ethernet, wan };

/// A network between nodes: every node has `links` links into a first-level switch; switches are joined
/// to a core when `nodes_per_switch` is smaller than the number of nodes.
struct FabricSpec {
  std::string name;
  FabricKind kind = FabricKind::nvlink;
  double node_gb_per_s = 450;        ///< payload rate of a node's port, per direction, all links together
  int links = 18;                    ///< physical links the port is striped over (reporting only)
  double link_latency_ns = 100;      ///< wire and SerDes, per hop
  double switch_latency_ns = 100;    ///< forwarding, per switch
  double endpoint_latency_ns = 350;  ///< software and NIC, each end
  double message_overhead_us = 0;  ///< sender's cost per message, serial per node (library, kernel, syscall)
  std::int64_t packet_bytes = 4096;    ///< payload per packet (or packet train) of the simulation
  std::int64_t header_bytes = 0;       ///< wire overhead per packet
  std::int64_t buffer_bytes = 131072;  ///< input buffer per switch port: what credits stand for
  int nodes_per_switch = 1 << 20;      ///< nodes under one first-level switch
  double uplink_gb_per_s = 0;          ///< first-level switch to core, per direction; 0: non-blocking
  double core_latency_ns = 0;          ///< extra latency through the core, one way (the distance of a WAN)
};

}  // namespace tessera
