package statedir_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/statedir"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// TestDamagedState: attempts to start with a damaged file map it once, and not once each.
func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, statedir.LocalFile)
	kv, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[2*os.Getpagesize():])
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var damage bolt.Damage
	for range 3 {
		if _, err := statedir.OpenLocal(dir, &damage); !errors.Is(err, store.ErrInvalid) {
			t.Fatalf("opened: %v", err)
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(maps), path+"\n"); n != 1 {
		t.Errorf("the file is mapped %d times", n)
	}
}
