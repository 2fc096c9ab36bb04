package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// stateFiles are all files that agents put into the state directory, as patterns of [path.Match]. One that ends with a slash is a directory that is
// ours (or Consul's) with all that is in it.
func stateFiles() []string {
	return []string{
		localFile, journalFile, journalFile + ".new",
		clusterFile, clusterFile + ".new", clusterFile + ".imported",
		"ovs-of-host", // internal/ownovs
		"openvswitch/conf.db", "openvswitch/conf.db.new", "openvswitch/.conf.db*.~lock~", "openvswitch/conf.db.tmp",
		managedDir + "/identity.pem", managedDir + "/credentials.json", managedDir + "/.*.pem-*", managedDir + "/.*.json-*", // internal/cluster/trust
		managedDir + "/state.json", managedDir + "/state.json.new", // internal/cluster
		managedDir + "/consul/*.pem", managedDir + "/consul/*.pem.new", managedDir + "/consul/consul-*.json", // internal/cluster/consulproc
		managedDir + "/consul/consul-*.json.new", managedDir + "/consul/consul.log",
		managedDir + "/consul/data/",
	}
}

// errNotState says that a directory can't be a state directory of ours.
var errNotState = errors.New("this is no state directory of SocketPlane")

// state is a state directory that is to be cleaned.
type state struct {
	dir  string
	ours []string // what is to go, relative to dir, files before their directories
	left []string // what others have put there
}

// lookAtState finds out what in a directory is ours. A link is not followed, neither the directory itself nor anything in it.
func lookAtState(dir string) (state, error) {
	s := state{dir: dir}
	if err := checkStateDir(dir); err != nil {
		return s, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return s, fmt.Errorf("state directory: %w", err)
	}
	defer root.Close()
	if err := s.walk(root.FS(), "."); err != nil {
		return s, fmt.Errorf("state directory %s: %w", dir, err)
	}
	// The file by which the directory is known as ours goes last, so that what was interrupted can be repeated.
	if i := slices.Index(s.ours, localFile); i >= 0 {
		s.ours = append(slices.Delete(s.ours, i, i+1), localFile)
	}
	return s, nil
}

// checkStateDir refuses what no agent has as its state directory, whatever is in it.
func checkStateDir(dir string) error {
	clean := filepath.Clean(dir)
	if !filepath.IsAbs(dir) || strings.Count(clean, "/") < 2 || slices.Contains([]string{"/var/lib", "/var/run", "/usr/local", "/usr/lib"}, clean) {
		return fmt.Errorf("%w: %s: give its own directory with --state-dir", errNotState, dir)
	}
	info, err := os.Lstat(clean)
	switch {
	case err != nil:
		return fmt.Errorf("state directory: %w", err)
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%w: %s is a symbolic link: give the directory to which it leads with --state-dir", errNotState, dir)
	case !info.IsDir():
		return fmt.Errorf("%w: %s is not a directory", errNotState, dir)
	}
	return nil
}

func (s *state) walk(files fs.FS, dir string) error {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir() && matches(name+"/"), e.Type().IsRegular() && matches(name):
			s.ours = append(s.ours, name)
		case e.IsDir() && slices.ContainsFunc(stateFiles(), func(p string) bool { return strings.HasPrefix(p, name+"/") }):
			before := len(s.left)
			if err := s.walk(files, name); err != nil {
				return err
			}
			if len(s.left) == before {
				s.ours = append(s.ours, name)
			}
		default:
			s.left = append(s.left, name)
		}
	}
	return nil
}

func matches(name string) bool {
	return slices.ContainsFunc(stateFiles(), func(pattern string) bool {
		is, err := path.Match(pattern, name)
		return is && err == nil
	})
}

// remove removes what is ours, and the directory if nothing else is in it.
func (s *state) remove() error {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	var errs []error
	for _, name := range s.ours {
		remove := root.Remove
		if matches(name + "/") {
			remove = root.RemoveAll
		}
		if err := remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("state directory %s: %w", s.dir, err))
		}
	}
	errs = append(errs, root.Close())
	if err := errors.Join(errs...); err != nil || len(s.left) > 0 {
		return err
	}
	// A mount point stays, empty.
	if err := os.Remove(s.dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !mounted(s.dir) {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

// mounted says whether a directory is a mount point.
func mounted(dir string) bool {
	text, err := os.ReadFile(mountInfo)
	return err == nil && slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
		fields := strings.Fields(line)
		return len(fields) > 4 && fields[4] == filepath.Clean(dir)
	})
}

// Strangers lists what in a state directory is not ours.
func Strangers(dir string) ([]string, error) {
	s, err := lookAtState(dir)
	return s.left, err
}
