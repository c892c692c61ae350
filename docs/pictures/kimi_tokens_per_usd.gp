# tessera sweep kimi_tokens_per_usd --out r.db; tessera export r.db --csv kimi_tokens_per_usd.csv; gnuplot kimi_tokens_per_usd.gp
set datafile separator comma
set datafile missing NaN
set terminal svg size 760,340 font "sans,12" background "white"
set output "kimi_tokens_per_usd.svg"
set multiplot layout 1,2
set grid y
set logscale x 2
set logscale y
set xrange [0.9:36]
set ytics (10e3, 20e3, 50e3, 100e3, 200e3, 500e3, 1e6, 2e6, 5e6)
set xlabel "batch"
set xtics (1, 2, 4, 8, 16, 32)
# A step decodes a token of each sequence; the machine is paid for by the hour.
per_usd(g, b) = (strcol("hardware.comp") eq g && strcol("money.basis") eq b && strcol("status") eq "ok" ? column("workload.batch") * 3.6e9 / column("decode_us_per_token") / column("usd_per_hour") : NaN)
set ylabel "decoded tokens per USD"
set key bottom right
set format y "%.0s%c"
set title "rented"
set yrange [40e3:600e3]
plot for [g in "a100_sxm_80gb h100_sxm h200_sxm b200_sxm"] "kimi_tokens_per_usd.csv" using (column("workload.batch")):(per_usd(g, "rental")) with linespoints pt 7 title g noenhanced
set title "owned (estimate)"
set yrange [150e3:2e6]
unset key
plot for [g in "a100_sxm_80gb h100_sxm h200_sxm b200_sxm"] "kimi_tokens_per_usd.csv" using (column("workload.batch")):(per_usd(g, "capital")) with linespoints pt 7
unset multiplot
