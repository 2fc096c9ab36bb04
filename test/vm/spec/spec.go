// Package spec is what the VM's host program (test/vm) tells the first process inside (test/vm/guest): a JSON file in
// the initial RAM disk, and the names of the channels that lead back.
//
// It may import the standard library only.
package spec

// Where things are inside.
const (
	// File is the Spec in the initial RAM disk.
	File = "/spec.json"
	// ModuleDir holds the modules that are loaded before the machine's file system is there.
	ModuleDir = "/modules"
	// OutDir is where the host's output directory is mounted, if it gave one.
	OutDir = "/out"
)

// Tags of the shared directories and names of the virtio serial ports.
const (
	RootTag    = "root"
	OutTag     = "out"
	OutputPort = "socketplane.output"
	StatusPort = "socketplane.status"
)

// Spec is one run.
type Spec struct {
	Argv []string
	Env  []string
	// Dir is the command's working directory.
	Dir string
	// Modules are loaded in this order.
	Modules []string
	// ModuleTree is the machine's directory of the kernel's other modules, for modprobe.
	ModuleTree string
	// Release is the kernel's, as uname -r has it.
	Release string
	// Out says that the host gave an output directory.
	Out bool
}
