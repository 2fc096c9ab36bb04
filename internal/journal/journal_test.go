package journal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/journal"
	"github.com/socketplane/socketplane/store"
)

func open(t testing.TB, path, boot string, lost bool) *journal.Journal {
	t.Helper()
	j, was, err := journal.Open(path, boot)
	if err != nil || was != lost {
		t.Fatalf("Open: lost is %t, %v", was, err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func content(t testing.TB, j *journal.Journal) map[string]string {
	t.Helper()
	entries, err := j.List(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		all[e.Key] = string(e.Value)
	}
	return all
}

func put(key, value string) store.Op {
	return store.Op{Kind: store.OpPut, Key: key, Value: []byte(value)}
}

// TestSurvives: what Apply acknowledged is there for the next one who opens the file, also after compaction, without Close.
func TestSurvives(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "j")
	j := open(t, path, "boot", true)
	want := map[string]string{}
	rng := rand.New(rand.NewPCG(1, 2))
	for step := range 30_000 {
		key := fmt.Sprint("k/", rng.IntN(300))
		if rng.IntN(3) == 0 {
			if err := j.Apply(ctx, store.Op{Kind: store.OpRemove, Key: key}); err != nil {
				t.Fatal(err)
			}
			delete(want, key)
		} else {
			value := strings.Repeat("v", 1+rng.IntN(200))
			if err := j.Apply(ctx, put(key, value), put("last", fmt.Sprint(step))); err != nil {
				t.Fatal(err)
			}
			want[key], want["last"] = value, fmt.Sprint(step)
		}
		if step%3000 == 0 && !maps.Equal(content(t, open(t, path, "boot", false)), want) {
			t.Fatalf("step %d: another one reads something else", step)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 3<<20 {
		t.Fatalf("the file is not rewritten: %v, %v", info.Size(), err)
	}
	if !maps.Equal(content(t, open(t, path, "boot", false)), want) {
		t.Fatal("another one reads something else")
	}
}

// TestCutOff: wherever the file ends, exactly the whole batches are read, and writing goes on.
func TestCutOff(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	path := filepath.Join(dir, "j")
	j := open(t, path, "b", true)
	var sizes []int64
	for i := range 5 {
		if err := j.Apply(ctx, put(fmt.Sprint("a", i), "x"), put(fmt.Sprint("b", i), "y")); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := int64(30); n <= sizes[4]; n++ {
		for name, bytes := range map[string][]byte{"cut": data[:n], "garbage": append(append([]byte{}, data[:n]...), "garbage garbage"...)} {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			got := open(t, file, "b", false)
			want := 0
			for _, s := range sizes {
				if s <= n {
					want += 2
				}
			}
			if len(content(t, got)) != want {
				t.Fatalf("%s at %d: %d records, want %d", name, n, len(content(t, got)), want)
			}
			if err := got.Apply(ctx, put("more", "z")); err != nil {
				t.Fatal(err)
			}
			if len(content(t, open(t, file, "b", false))) != want+1 {
				t.Fatalf("%s at %d: what was written afterwards is lost", name, n)
			}
		}
	}
}

// TestDamage: what was changed in the middle is told, with what is lost behind it; a batch that was cut off is not, as a killed process leaves one.
func TestDamage(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	path := filepath.Join(dir, "j")
	j := open(t, path, "b", true)
	var sizes []int
	for i := range 4 {
		if err := j.Apply(ctx, put(fmt.Sprint("a", i), "value")); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, int(info.Size()))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		damage int
		left   int
	}{
		"whole":         {func(b []byte) []byte { return b }, 0, 4},
		"cut off":       {func(b []byte) []byte { return b[:sizes[3]-3] }, 0, 3},
		"a bit flipped": {func(b []byte) []byte { b[sizes[1]-2] ^= 1; return b }, sizes[3] - sizes[0], 1},
		"an odd length": {func(b []byte) []byte { b[sizes[1]] = 0xff; return b }, sizes[3] - sizes[1], 2},
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, c.change(slices.Clone(data)), 0o600); err != nil {
			t.Fatal(err)
		}
		got := open(t, file, "b", false)
		if got.Damage() != int64(c.damage) || len(content(t, got)) != c.left {
			t.Errorf("%s: %d bytes are damaged, %d records are left; want %d and %d", name, got.Damage(), len(content(t, got)), c.damage, c.left)
		}
	}
}

func TestAnotherBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, path, "one", true)
	if err := j.Apply(context.Background(), put("a", "1")); err != nil {
		t.Fatal(err)
	}
	if rest := content(t, open(t, path, "two", true)); len(rest) > 0 {
		t.Fatalf("%v is left of the machine's former life", rest)
	}
	open(t, path, "two", false)
}

func TestRefuses(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "j")
	j := open(t, path, "b", true)
	for _, op := range []store.Op{{Kind: store.OpSet, Key: "a", Value: []byte("x")}, put("", "x"), put("/boot", "x"), put("a", "")} {
		if err := j.Apply(ctx, put("good", "1"), op); err == nil {
			t.Errorf("%+v is accepted", op)
		}
	}
	if len(content(t, j)) > 0 {
		t.Error("half a batch was written")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Apply(ctx, put("a", "1")); err == nil {
		t.Error("a closed journal accepts")
	}
	if _, _, err := journal.Open(filepath.Join(path, "x"), "b"); err == nil {
		t.Error("a journal below a file is opened")
	}
}

func BenchmarkApply(b *testing.B) {
	j := open(b, filepath.Join(b.TempDir(), "j"), "b", true)
	value := strings.Repeat("v", 150)
	for i := 0; b.Loop(); i++ {
		if err := j.Apply(context.Background(), put(fmt.Sprint("k/", i%60_000), value)); err != nil {
			b.Fatal(err)
		}
	}
}

// TestSchema: a journal says of which schema it is; one that does not is of the first, and a newer one is not touched.
func TestSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := journal.Check(path); err != nil {
		t.Errorf("no journal: %v", err)
	}
	batch := func(records ...string) []byte {
		var body []byte
		for _, r := range records {
			body = append(binary.AppendUvarint(body, uint64(len(r))), r...)
		}
		head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
		return append(binary.BigEndian.AppendUint32(head, crc32.ChecksumIEEE(body)), body...)
	}
	list := func() string {
		t.Helper()
		j, lost, err := journal.Open(path, "boot")
		if err != nil || lost {
			t.Fatal(err, lost)
		}
		defer j.Close()
		entries, err := j.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d %s", len(entries), entries[0].Value)
	}
	// As agents wrote it before there were schemas.
	old := slices.Concat(batch("/boot", "boot"), batch("k", "v"))
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := list(); got != "1 v" {
			t.Errorf("an old journal has %s", got)
		}
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(text, old) || bytes.Count(text, []byte("/schema")) != 1 {
		t.Errorf("the journal is now %q, %v", text, err)
	}
	newer := slices.Concat(batch("/boot", "boot", "/schema", "2"), batch("k", "v"), []byte("in a form that nobody knows"))
	if err := os.WriteFile(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := journal.Open(path, "boot")
	_, _, otherBoot := journal.Open(path, "another boot")
	for what, err := range map[string]error{"check": journal.Check(path), "open": err, "open after a reboot": otherBoot} {
		if !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), `schema "2"`) || !strings.Contains(err.Error(), "upgrade socketplane") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.Equal(text, newer) {
		t.Errorf("the newer journal was changed to %q, %v", text, err)
	}
}
