package setup

import (
	"embed"
	"fmt"
	"path/filepath"
	"strings"
)

//go:embed files
var files embed.FS

// Where an installation without package puts things. Packages have theirs below /usr/lib, which these would hide.
const (
	// BinaryPath is where the binary is copied to, unless it lies where programs lie already.
	BinaryPath  = "/usr/local/bin/socketplane"
	unitDir     = "/etc/systemd/system"
	group       = "g socketplane - -" // for systemd-sysusers; as in files/socketplane.sysusers
	defaultFile = "/etc/default/socketplane"
	packageUnit = "/usr/lib/systemd/system/socketplane.service"
	stateOfRun  = "/run/systemd/system" // there if systemd is the first process
)

// mark begins every file of an installation without package. The path is that of the binary if it was copied, else empty.
const (
	mark       = "# Written by 'socketplane install'; 'socketplane uninstall' removes it."
	binaryMark = "# Binary: "
	packaged   = "/usr/bin/socketplane" // the path in the units as they are here
)

// units in the order in which they start; they stop in this order too, as a socket would start the service again.
func units() []string {
	return []string{"socketplane.socket", "socketplane-admin.socket", "socketplane.service"}
}

// dropIn is a file that keeps a manager of networks off our links. dhcpcd has no directory for such files.
type dropIn struct{ source, path string }

func dropIns() []dropIn {
	return []dropIn{
		{"socketplane.networkmanager", "/etc/NetworkManager/conf.d/90-socketplane.conf"},
		{"socketplane.networkd", "/etc/systemd/network/10-socketplane.network"},
	}
}

// file is one that an installation writes.
type file struct {
	path, text string
	keep       bool // not if it is there, and not removed
}

// filesFor are the files of a service that runs this binary.
func filesFor(binary string, copied bool) ([]file, error) {
	head := mark + "\n"
	if copied {
		head += binaryMark + binary + "\n"
	}
	var list []file
	for _, name := range units() {
		text, err := files.ReadFile("files/" + name)
		if err != nil {
			return nil, fmt.Errorf("setup: %w", err)
		}
		list = append(list, file{path: filepath.Join(unitDir, name), text: head + strings.ReplaceAll(string(text), packaged+" ", binary+" ")})
	}
	for _, d := range dropIns() {
		text, err := files.ReadFile("files/" + d.source)
		if err != nil {
			return nil, fmt.Errorf("setup: %w", err)
		}
		list = append(list, file{path: d.path, text: mark + "\n" + string(text)})
	}
	settings, err := files.ReadFile("files/socketplane.default")
	if err != nil {
		return nil, fmt.Errorf("setup: %w", err)
	}
	return append(list, file{path: defaultFile, text: string(settings), keep: true}), nil
}
