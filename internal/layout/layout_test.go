package layout_test

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
)

// check is one promise that the packages of this repository make each other.
type check struct {
	name string
	// find returns one complaint for each place that breaks the promise.
	find func([]file) []string
	// broken are sources that break it: a check that finds nothing in them can't fail.
	broken []fixture
}

// fixture is a small tree of sources that breaks one check.
type fixture struct {
	name  string
	files map[string]string // source by file name
	// want is part of the complaint.
	want string
}

// checks are all checks that look at sources.
var checks = slices.Concat(formChecks, importChecks, crashChecks)

func TestSources(t *testing.T) {
	all := sources(t)
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			for _, complaint := range c.find(all) {
				t.Error(complaint)
			}
		})
	}
}

// TestEachCheckCanFail gives each check sources that break what it checks.
func TestEachCheckCanFail(t *testing.T) {
	for _, c := range checks {
		if len(c.broken) == 0 {
			t.Errorf("%s has no fixture that fails", c.name)
		}
		for _, broken := range c.broken {
			t.Run(c.name+"/"+broken.name, func(t *testing.T) {
				complaints := c.find(broken.parse(t))
				if !slices.ContainsFunc(complaints, func(s string) bool { return strings.Contains(s, broken.want) }) {
					t.Errorf("no complaint has %q: %q", broken.want, complaints)
				}
			})
		}
	}
}

func (x fixture) parse(t *testing.T) (files []file) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(x.files)) {
		f, err := parse(name, x.files[name])
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// one is a fixture of one file.
func one(name, file, source, want string) fixture {
	return fixture{name, map[string]string{file: source}, want}
}

// mainLines is how long cmd/socketplane may be.
const mainLines = 40

// fileLines is how long a file may be, tests too: what is longer is about more than one thing, and is split by what it is about.
const fileLines = 400

// formChecks are about the form of packages and files.
var formChecks = []check{
	{"package comments", packageComments, []fixture{
		one("none", "internal/x/x.go", "package x", "internal/x has no package comment"),
		one("empty", "internal/x/x.go", "//\npackage x", "internal/x has no package comment"),
	}},
	{"package names", packageNames, []fixture{
		one("util", "internal/util/x.go", "package util", "package util says nothing"),
		one("test of util", "internal/util/x_test.go", "package util_test", "package util says nothing"),
	}},
	{"main is small", mainIsSmall, []fixture{
		one("long", "cmd/socketplane/main.go", "package main"+strings.Repeat("\n", mainLines+1), "move code to internal/cli"),
		one("none", "internal/x/x.go", "package x", "cmd/socketplane has 0 lines"),
	}},
	{"files are short", filesAreShort, []fixture{
		one("long", "internal/x/x.go", "package x"+strings.Repeat("\n", fileLines+1), "internal/x/x.go has 401 lines"),
		one("long test", "internal/x/x_test.go", "package x"+strings.Repeat("\n", fileLines+1), "internal/x/x_test.go has 401 lines"),
	}},
	{"no init", noInit, []fixture{
		one("init", "internal/x/x.go", "package x\n\nfunc init() {}", "internal/x/x.go:3: init"),
	}},
	{"no sleep", noSleep, []fixture{
		one("sleep", "internal/x/x.go", "package x\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }", "internal/x/x.go:5: time.Sleep"),
		one("in a test", "internal/x/x_test.go", "package x\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }", "internal/x/x_test.go:5: time.Sleep"),
	}},
	{"no context without a caller", noBackground, []fixture{
		one("background", "internal/x/x.go", "package x\n\nimport \"context\"\n\nvar c = context.Background()", "internal/x/x.go:5: context.Background"),
		one("todo", "driver/x.go", "package driver\n\nimport \"context\"\n\nvar c = context.TODO()", "driver/x.go:5: context.TODO"),
		one("excused in vain", "internal/metrics/metrics.go", "package metrics", "internal/metrics/metrics.go needs no excuse"),
	}},
}

func packageComments(files []file) (out []string) {
	commented, seen := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		// A directory of tests only has its comment in one of them.
		seen[f.dir()] = true
		if f.ast.Doc != nil && len(strings.TrimSpace(f.ast.Doc.Text())) > 0 {
			commented[f.dir()] = true
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(seen)) {
		if !commented[dir] {
			out = append(out, dir+" has no package comment: say what it owns, what it may import, and what it must not know")
		}
	}
	return out
}

func packageNames(files []file) (out []string) {
	for _, f := range files {
		name := strings.TrimSuffix(f.ast.Name.Name, "_test")
		if slices.Contains([]string{"util", "utils", "common", "helpers", "misc"}, name) {
			out = append(out, fmt.Sprintf("%s: package %s says nothing about what it owns", f.name, name))
		}
	}
	return out
}

// mainIsSmall keeps what can go wrong out of reach of main, where nothing tests it.
func mainIsSmall(files []file) []string {
	total := 0
	for _, f := range files {
		if f.dir() == "cmd/socketplane" && !f.isTest() {
			total += f.lines()
		}
	}
	if total > 0 && total <= mainLines {
		return nil
	}
	return []string{fmt.Sprintf("cmd/socketplane has %d lines, want 1 to %d: move code to internal/cli", total, mainLines)}
}

func filesAreShort(files []file) (out []string) {
	for _, f := range files {
		if n := f.lines(); n > fileLines {
			out = append(out, fmt.Sprintf("%s has %d lines, want at most %d: split it by what it is about", f.name, n, fileLines))
		}
	}
	return out
}

// noInit: an init runs for every importer, in an order that no source shows, and can't return an error.
func noInit(files []file) (out []string) {
	for _, f := range files {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				out = append(out, f.at(fn)+": init: make it a function that main's callees call")
			}
		}
	}
	return out
}

// noSleep: a sleep is either too short for a loaded machine or too long for all others. Poll with a deadline, or use a
// timer with the context.
func noSleep(files []file) (out []string) {
	for _, f := range files {
		for sel := range f.selectors("time", "Sleep") {
			out = append(out, f.at(sel)+": time.Sleep: wait for the condition itself")
		}
	}
	return out
}

// backgrounds are the files outside of tests that may begin with a context of their own, and why.
var backgrounds = map[string]string{
	"plugin/listen.go":                       "binding a socket waits for nothing",
	"plugin/server.go":                       "requests that are being answered end after the caller's context, within a limit",
	"store/consul/consul.go":                 "ended by Close",
	"store/bolt/bolt.go":                     "ended by Close",
	"internal/retry/trouble.go":              "slog wants one for a line of the log",
	"internal/metrics/metrics.go":            "Prometheus gives a gauge none",
	"internal/metrics/parts.go":              "Prometheus gives a collector none",
	"internal/agent/managed.go":              "a plugin's end comes after its context's, and is bounded",
	"internal/cluster/consulproc/process.go": "ended by Kill",
}

// noBackground: work that no caller's context ends can outlive what it works on.
func noBackground(files []file) (out []string) {
	excused := map[string]bool{}
	for _, f := range files {
		if f.isTest() || under(f.dir(), "test") || under(f.dir(), "internal/testenv") || under(f.dir(), "cmd") || f.dir() == "store/storetest" {
			continue
		}
		excused[f.name] = false
		for _, name := range []string{"Background", "TODO"} {
			for sel := range f.selectors("context", name) {
				if excused[f.name] = true; backgrounds[f.name] == "" {
					out = append(out, fmt.Sprintf("%s: context.%s: take the caller's context", f.at(sel), name))
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(backgrounds)) {
		if used, is := excused[name]; is && !used {
			out = append(out, name+" needs no excuse for context.Background any more")
		}
	}
	return out
}

// under reports whether dir is prefix or within it.
func under(dir, prefix string) bool {
	return dir == prefix || strings.HasPrefix(dir, prefix+"/")
}
