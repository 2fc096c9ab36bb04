// Package packages tests what users install: the Debian package in a fresh Debian root with a running systemd, the commands and the
// script that set a host up, and the release's files. The root is what debootstrap made (test/tools/install.sh debian), with an
// overlay over it that each test throws away.
//
// It may use internal/testenv and test/internal/fences only.
package packages
