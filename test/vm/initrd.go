package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/socketplane/socketplane/test/vm/spec"
)

// earlyModules reach the machine's file system; their dependencies come with them. What a kernel has built in is left out.
var earlyModules = []string{"virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"}

// writeInitrd writes the initial RAM disk: the guest program, the early modules and the spec.
func writeInitrd(to, guest string, k kernel, s spec.Spec) error {
	files, err := moduleFiles(k.modules)
	if err != nil {
		return err
	}
	var a archive
	a.dir(strings.Trim(spec.ModuleDir, "/"))
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(k.modules, f))
		if err != nil {
			return err
		}
		s.Modules = append(s.Modules, path.Base(f))
		a.file(strings.Trim(spec.ModuleDir, "/")+"/"+path.Base(f), 0o644, text)
	}
	program, err := os.ReadFile(guest)
	if err != nil {
		return err
	}
	a.file("init", 0o755, program)
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	a.file(strings.TrimPrefix(spec.File, "/"), 0o644, text)
	return os.WriteFile(to, a.end(), 0o600)
}

// moduleFiles are the files of the early modules, dependencies first.
func moduleFiles(tree string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(tree, "modules.dep"))
	if err != nil {
		return nil, err
	}
	var files []string
	seen := map[string]bool{}
	add := func(f string) {
		if !seen[f] {
			seen[f] = true
			files = append(files, f)
		}
	}
	for _, m := range earlyModules {
		for line := range strings.Lines(string(text)) {
			file, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
			if path.Base(file) != m+".ko" {
				continue
			}
			// The file lists the nearest dependency first.
			deps := strings.Fields(needs)
			for i := len(deps) - 1; i >= 0; i-- {
				add(deps[i])
			}
			add(file)
		}
	}
	return files, nil
}

// archive is a cpio archive in the "newc" form, which the kernel unpacks
// (its Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	bytes.Buffer
	inode int
}

const (
	typeFile = 0o100000
	typeDir  = 0o040000
)

func (a *archive) dir(name string) { a.entry(name, typeDir|0o755, nil) }

func (a *archive) file(name string, mode int, text []byte) { a.entry(name, typeFile|mode, text) }

func (a *archive) end() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.Bytes()
}

func (a *archive) entry(name string, mode int, text []byte) {
	a.inode++
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(text), 0, 0, 0, 0, len(name)+1, 0)
	a.WriteString(name)
	a.WriteByte(0)
	a.pad()
	a.Write(text)
	a.pad()
}

func (a *archive) pad() {
	for a.Len()%4 != 0 {
		a.WriteByte(0)
	}
}
