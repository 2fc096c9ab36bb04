// Package bundle owns the form of what is attached to a bug report: an archive of files, from which secrets are blanked.
//
// It imports the standard library only, and must not know where the files come from.
package bundle

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Dir is the directory in the archive that has all files.
const Dir = "socketplane-support/"

// masked stands for what is not told.
const masked = "***"

const (
	// partLimit bounds the wait for one file: what hangs is worth a line in the bundle, not the bundle.
	partLimit = 12 * time.Second
	// leastSecret is the length below which a secret is not looked for in texts: it would be found in every word.
	leastSecret = 4
)

// Part is one file.
type Part struct {
	Name string
	// Read gives the content. If it fails the file has the error instead, and what was read before it.
	Read func(context.Context) ([]byte, error)
}

// Write writes a tar.gz of all parts, in which none of the secrets occurs.
func Write(ctx context.Context, w io.Writer, secrets []string, parts []Part) error {
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	for _, p := range parts {
		content := Blank(read(ctx, p), secrets)
		head := &tar.Header{Name: Dir + p.Name, Mode: 0o600, Size: int64(len(content)), ModTime: time.Now().Truncate(time.Second)}
		if err := archive.WriteHeader(head); err != nil {
			return fmt.Errorf("write %s: %w", p.Name, err)
		}
		if _, err := archive.Write(content); err != nil {
			return fmt.Errorf("write %s: %w", p.Name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return zip.Close()
}

func read(ctx context.Context, p Part) []byte {
	ctx, cancel := context.WithTimeout(ctx, partLimit)
	defer cancel()
	content, err := p.Read(ctx)
	if err != nil {
		content = fmt.Appendf(content, "can't be told: %v\n", err)
	}
	return content
}

// Blank replaces all secrets, also in the form in which JSON or a quoted text has them. Long ones go first: one may be the
// beginning of another.
func Blank(content []byte, secrets []string) []byte {
	all := slices.Clone(secrets)
	for _, s := range secrets {
		quoted, _ := json.Marshal(s) // a string always has a JSON form
		all = append(all, strings.Trim(string(quoted), `"`))
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, s := range all {
		if len(s) >= leastSecret {
			content = bytes.ReplaceAll(content, []byte(s), []byte(masked))
		}
	}
	return content
}

// Records gives stored records in lines, with the values of labels blanked: what people attach to containers and networks is
// theirs, and may be a password.
func Records(keys []string, values [][]byte) []byte {
	var out bytes.Buffer
	for i, key := range keys {
		var record any
		text := values[i]
		if json.Unmarshal(text, &record) == nil {
			text, _ = json.Marshal(unlabelled(record)) // it was JSON before
		}
		fmt.Fprintf(&out, "%s = %s\n", key, text)
	}
	return out.Bytes()
}

// JSON is the indented form of a value, without labels.
func JSON(value any) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return nil, err
	}
	text, err = json.MarshalIndent(unlabelled(plain), "", "  ")
	return append(text, '\n'), err
}

// unlabelled blanks the values of all labels in a decoded JSON value.
func unlabelled(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			labels, is := inner.(map[string]any)
			if !is || key != "labels" {
				v[key] = unlabelled(inner)
				continue
			}
			for name := range labels {
				labels[name] = masked
			}
		}
	case []any:
		for i, inner := range v {
			v[i] = unlabelled(inner)
		}
	}
	return value
}
