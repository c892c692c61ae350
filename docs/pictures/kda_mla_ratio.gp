# tessera sweep kda_mla_ratio --out r.db; tessera export r.db --csv kda_mla_ratio.csv; gnuplot kda_mla_ratio.gp
set datafile separator comma
set datafile missing NaN
set terminal svg size 760,340 font "sans,12" background "white"
set output "kda_mla_ratio.svg"
# The lists of layers, whose commas would part columns, go; points go through the ratios fastest.
data = "< sed 's/\"[^\"]*\"/-/g' kda_mla_ratio.csv"
set multiplot layout 1,2
set grid y
set logscale x 2
set xlabel "HBM bandwidth, TB/s"
set ylabel "decode, ms per token"
set xtics ("2.4" 2.4, "3.2" 3.2, "4.8" 4.8, "6.4" 6.4, "9.6" 9.6)
name(n) = word("1:1 3:1 6:1 12:1 26:1", n)
at(c, n) = (strcol("workload.prefill_tokens") eq c && int(column("id")) % 5 == n - 1 ? column("decode_us_per_token") * 1e-3 : NaN)
set yrange [2:9]
set title "128K tokens before"
plot for [n=1:5] data using (0.8 * column("hardware.comp.hbm.stacks")):(at("128K", n)) with linespoints pt 7 title "KDA:MLA ".name(n)
set title "512K tokens before"
unset key
plot for [n=1:5] data using (0.8 * column("hardware.comp.hbm.stacks")):(at("512K", n)) with linespoints pt 7
unset multiplot
