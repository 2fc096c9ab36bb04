package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/socketplane/socketplane/internal/journal"
	"github.com/socketplane/socketplane/store"
)

// FuzzOpen: whatever a whole batch holds, and whatever follows it, the file can be opened and written, and what was read once is read again.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("\x07/schema\x011\x05/boot\x01b\x01k\x01v"), []byte{0, 0, 0, 1})
	f.Add([]byte("\x01k\x00"), []byte("garbage garbage"))
	f.Add([]byte("\x07/schema\x012"), []byte{})
	f.Fuzz(func(t *testing.T, body, rest []byte) {
		head := make([]byte, 8)
		binary.BigEndian.PutUint32(head, uint32(len(body)))
		binary.BigEndian.PutUint32(head[4:], crc32.ChecksumIEEE(body))
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, bytes.Join([][]byte{head, body, rest}, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		j, _, err := journal.Open(path, "b")
		if errors.Is(err, store.ErrNewer) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		if err := j.Apply(t.Context(), put("more", "z")); err != nil {
			t.Fatal(err)
		}
		again := open(t, path, "b", false)
		if first, second := content(t, j), content(t, again); !maps.Equal(first, second) || second["more"] != "z" {
			t.Fatalf("read as %q, then as %q", first, second)
		}
	})
}
