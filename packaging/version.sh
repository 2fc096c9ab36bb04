#!/bin/sh
# The packages' version, from what `git describe --tags --always --dirty` says: dpkg and rpm sort it as versions of ours are meant.
#
#   v1.2.3 → 1.2.3    v1.2.3-rc.1 → 1.2.3~rc.1    v1.2.3-4-gabc → 1.2.3+4.gabc    abc → 0.0.0+gabc
set -eu
case "${1-}" in
v[0-9]*) echo "${1#v}" | sed -E 's/-([0-9]+)-(g[0-9a-f]+)/+\1.\2/; s/-dirty$/.dirty/; s/-/~/; s/-/./g' ;;
'') echo 0.0.0 ;;
*) echo "0.0.0+g$1" | tr - . ;;
esac
