package layout_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"iter"
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

func (f file) lines() int { return f.set.File(f.ast.Pos()).LineCount() }

// imports are the paths that f imports; those of this module are relative to the root.
func (f file) imports() (out []string) {
	for _, spec := range f.ast.Imports {
		p, _ := strconv.Unquote(spec.Path.Value) // the parser has seen it
		out = append(out, strings.TrimPrefix(p, module+"/"))
	}
	return out
}

// selectors are the places that name pkg.name, where pkg is a package.
func (f file) selectors(pkg, name string) iter.Seq[*ast.SelectorExpr] {
	return func(yield func(*ast.SelectorExpr) bool) {
		goOn := true
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != name {
				return goOn
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg && x.Obj == nil {
				goOn = goOn && yield(sel)
			}
			return goOn
		})
	}
}

// parse parses one file; source is its text, or nil for that of the repository.
func parse(name string, source any) (file, error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, filepath.Join(root, filepath.FromSlash(name)), source, parser.ParseComments)
	return file{name, parsed, set}, err
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
		f, err := parse(name, nil)
		out = append(out, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("no sources found: the test looks in the wrong place")
	}
	return out
}
