package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/socketplane/socketplane/internal/crashpoint"
)

// writeFile replaces a file with secrets: after a crash there is the old one or the new one, and nobody else can read it.
func writeFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	crashpoint.Hit("credentials: make their directory")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	crashpoint.Hit("credentials: make a new file")
	// CreateTemp gives 0600.
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			crashpoint.Hit("credentials: give a new file up")
			_ = os.Remove(f.Name()) // it is not there any more after a successful rename
		}
	}()
	crashpoint.Hit("credentials: write a new file")
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	crashpoint.Hit("credentials: replace the file")
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	crashpoint.Hit("credentials: written")
	return syncDir(dir)
}

// removeFile removes a file for good; none is no error.
func removeFile(path string) error {
	crashpoint.Hit("credentials: remove them")
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes what happened to a directory's names durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
