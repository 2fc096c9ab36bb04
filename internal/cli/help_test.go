package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/cli"
)

// TestHelp: every command has its help in a golden file, and an example if it does something.
func TestHelp(t *testing.T) {
	var look func(path []string)
	look = func(path []string) {
		t.Run(strings.Join(append([]string{"socketplane"}, path...), "_"), func(t *testing.T) {
			got := run(t, nil, nil, append(slices.Clone(path), "--help")...)
			if got.code != cli.ExitOK || got.stderr != "" {
				t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
			}
			golden(t, strings.Join(append([]string{"help"}, path...), "-")+".txt", got.stdout)
			below := subcommands(got.stdout)
			if len(below) == 0 && !strings.Contains(got.stdout, "\nExamples:\n") {
				t.Error("there is no example")
			}
			for _, name := range below {
				if name != "help" && name != "completion" { // these are cobra's own
					look(append(slices.Clone(path), name))
				}
			}
		})
	}
	look(nil)
}

// subcommands reads the names out of a help text.
func subcommands(help string) (names []string) {
	_, list, _ := strings.Cut(help, "\nAvailable Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 0 {
			names = append(names, fields[0])
		}
	}
	return names
}

// TestSchemaIsDocumented: docs/cli.md names every key of every answer's JSON, and every answer has its schema.
func TestSchemaIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		answer, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := json.Unmarshal(answer, &v); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if v["schema"] != 1.0 {
			t.Errorf("%s has schema %v", file, v["schema"])
		}
		for _, key := range keys(v) {
			if !strings.Contains(string(text), "`"+key+"`") {
				t.Errorf("%s has %q, of which docs/cli.md says nothing", file, key)
			}
		}
	}
}

// keys lists the names of fields, however deep; not those that users choose.
func keys(v any) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		for k, below := range v {
			all = append(all, k)
			if k != "labels" && k != "options" && k != "schema" {
				all = append(all, keys(below)...)
			}
		}
	case []any:
		for _, below := range v {
			all = append(all, keys(below)...)
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(k string) bool { return k == "schema" })
}
