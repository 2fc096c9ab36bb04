package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/socketplane/socketplane/internal/bundle"
)

// unpack gives the files of an archive.
func unpack(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zip); ; {
		head, err := archive.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(head.Name, bundle.Dir)] = string(text)
	}
}

// TestWrite: what hangs or fails says so in its file, and the others are there.
func TestWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		err := bundle.Write(t.Context(), &out, []string{"hunter2", `quo"ted`, "hunter2-long", "abc"}, []bundle.Part{
			{"plain", func(context.Context) ([]byte, error) {
				return []byte(`hunter2 {"a":"quo\"ted"} quo"ted hunter2-long abc`), nil
			}},
			{"fails", func(context.Context) ([]byte, error) { return []byte("half\n"), errors.New("no switch for hunter2") }},
			{"hangs", func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }},
		})
		if err != nil {
			t.Fatal(err)
		}
		files := unpack(t, &out)
		for name, want := range map[string]string{
			"plain": `*** {"a":"***"} *** *** abc`, // three bytes are in too many words
			"fails": "half\ncan't be told: no switch for ***\n",
			"hangs": "can't be told: context deadline exceeded\n",
		} {
			if files[name] != want {
				t.Errorf("%s is %q, want %q", name, files[name], want)
			}
		}
	})
}

func TestRecords(t *testing.T) {
	got := string(bundle.Records([]string{"a", "b"}, [][]byte{
		[]byte(`{"endpoints":[{"mac":"02:00","container":{"labels":{"auth":"topsecret"}}}],"labels":"none"}`), []byte("not json"),
	}))
	want := `a = {"endpoints":[{"container":{"labels":{"auth":"***"}},"mac":"02:00"}],"labels":"none"}` + "\nb = not json\n"
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
