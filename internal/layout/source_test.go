package layout_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// module is this repository's import path.
const module = "github.com/socketplane/socketplane"

// root is the repository, seen from this directory, where go test runs.
const root = "../.."

// file is one parsed source file.
type file struct {
	name string // slash-separated, relative to the root
	ast  *ast.File
	set  *token.FileSet
}

func (f file) dir() string  { return path.Dir(f.name) }
func (f file) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

// imports are the paths that f imports; those of this module are relative to the root.
func (f file) imports(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		out = append(out, strings.TrimPrefix(p, module+"/"))
	}
	return out
}

// at is the place of a node, for messages.
func (f file) at(n ast.Node) string {
	return f.name + ":" + strconv.Itoa(f.set.Position(n.Pos()).Line)
}

// sources parses every Go file of the repository.
func sources(t *testing.T) []file {
	t.Helper()
	var out []file
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (d.Name()[0] == '.' || d.Name()[0] == '_' || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(name) != ".go" {
			return nil
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, filepath.Join(root, filepath.FromSlash(name)), nil, parser.ParseComments)
		if err != nil {
			return err
		}
		out = append(out, file{name, parsed, set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("no sources found: the test looks in the wrong place")
	}
	return out
}
