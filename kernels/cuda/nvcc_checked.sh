#!/bin/sh
# Runs nvcc (with --ptxas-options=-v) and fails where ptxas tells of registers spilt to memory in a kernel of ours (CUB's are
# as they are), or of wgmma products that it serialised (its C7510 to C7519, but for the notes C7519 and C7518 on fences it
# adds): such a kernel does not measure what it is written to. What ptxas said of each kernel is left in OBJECT.ptxas.
object=/dev/null
previous=
for word in "$@"; do
  [ "$previous" = -o ] && object=$word
  previous=$word
done
said=$("$@" 2>&1)
status=$?
printf '%s\n' "$said" | grep -v '^ptxas info\|bytes stack frame\|^$' >&2
[ "$object" != /dev/null ] && [ $status -eq 0 ] && printf '%s\n' "$said" > "$object.ptxas"
if printf '%s\n' "$said" | awk '
    /Function properties for/ { kernel = $NF }
    /[^0-9][1-9][0-9]* bytes spill/ && kernel !~ /3cub/ { print kernel ":" $0; found = 1 }
    /serialized|Potential Performance Loss/ { print; found = 1 }
    END { exit !found }' >&2; then
  echo "kernels/cuda/nvcc_checked.sh: expected no spilt registers and no serialised products" >&2
  exit 1
fi
exit $status
