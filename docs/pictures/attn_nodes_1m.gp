# tessera sweep attn_nodes_1m --out r.db; tessera export r.db --csv attn_nodes_1m.csv; gnuplot attn_nodes_1m.gp
set datafile separator comma
set datafile missing NaN
set terminal svg size 760,340 font "sans,12" background "white"
set output "attn_nodes_1m.svg"
set multiplot layout 1,2
set key top right
set logscale y
set xlabel "AttnNodes"
set xtics ("1" 1, "4" 4, "9" 9, "16" 16, "36" 36, "64" 64)
set logscale x
set xrange [0.9:75]
set grid y
at(f, c) = (strcol("fabric") eq f ? column(c) : NaN)
set ylabel "prefill of 1M tokens, s"
plot for [f in "nvlink4_nvswitch infiniband_ndr ethernet_100g_lan"] "attn_nodes_1m.csv" using (column("attn_nodes")):(at(f, "latency_us") * 1e-6) with linespoints pt 7 title f noenhanced
set ylabel "tokens per USD (thousand)"
unset key
plot for [f in "nvlink4_nvswitch infiniband_ndr ethernet_100g_lan"] "attn_nodes_1m.csv" using (column("attn_nodes")):(at(f, "tokens_per_usd") * 1e-3) with linespoints pt 7
unset multiplot
