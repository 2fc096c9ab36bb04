package bolt

import (
	"os"
	"sync"
)

// Damage remembers the files at which bbolt panicked. Each panic leaves the file mapped for the life of the process, and whoever
// waits for a file to be mended opens it again and again. The zero value remembers none. It may be used concurrently.
type Damage struct {
	mu    sync.Mutex
	found map[string]damage // by path
}

// damage is a damaged file as it was when it was opened.
type damage struct {
	file  os.FileInfo
	cause error
}

// known is why a file can't be opened, if it is still the one that could not; nil for one that must be tried.
func (d *Damage) known(path string) error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	was, ok := d.found[path]
	if !ok {
		return nil
	}
	now, err := os.Stat(path)
	if err == nil && os.SameFile(now, was.file) && now.Size() == was.file.Size() && now.ModTime().Equal(was.file.ModTime()) {
		return was.cause
	}
	delete(d.found, path)
	return nil
}

// note remembers a file at which bbolt panicked, as it was before that.
func (d *Damage) note(path string, file os.FileInfo, cause error) {
	if d == nil || file == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.found == nil {
		d.found = map[string]damage{}
	}
	d.found[path] = damage{file: file, cause: cause}
}
