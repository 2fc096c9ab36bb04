package clean

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/statedir"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// plant makes files with some content, and their directories.
func plant(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// agentState is a state directory with all that agents put there.
func agentState(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	plant(t, dir, "cluster.db", "cluster.db.new", "cluster.db.imported", "addresses.journal", "addresses.journal.new", "ovs-of-host",
		"openvswitch/conf.db", "openvswitch/.conf.db.~lock~", "cluster/identity.pem", "cluster/credentials.json", "cluster/.credentials.json-123",
		"cluster/state.json", "cluster/state.json.new", "cluster/consul/ca.pem", "cluster/consul/key.pem.new", "cluster/consul/consul-abc.json",
		"cluster/consul/consul.log", "cluster/consul/data/raft/raft.db", "cluster/consul/data/serf/local.keyring", "cluster/consul/data/node-id")
	kv, err := bolt.Open(filepath.Join(dir, statedir.LocalFile), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(kv.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: store.LocalHostKey, Value: []byte("{}")}), kv.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// cleanState does what Host does with a state directory.
func cleanState(t *testing.T, dir string) (said []string, err error) {
	t.Helper()
	l := leftovers{dir: dir}
	defer l.close()
	if err := l.claimState(); err != nil {
		return nil, err
	}
	return l.found(), l.remove(t.Context())
}

// TestCleanLeavesWhatOthersHavePutThere: files, directories and links that no agent made stay, and are named.
func TestCleanLeavesWhatOthersHavePutThere(t *testing.T) {
	dir, outside := agentState(t), t.TempDir()
	plant(t, outside, "precious", "tree/precious")
	theirs := []string{"backup.tar", "cluster/notes", "cluster/consul/consul.hcl", "docker/volumes/x", "cluster.db.new.old", "openvswitch/system-id.conf"}
	plant(t, dir, theirs...)
	for name, to := range map[string]string{"addresses.journal.new": "precious", "cluster/consul/data": "tree"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.RemoveAll(path), os.Symlink(filepath.Join(outside, to), path)); err != nil {
			t.Fatal(err)
		}
	}
	said, err := cleanState(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(said, "\n")
	for _, name := range []string{"backup.tar", "cluster/notes", "cluster/consul/consul.hcl", "docker", "addresses.journal.new", "cluster/consul/data"} {
		if !strings.Contains(text, filepath.Join(dir, name)+")") {
			t.Errorf("%s is not named:\n%s", name, text)
		}
	}
	var left []string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			left = append(left, name)
		}
		return err
	})
	want := append(slices.Clone(theirs), "addresses.journal.new", "cluster/consul/data")
	slices.Sort(want)
	slices.Sort(left)
	if err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q, %v", left, want, err)
	}
	for _, name := range []string{"precious", "tree/precious"} {
		if _, err := os.Stat(filepath.Join(outside, name)); err != nil {
			t.Errorf("a link was followed: %v", err)
		}
	}
}

func TestCleanRemovesAllOfAnAgent(t *testing.T) {
	dir := agentState(t)
	if _, err := cleanState(t, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
	if said, err := cleanState(t, dir); err != nil || len(said) > 0 {
		t.Errorf("again: %q, %v", said, err)
	}
}

func TestCleanRefusesDirectoriesThatAreNotOurs(t *testing.T) {
	for _, dir := range []string{"/", "/var", "/var/lib", "/var/lib/", "/home/", "/etc/.", "/srv/..", "state", "./state", ""} {
		if _, err := statedir.Look(dir); !errors.Is(err, statedir.ErrForeign) {
			t.Errorf("%q: %v", dir, err)
		}
	}
	real := agentState(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if _, err := cleanState(t, link); !errors.Is(err, statedir.ErrForeign) {
		t.Errorf("a link: %v", err)
	}
	if _, err := os.Stat(filepath.Join(real, statedir.LocalFile)); err != nil {
		t.Error(err)
	}
	// Another program's directory with a file of that name.
	other := t.TempDir()
	plant(t, other, statedir.LocalFile, statedir.ClusterFile, "app.conf")
	if _, err := cleanState(t, other); !errors.Is(err, statedir.ErrForeign) {
		t.Errorf("another program's directory: %v", err)
	}
	if _, err := os.Stat(filepath.Join(other, statedir.ClusterFile)); err != nil {
		t.Error(err)
	}
}

// TestPurgeKnowsTheSameFiles: Debian's package is purged when this program is gone, so its script has the list once more.
func TestPurgeKnowsTheSameFiles(t *testing.T) {
	script, err := os.ReadFile("../../packaging/deb/postrm")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(script))
	for _, pattern := range statedir.Files() {
		name := strings.TrimSuffix(pattern, "/")
		if !slices.Contains(words, name) && !slices.Contains(words, "/var/lib/socketplane/"+name) {
			t.Errorf("packaging/deb/postrm does not remove %s", pattern)
		}
	}
}

// TestPurge runs the script's part that removes the state on a directory as an agent leaves it, with a file of somebody's.
func TestPurge(t *testing.T) {
	script, err := os.ReadFile("../../packaging/deb/postrm")
	if err != nil {
		t.Fatal(err)
	}
	_, part, ok := strings.Cut(string(script), "remove_state() {")
	part, _, ends := strings.Cut(part, "\n}\n")
	if !ok || !ends {
		t.Fatal("postrm has no remove_state")
	}
	for name, theirs := range map[string][]string{"nothing else": nil, "another's file": {"cluster/notes"}} {
		t.Run(name, func(t *testing.T) {
			dir := agentState(t)
			plant(t, dir, theirs...)
			out, err := exec.Command("sh", "-euc", strings.ReplaceAll(part, "/var/lib/socketplane", dir)).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			s, err := statedir.Look(dir)
			if len(theirs) == 0 {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("left: %+v, %v, %s", s, err, out)
				}
				return
			}
			if err != nil || len(s.Ours) > 0 || !slices.Equal(s.Left, theirs) || !strings.Contains(string(out), "stay") {
				t.Errorf("left: %+v, %v, %s", s, err, out)
			}
		})
	}
}
