package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// OpenFile is a file that this process has open for as long as it runs.
type OpenFile struct {
	Path string
	Info fs.FileInfo // as it was when it was opened
}

// Opened notes a file that has just been opened. One that can't be looked at is left out of the check.
func Opened(path string) []OpenFile {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return []OpenFile{{path, info}}
}

// lost says that a file with this process's state is no longer at its path: what is written goes to a file that nobody finds after a restart.
func lost(open []OpenFile, restart string) (Finding, bool) {
	for _, f := range open {
		const follows = "what the agent writes is lost when it ends: then this host gets a new id, or an older state, and does not know its containers"
		now, err := os.Stat(f.Path)
		dir := filepath.Dir(f.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Error(f.Path+" is gone: the agent still has the removed file open", follows,
				f.rescue(restart)+"; or if a file system was mounted over "+dir+", unmount it"), true
		case err == nil && !os.SameFile(now, f.Info):
			return Error(f.Path+" is another file than the one that the agent has open", follows,
				f.rescue(restart)+" keeps the agent's; '"+restart+"' alone takes the one that is there now; if a file system was mounted over "+dir+", unmount it"), true
		}
	}
	return Finding{}, false
}

// rescue is the command that puts the content of an open file back to its path.
func (f OpenFile) rescue(restart string) string {
	const descriptors = "/proc/self/fd"
	entries, err := os.ReadDir(descriptors)
	if err != nil {
		return restart
	}
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(descriptors, e.Name())); err == nil && os.SameFile(info, f.Info) {
			return fmt.Sprintf("mkdir -p -m 700 %s && cp /proc/%d/fd/%s %s && %s", filepath.Dir(f.Path), os.Getpid(), e.Name(), f.Path, restart)
		}
	}
	return restart
}
