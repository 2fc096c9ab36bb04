#!/bin/bash
# Installs what tests, lab and demo need. Idempotent: a second run takes under a second.
#
#   install.sh [GROUP…]     groups: unit consul ovs docker engine lint vm packages debian registry; default: consul ovs docker
#
# Debian packages come by apt; what Debian lacks is built from the modules beside this file into
# ${SOCKETPLANE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/socketplane}, outside the checkout.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${SOCKETPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/socketplane}
mkdir -p "$cache/bin" "$cache/engine/bin" "$cache/stamps"
exec 9>"$cache/install.lock"
flock 9
go_version=$(go env GOVERSION)

say() { echo "install: $*"; }

# try COMMAND…: up to three times, as downloads time out now and then; quiet unless all fail.
try() {
	local n
	for n in 1 2 3; do
		"$@" >"$cache/last.log" 2>&1 && return 0
		say "attempt $n of 3 failed: $1 ${2-} ${3-}"
	done
	say "the end of its output:"; tail -n 30 "$cache/last.log" >&2
	return 1
}

# packages NAME…: installs the Debian packages that are missing.
packages() {
	local missing=() name
	for name in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then say "these packages are missing, and installing them needs root: ${missing[*]}" >&2; return 1; fi
	if [ -z "${updated-}" ]; then say "apt-get update"; try timeout 300 apt-get update -qq; updated=1; fi
	say "apt-get install ${missing[*]}"
	DEBIAN_FRONTEND=noninteractive try timeout 900 apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# build MODULE OUTDIR FLAGS PACKAGE…: builds programs of the module test/tools/MODULE, unless that was done
# with the same versions.
build() {
	local module=$1 out=$2 flags=$3 stamp want pkg have=1; shift 3
	stamp="$cache/stamps/$module"
	want=$(cat "$here/$module/go.mod" <(echo "$go_version $flags $*") | sha256sum)
	for pkg in "$@"; do [ -x "$out/${pkg##*/}" ] || have=; done
	[ -z "$have" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || return 0
	say "downloading the modules of $module"
	(cd "$here/$module" && try timeout 600 go list -mod=readonly -deps -f . "$@")
	say "building $module (minutes, the first time)"
	# shellcheck disable=SC2086 # the flags are several words
	(cd "$here/$module" && GOFLAGS= try timeout 2400 go build -mod=readonly -trimpath $flags -o "$out/" "$@")
	echo "$want" >"$stamp"
}

# debian: a fresh Debian root with systemd and Open vSwitch, which nothing has been installed into yet.
debian() {
	local root="$cache/debian/root" new="$cache/debian/new"
	[ ! -e "$root" ] || return 0
	say "debootstrap (a minute)"
	rm -rf "$new"; mkdir -p "$cache/debian"
	try debootstrap --variant=minbase --include=systemd,systemd-sysv,iproute2,openvswitch-switch,procps bookworm "$new" http://deb.debian.org/debian
	rm -rf "$new"/var/cache/apt/archives/*.deb "$new"/var/lib/apt/lists/*
	mv "$new" "$root"
}

group() {
	case $1 in
	unit) ;;
	consul) build consul "$cache/bin" "-ldflags=-s" github.com/hashicorp/consul ;;
	ovs) packages openvswitch-switch iproute2 ethtool procps util-linux ;;
	docker)
		packages docker.io docker-compose containerd runc iptables nftables iputils-ping iperf3 tcpdump busybox-static procps util-linux iproute2
		command -v docker >/dev/null || packages docker-cli ;;
	engine)
		packages libseccomp-dev pkg-config gcc libc6-dev
		CGO_ENABLED=0 build engine "$cache/engine/bin" "-ldflags=-X=github.com/moby/moby/v2/dockerversion.Version=29.8.0" \
			github.com/moby/moby/v2/cmd/dockerd github.com/moby/moby/v2/cmd/docker-proxy
		CGO_ENABLED=0 build containerd "$cache/engine/bin" "-ldflags=-s" \
			github.com/containerd/containerd/v2/cmd/containerd github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
		CGO_ENABLED=1 build runc "$cache/engine/bin" "-tags=seccomp" github.com/opencontainers/runc ;;
	lint) build staticcheck "$cache/bin" "-ldflags=-s" honnef.co/go/tools/cmd/staticcheck ;;
	vm) packages qemu-system-x86 kmod xz-utils ;;
	packages)
		build nfpm "$cache/bin" "-ldflags=-s" github.com/goreleaser/nfpm/v2/cmd/nfpm
		build cyclonedx "$cache/bin" "-ldflags=-s" github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod ;;
	registry) build registry "$cache/bin" "-ldflags=-s" github.com/google/go-containerregistry/cmd/registry ;;
	debian) packages debootstrap util-linux iproute2 rpm qemu-user-static; debian ;;
	*) say "unknown group '$1'; there are: unit consul ovs docker engine lint vm packages debian registry" >&2; return 2 ;;
	esac
}

[ $# -gt 0 ] || set -- consul ovs docker
for name in "$@"; do group "$name"; done
