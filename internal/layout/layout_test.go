package layout_test

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

func TestPackageComments(t *testing.T) {
	commented, seen := map[string]bool{}, map[string]bool{}
	for _, f := range sources(t) {
		// A directory of tests only has its comment in one of them.
		seen[f.dir()] = true
		if f.ast.Doc != nil && len(strings.TrimSpace(f.ast.Doc.Text())) > 0 {
			commented[f.dir()] = true
		}
	}
	for dir := range seen {
		if !commented[dir] {
			t.Errorf("%s has no package comment: say what it owns, what it may import, and what it must not know", dir)
		}
	}
}

func TestPackageNames(t *testing.T) {
	for _, f := range sources(t) {
		name := strings.TrimSuffix(f.ast.Name.Name, "_test")
		if slices.Contains([]string{"util", "utils", "common", "helpers", "misc"}, name) {
			t.Errorf("%s: package %s says nothing about what it owns", f.name, name)
		}
	}
}

// TestMainIsSmall keeps what can go wrong out of reach of main, where nothing tests it.
func TestMainIsSmall(t *testing.T) {
	const most = 40
	total := 0
	for _, f := range sources(t) {
		if f.dir() == "cmd/socketplane" && !f.isTest() {
			total += f.set.File(f.ast.Pos()).LineCount()
		}
	}
	if total == 0 || total > most {
		t.Errorf("cmd/socketplane has %d lines, want 1 to %d: move code to internal/cli", total, most)
	}
}

// TestNoInit: an init runs for every importer, in an order that nobody wrote, and cannot return an error.
func TestNoInit(t *testing.T) {
	for _, f := range sources(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init: make it a function that main's callees call", f.at(fn))
			}
		}
	}
}

// TestNoSleep: a sleep is either too short for a loaded machine or too long for everybody. Poll with a deadline, or use a
// timer with the context.
func TestNoSleep(t *testing.T) {
	for _, f := range sources(t) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" {
				t.Errorf("%s: time.Sleep: wait for what you wait for", f.at(sel))
			}
			return true
		})
	}
}

// under reports whether dir is prefix or within it.
func under(dir, prefix string) bool {
	return dir == prefix || strings.HasPrefix(dir, prefix+"/")
}
