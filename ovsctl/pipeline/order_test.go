package pipeline

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// The switch refuses a flow that goes back.
func TestTheOrderRises(t *testing.T) {
	for i, s := range stages[1:] {
		if s.table <= stages[i].table {
			t.Errorf("table %d comes after %d", s.table, stages[i].table)
		}
	}
}

// A table is entered only where a lane passes it, so a reserved one never is.
func TestEachFlowGoesOnWhereTheOrderSays(t *testing.T) {
	var flows int
	for _, kind := range []dataplane.TunnelKind{"", dataplane.TunnelOVS, dataplane.TunnelKernel} {
		for _, extensions := range []bool{false, true} {
			cfg := Config{Tunnel: kind, NDExtensions: extensions}
			for _, f := range append(Base(cfg), Network(cfg, crowd(3, 3), 60000)...) {
				flows++
				at := slices.IndexFunc(stages, func(s stage) bool { return s.table == f.Table })
				to := slices.IndexFunc(stages, func(s stage) bool { return s.table == f.Goto })
				if at < 0 || stages[at].lanes == 0 || f.Goto != 0 && (to <= at || stages[to].lanes == 0) {
					t.Errorf("%s", f)
				}
			}
		}
	}
	if flows == 0 {
		t.Fatal("no flow was looked at")
	}
}

// The order is written down once: no flow names the table that it goes on to.
func TestNoFlowNamesItsNextTable(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	literal := regexp.MustCompile(`(?m)Goto:\s*(Table\w+|\d)|\.Goto\b[^=\n]*=[^=\n]*\b(Table\w+|\d+)\s*$`)
	for _, sample := range []string{"Goto: TableFlood", "Goto:    70", "f.Goto = TableFlood", "f.Actions, f.Goto = x, TableFlood"} {
		if !literal.MatchString(sample) {
			t.Errorf("%q is not found", sample)
		}
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if found := literal.Find(text); found != nil {
			t.Errorf("%s: %s", name, found)
		}
	}
}
