#!/bin/sh
# Build and install cropline-regions if possible. Otherwise print the reason in one line and succeed: Pillow decodes instead.
# Usage: install.sh UV PYTHON
here=$(cd "$(dirname "$0")" && pwd)
include=$("$2" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
say() { echo "cropline-regions is not built ($1): Pillow decodes, with the same pixels"; exit 0; }

command -v "${CC:-cc}" >/dev/null || say "no C compiler"
[ -e "$include/Python.h" ] || say "no Python headers"
printf '#include <stdio.h>\n#include <jpeglib.h>\n' | "${CC:-cc}" -E - >/dev/null 2>&1 ||
    say "no libjpeg-turbo headers; Debian: apt-get install libjpeg62-turbo-dev"
log=$("$1" pip install -q --python "$2" --no-deps --no-build-isolation --reinstall-package cropline-regions "$here" 2>&1) ||
    { echo "$log" >&2; say "the compiler failed, see above"; }
why=$("$2" -c 'import cropline_regions' 2>&1) || say "$(echo "$why" | tail -1)"
