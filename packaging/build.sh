#!/bin/bash
# Builds packages, or all of a release, for linux/amd64 and linux/arm64. The same commit gives the same bytes.
#
#   build.sh binary|packages|release OUT     VERSION (git describe), COMMIT, ARCHES and STAGE (a directory of its own) come from the environment
#
# It needs nfpm, and for a release cyclonedx-gomod: test/tools/install.sh packages.
set -euo pipefail
what=$1 out=$2
cd "$(dirname "$0")/.."
: "${VERSION=}" "${COMMIT=}" "${ARCHES=amd64 arm64}" "${STAGE=build/package}"
tools=${SOCKETPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/socketplane}/bin
# The commit's time, so that no build tells when it was.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
PACKAGE_VERSION=$(packaging/version.sh "$VERSION")
export STAGE SOURCE_DATE_EPOCH PACKAGE_VERSION CGO_ENABLED=0 GOOS=linux GOFLAGS=-buildvcs=false
vars=github.com/socketplane/socketplane/internal/version

# binary ARCH: the program, by version and architecture only.
binary() {
	GOARCH=$1 go build -trimpath -ldflags "-s -w -X $vars.version=${VERSION:-devel} -X $vars.commit=${COMMIT:-unknown}" \
		-o "$STAGE/$1/socketplane" ./cmd/socketplane
}

packages() {
	local arch kind
	rm -rf "$STAGE"
	mkdir -p "$STAGE/files" "$out"
	go run ./packaging/generate "$STAGE"
	cp internal/setup/files/* LICENSE CHANGELOG.md "$STAGE/files/"
	for arch in $ARCHES; do binary "$arch"; done
	find "$STAGE" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	for arch in $ARCHES; do
		for kind in deb rpm; do
			ARCH=$arch "$tools/nfpm" package --config packaging/nfpm.yaml --packager $kind --target "$out/" | grep -v "^using\|^created" || [ "${PIPESTATUS[0]}" = 0 ]
		done
	done
}

release() {
	local arch
	rm -rf "$out"
	packages
	for arch in $ARCHES; do
		install -m 755 "$STAGE/$arch/socketplane" "$out/socketplane-linux-$arch"
		# What is in the binary, as the binary itself records it; neither a serial number nor a time.
		"$tools/cyclonedx-gomod" bin -json -noserial -notimestamp -std -version "${VERSION:-devel}" -output "$out/socketplane-linux-$arch.cdx.json" \
			"$STAGE/$arch/socketplane"
	done
	install -m 755 packaging/install.sh "$out/install.sh"
	(cd "$out" && sha256sum -- * >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS)
}

# binaries alone, for tests
only_binary() {
	local arch
	mkdir -p "$out"
	for arch in $ARCHES; do binary "$arch"; install -m 755 "$STAGE/$arch/socketplane" "$out/socketplane-linux-$arch"; done
}

case $what in
binary) only_binary ;;
packages | release) "$what" ;;
*) echo "build.sh: binary, packages or release, not $what" >&2; exit 2 ;;
esac
ls -l "$out"
