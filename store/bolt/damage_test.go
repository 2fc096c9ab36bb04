package bolt_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// TestDamagedAgain: a damaged file that is opened again and again, as the agent's supervisor does, costs the process nothing more, and is
// opened as soon as it is another one.
func TestDamagedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	s := open(t, path, bolt.Options{})
	if err := s.Apply(t.Context(), put("l", "w")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte, at time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, data, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	write(headless(good), now)
	var damage bolt.Damage
	for range 5 {
		_, err := bolt.Open(path, bolt.Options{Damage: &damage})
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), path+" is damaged") {
			t.Fatalf("Open = %v", err)
		}
	}
	if n := mapped(t, path); n != 1 { // it is mapped at all: this is a file at which bbolt panics
		t.Errorf("the file is mapped %d times", n)
	}
	write(append(headless(good), 'x'), now) // damaged otherwise
	if _, err := bolt.Open(path, bolt.Options{Damage: &damage}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Open = %v", err)
	}
	write(good, now.Add(2*time.Second))
	_ = open(t, path, bolt.Options{Damage: &damage})
}

// TestDamagedReplaced: another file in the place of a damaged one is opened, also if it has the same size and time.
func TestDamagedReplaced(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "x.db"), filepath.Join(dir, "backup.db")
	if err := open(t, path, bolt.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	now := time.Now()
	if err = errors.Join(err, os.WriteFile(copied, good, 0o600), os.WriteFile(path, headless(good), 0o600), os.Chtimes(path, now, now), os.Chtimes(copied, now, now)); err != nil {
		t.Fatal(err)
	}
	var damage bolt.Damage
	if _, err := bolt.Open(path, bolt.Options{Damage: &damage}); !errors.Is(err, store.ErrInvalid) {
		t.Fatalf("Open = %v", err)
	}
	if err := os.Rename(copied, path); err != nil {
		t.Fatal(err)
	}
	_ = open(t, path, bolt.Options{Damage: &damage})
}

// headless is a file of which only the meta data are left: bbolt panics at its free list.
func headless(data []byte) []byte {
	data = bytes.Clone(data)
	clear(data[2*os.Getpagesize():])
	return data
}

// mapped is how often this process has mapped a file.
func mapped(t *testing.T, path string) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(maps), path+"\n")
}
