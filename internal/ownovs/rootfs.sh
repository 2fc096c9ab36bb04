#!/bin/bash
# Makes the managed plugin's root file system from this machine's Debian packages, without any registry.
#
#   rootfs.sh DIR SOCKETPLANE [CONSUL]     DIR must not exist
#
# It takes Open vSwitch's programs with the libraries that ldd names, our program, and consul's if given. The same inputs give the same
# bytes: times and owners are fixed.
set -euo pipefail
root=$1 socketplane=$2 consul=${3-}
[ ! -e "$root" ] || { echo "rootfs: $root is there already: remove it" >&2; exit 1; }
mkdir -p "$root"/{bin,dev,etc/ssl/certs,proc,sys,tmp,run,host/run,var/lib/socketplane,usr/share/openvswitch}
ln -s /run "$root/var/run"

# take PROGRAM: copies it to /bin, and what it is linked with to where that is here.
take() {
	local lib
	install -m 755 "$1" "$root/bin/${1##*/}"
	ldd "$1" 2>/dev/null | grep -oE '/[^ ]+' | while read -r lib; do
		[ -e "$root$lib" ] || install -D -m 755 "$lib" "$root$lib"
	done
}

for name in ovsdb-server ovsdb-tool ovs-vswitchd ovs-vsctl ovs-ofctl ovs-appctl ovs-dpctl; do
	program=$(command -v $name) || { echo "rootfs: there is no $name: apt-get install openvswitch-switch" >&2; exit 1; }
	take "$(readlink -f "$program")"
	[ -e "$root/bin/$name" ] || mv "$root/bin/$(basename "$(readlink -f "$program")")" "$root/bin/$name"
done
install -m 644 /usr/share/openvswitch/vswitch.ovsschema "$root/usr/share/openvswitch/"
install -m 755 "$socketplane" "$root/bin/socketplane"
[ -z "$consul" ] || install -m 755 "$consul" "$root/bin/consul"
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || install -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'root:x:0:0:root:/:/bin/false' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
: >"$root/etc/hosts"; : >"$root/etc/resolv.conf" # Docker mounts the host's over them
find "$root" -exec touch -h -d @0 {} +
