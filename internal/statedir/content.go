package statedir

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

// ManagedDir has the cluster that hosts form by themselves, below the state directory.
const ManagedDir = "cluster"

// Files are all files that agents put into the state directory, as patterns of [path.Match]. One that ends with a slash is a directory that is
// ours (or Consul's) with all that is in it.
func Files() []string {
	return []string{
		LocalFile, JournalFile, JournalFile + ".new",
		ClusterFile, ClusterFile + ".new", ClusterFile + ".imported",
		"ovs-of-host", // internal/ownovs
		"openvswitch/conf.db", "openvswitch/conf.db.new", "openvswitch/.conf.db*.~lock~", "openvswitch/conf.db.tmp",
		ManagedDir + "/identity.pem", ManagedDir + "/credentials.json", ManagedDir + "/.*.pem-*", ManagedDir + "/.*.json-*", // internal/cluster/trust
		ManagedDir + "/state.json", ManagedDir + "/state.json.new", // internal/cluster
		ManagedDir + "/consul/*.pem", ManagedDir + "/consul/*.pem.new", ManagedDir + "/consul/consul-*.json", // internal/cluster/consulproc
		ManagedDir + "/consul/consul-*.json.new", ManagedDir + "/consul/consul.log",
		ManagedDir + "/consul/data/",
	}
}

// ErrForeign says that a directory can't be a state directory of ours.
var ErrForeign = errors.New("this is no state directory of SocketPlane")

// Content is what a state directory has in it.
type Content struct {
	dir string
	// Ours is what agents have put there, relative to the directory, files before their directories.
	Ours []string
	// Left is what others have put there.
	Left []string
}

// Look finds out what in a directory is ours. A link is not followed, neither the directory itself nor anything in it.
func Look(dir string) (Content, error) {
	s := Content{dir: dir}
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
	if i := slices.Index(s.Ours, LocalFile); i >= 0 {
		s.Ours = append(slices.Delete(s.Ours, i, i+1), LocalFile)
	}
	return s, nil
}

// checkStateDir refuses what no agent has as its state directory, whatever is in it.
func checkStateDir(dir string) error {
	clean := filepath.Clean(dir)
	if !filepath.IsAbs(dir) || strings.Count(clean, "/") < 2 || slices.Contains([]string{"/var/lib", "/var/run", "/usr/local", "/usr/lib"}, clean) {
		return fmt.Errorf("%w: %s: give its own directory with --state-dir", ErrForeign, dir)
	}
	info, err := os.Lstat(clean)
	switch {
	case err != nil:
		return fmt.Errorf("state directory: %w", err)
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%w: %s is a symbolic link: give the directory to which it leads with --state-dir", ErrForeign, dir)
	case !info.IsDir():
		return fmt.Errorf("%w: %s is not a directory", ErrForeign, dir)
	}
	return nil
}

func (s *Content) walk(files fs.FS, dir string) error {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir() && matches(name+"/"), e.Type().IsRegular() && matches(name):
			s.Ours = append(s.Ours, name)
		case e.IsDir() && slices.ContainsFunc(Files(), func(p string) bool { return strings.HasPrefix(p, name+"/") }):
			before := len(s.Left)
			if err := s.walk(files, name); err != nil {
				return err
			}
			if len(s.Left) == before {
				s.Ours = append(s.Ours, name)
			}
		default:
			s.Left = append(s.Left, name)
		}
	}
	return nil
}

func matches(name string) bool {
	return slices.ContainsFunc(Files(), func(pattern string) bool {
		is, err := path.Match(pattern, name)
		return is && err == nil
	})
}

// Remove removes what is ours, and the directory if nothing else is in it.
func (s *Content) Remove() error {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	var errs []error
	for _, name := range s.Ours {
		remove := root.Remove
		if matches(name + "/") {
			remove = root.RemoveAll
		}
		if err := remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("state directory %s: %w", s.dir, err))
		}
	}
	errs = append(errs, root.Close())
	if err := errors.Join(errs...); err != nil || len(s.Left) > 0 {
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
	text, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
		fields := strings.Fields(line)
		return len(fields) > 4 && fields[4] == filepath.Clean(dir)
	})
}

// Strangers lists what in a state directory is not ours.
func Strangers(dir string) ([]string, error) {
	s, err := Look(dir)
	return s.Left, err
}
