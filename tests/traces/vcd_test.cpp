#include "traces/timelines/vcd.hpp"

#include <catch2/catch_test_macros.hpp>
#include <string>

using namespace tessera;
using namespace tessera::traces;

TEST_CASE("a value change dump declares its signals and then changes them in order of time") {
  VcdTimeline t;
  t.name_process(1, "comp 0");
  t.slice(1, 1, Time::microseconds(2), Time::microseconds(5), "mlp layer 1", "mlp", "");
  t.counter(1, Time::microseconds(1), "HBM", 12.5);
  t.slice(1, 1, Time::microseconds(5), Time::microseconds(6), "next", "mlp", "");
  t.name_track(1, 1, "compute stream");
  t.note("slices", "all");
  CHECK(t.finish() ==
        "$timescale 1 ns $end\n"
        "$comment slices: all $end\n"
        "$scope module comp_0 $end\n"
        "$var wire 1 ! compute_stream_busy $end\n"
        "$var string 1 \" compute_stream $end\n"
        "$var real 64 # HBM_percent $end\n"
        "$upscope $end\n"
        "$enddefinitions $end\n"
        "#0\n$dumpvars\n0!\nsidle \"\nr0 #\n$end\n"
        "#1000\nr12.50 #\n"
        "#2000\n1!\nsmlp_layer_1 \"\n"
        "#5000\n0!\nsidle \"\n1!\nsnext \"\n"
        "#6000\n0!\nsidle \"\n");
}
