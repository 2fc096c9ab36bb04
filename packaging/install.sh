#!/bin/sh
# Installs SocketPlane from files that are here already: a package, or the directory of a release (by default the one of this script).
# It fetches nothing but what the package manager does for the package, tells what it is going to do, and asks.
#
#   install.sh [--yes] [PACKAGE|DIRECTORY]
#   install.sh --undo [--purge] [--yes]      removes it again; with --purge also settings and state
set -eu

yes= undo= purge= from=
for arg in "$@"; do
	case $arg in
	--yes | -y) yes=1 ;;
	--undo) undo=1 ;;
	--purge) purge=1 ;;
	--help | -h) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
	-*) echo "install.sh: there is no option $arg: see install.sh --help" >&2; exit 2 ;;
	*) from=$arg ;;
	esac
done

fail() { echo "install.sh: $*" >&2; exit 1; }

# agree LINE…: tells what is going to be done and asks.
agree() {
	echo "This is going to be done:"
	for line in "$@"; do echo "  - $line"; done
	[ -z "$yes" ] || return 0
	printf 'Go on? [y/N] '
	read -r answer || answer=
	case $answer in
	y | Y | yes) ;;
	*) echo; fail "nothing was done (--yes answers in advance)" ;;
	esac
}

has() { command -v "$1" >/dev/null 2>&1; }

[ "$(id -u)" = 0 ] || fail "this needs root: sudo $0 $*"

if [ -n "$undo" ]; then
	if has dpkg && dpkg -s socketplane >/dev/null 2>&1; then
		verb=remove; [ -z "$purge" ] || verb=purge
		agree "dpkg --$verb socketplane" "containers keep talking${purge:+, unless nothing uses the bridge: then it goes too}"
		dpkg --$verb socketplane
	elif has rpm && rpm -q socketplane >/dev/null 2>&1; then
		agree "rpm --erase socketplane" ${purge:+"socketplane clean, once the agent is stopped"}
		if [ -n "$purge" ]; then
			systemctl stop socketplane.socket socketplane-admin.socket socketplane.service
			socketplane clean --yes
		fi
		rpm --erase socketplane
	elif has socketplane && [ -e /etc/systemd/system/socketplane.service ]; then
		agree "socketplane uninstall" ${purge:+"socketplane clean"}
		cp "$(command -v socketplane)" /run/socketplane-undo
		trap 'rm -f /run/socketplane-undo' EXIT
		/run/socketplane-undo uninstall --yes
		[ -z "$purge" ] || /run/socketplane-undo clean --yes
	else
		fail "SocketPlane is not installed here"
	fi
	exit 0
fi

case $(uname -m) in
x86_64) arch=amd64 rpmarch=x86_64 ;;
aarch64) arch=arm64 rpmarch=aarch64 ;;
*) fail "there is no package for $(uname -m): only x86_64 and aarch64" ;;
esac

# What to install: the one file that fits this host.
[ -n "$from" ] || from=$(dirname "$0")
if [ -d "$from" ]; then
	dir=$from
	if has dpkg && has apt-get; then pattern="socketplane_*_$arch.deb"
	elif has rpm; then pattern="socketplane-*.$rpmarch.rpm"
	else pattern="socketplane-linux-$arch"; fi
	# shellcheck disable=SC2086 # the pattern is one
	set -- "$dir"/$pattern
	[ $# = 1 ] || fail "$dir has $# files $pattern: name one"
	file=$1
else
	file=$from dir=$(dirname "$from")
fi
[ -f "$file" ] || fail "there is no $file: give a package or the directory of a release"
file=$(cd "$(dirname "$file")" && pwd)/$(basename "$file")

# Against damage; who it comes from, the signature of the checksums tells, if there is one.
if [ -f "$dir/SHA256SUMS" ]; then
	(cd "$dir" && grep "  $(basename "$file")\$" SHA256SUMS | sha256sum --check --quiet --strict -) ||
		fail "$file is not what SHA256SUMS says: nothing was done"
	echo "ok       $(basename "$file") is as SHA256SUMS says"
else
	echo "warning  there is no SHA256SUMS beside $(basename "$file"): it was not checked"
fi
if [ -S /var/run/docker.sock ]; then echo "ok       Docker is here"; else echo "warning  Docker is not here, or does not run: the agent will wait for it"; fi
if [ -S /run/openvswitch/db.sock ]; then echo "ok       Open vSwitch is here"; else echo "warning  Open vSwitch does not run; the package manager brings it if it can"; fi
if grep -q /host/run/docker/plugins/socketplane.sock /proc/net/unix; then
	fail "the managed plugin runs here, and two agents would undo each other's work: docker plugin disable socketplane/plugin:latest"
fi

undo="undo it with '$0 --undo'"
case $file in
*.deb)
	agree "apt-get install $file" "start socketplane.service, and with each boot before Docker" "$undo"
	DEBIAN_FRONTEND=noninteractive apt-get install -y "$file"
	;;
*.rpm)
	if has dnf; then manager="dnf install"; elif has zypper; then manager="zypper install"; else manager="rpm --upgrade"; fi
	agree "$manager $file" "enable and start socketplane.service, and with each boot before Docker" "$undo"
	case $manager in
	dnf*) dnf install -y "$file" ;;
	zypper*) zypper --non-interactive install --allow-unsigned-rpm "$file" ;;
	rpm*) rpm --upgrade "$file" ;;
	esac
	systemctl enable --now socketplane.socket socketplane-admin.socket socketplane.service
	;;
*)
	chmod +x "$file"
	"$file" install ${yes:+--yes}
	;;
esac
echo "Done. 'socketplane doctor' tells how this host does; settings are in /etc/default/socketplane."
