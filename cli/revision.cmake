# Writes the source's revision, if it changed: cmake -DSOURCE=... -DOUT=... -P revision.cmake
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 OUTPUT_VARIABLE revision
                OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
file(CONFIGURE OUTPUT ${OUT} CONTENT "#pragma once\n#define TESSERA_REVISION \"${revision}\"\n")
