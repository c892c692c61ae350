# tessera sweep moba_block_topk --out r.db; tessera export r.db --csv moba_block_topk.csv; gnuplot moba_block_topk.gp
set datafile separator comma
set datafile missing NaN
set terminal svg size 760,340 font "sans,12" background "white"
set output "moba_block_topk.svg"
set multiplot layout 1,2
set grid y
set logscale x 2
set xlabel "block, tokens"
set ylabel "prefill of 128K tokens, s"
at(k, l, s) = (column("model.moba.topk") == k && strcol("hardware.comp.l2.bytes") eq l && column("hardware.comp.hbm.stacks") == s ? column("latency_us") * 1e-6 : NaN)
set xtics (512, 1024, 2048, 4096, 8192)
set xrange [450:9300]
set yrange [0:34]
set key top left
set title "an H200's 60 MB of L2, 6 stacks"
plot for [k in "4 8 12 16 32"] "moba_block_topk.csv" using (column("model.moba.block")):(at(int(k), "60M", 6)) with linespoints pt 7 title "top-k ".k
set title "top-k 8: L2 and HBM"
plot "moba_block_topk.csv" using (column("model.moba.block")):(at(8, "30M", 6)) with linespoints pt 7 title "30 MB, 6 stacks", \
  "" using (column("model.moba.block")):(at(8, "60M", 6)) with linespoints pt 7 title "60 MB, 6 stacks", \
  "" using (column("model.moba.block")):(at(8, "120M", 6)) with linespoints pt 7 title "120 MB, 6 stacks", \
  "" using (column("model.moba.block")):(at(8, "60M", 3)) with linespoints pt 6 dt 2 title "60 MB, 3 stacks", \
  "" using (column("model.moba.block")):(at(8, "60M", 12)) with linespoints pt 6 dt 2 title "60 MB, 12 stacks"
unset multiplot
