package consulproc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNoBinary says that this host has no consul program.
var ErrNoBinary = errors.New("no consul program")

// program is the name of Consul's program.
const program = "consul"

// Find returns the path of the consul program: the given one, else that on the PATH, else that beside this program. The
// error wraps ErrNoBinary.
func Find(given string) (string, error) {
	if given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", fmt.Errorf("%w: %w: give the path of one with --consul-binary", ErrNoBinary, err)
		}
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath(program); err == nil {
		return filepath.Abs(path)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("%w on the PATH, and this program's own place is unknown: %w", ErrNoBinary, err)
	}
	path, err := exec.LookPath(filepath.Join(filepath.Dir(self), program))
	if err != nil {
		return "", fmt.Errorf("%w on the PATH or beside %s: install one, or give its path with --consul-binary", ErrNoBinary, self)
	}
	return path, nil
}
