package crash

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// elsewhere are the crash points that a life cycle does not reach, with the place that covers them.
var elsewhere = map[string]string{
	"journal: give a new file up": "a full disk: internal/journal",
	"consul: renew a session":     "every 10 s; writes no key",
	"link: checksums":             "hosts without user-space segmentation; it is looked at anew with every mend: internal/hostlink",
	"link: checksums set":         "likewise",
	"link: MTU":                   "mends what others changed: internal/dataplane/ovs",
	"link: MAC":                   "mends what others changed: internal/dataplane/ovs",
	"link: address":               "removes what others put on our links: internal/hostlink",
	"link: route":                 "removes what others put on our links: internal/hostlink",
	"link: stray":                 "removes what others put on our links: internal/hostlink",
}

// reached demands that every crash point that the sources have was passed, but for those that are excused.
func reached(t *testing.T, seen map[string]bool) {
	t.Helper()
	all := listed(t)
	if len(all) < 20 {
		t.Errorf("the sources have only %d crash points: the test looks for the wrong thing", len(all))
	}
	for name := range all {
		if !seen[name] && elsewhere[name] == "" {
			t.Errorf("crash point %q is reached by no scenario: add a step that does, or say what covers it", name)
		}
	}
	for name, why := range elsewhere {
		if !all[name] {
			t.Errorf("crash point %q (%s) is no more", name, why)
		}
	}
}

// listed are the names of all crash points in the sources.
func listed(t *testing.T) map[string]bool {
	t.Helper()
	const root = "../.."
	all := map[string]bool{}
	for _, dir := range []string{"driver", "ipamdriver", "internal", "ovsctl", "plugin", "store"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && path == filepath.Join(root, "internal/cluster") {
				return fs.SkipDir // it has hosts of its own, which die there
			}
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) != 1 {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || sel.Sel.Name != "Hit" {
					return true
				}
				if lit, ok := call.Args[0].(*ast.BasicLit); ok {
					if name, err := strconv.Unquote(lit.Value); err == nil {
						all[name] = true
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
