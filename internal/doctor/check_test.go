package doctor

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
)

func TestMain(m *testing.M) { leaks.Main(m) }

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		slow := func(name string) Check {
			return Check{Name: name, Looks: "at " + name, Look: func(ctx context.Context) Finding {
				<-ctx.Done()
				return Unknown("nothing came", "wait")
			}}
		}
		stuck, end := make(chan struct{}), make(chan struct{})
		hangs := Check{Name: "hangs", Limit: 2 * time.Second, Look: func(context.Context) Finding {
			defer close(end)
			<-stuck
			return OK("too late")
		}}
		parts := Check{Name: "parts", Parts: func(context.Context) (all []Check, none Finding) {
			for i := range 40 {
				all = append(all, Check{Name: fmt.Sprint("part ", i), Look: func(context.Context) Finding { return OK("fine") }})
			}
			return all, none
		}}
		noParts := Check{Name: "none", Parts: func(context.Context) ([]Check, Finding) { return nil, NotApplicable("there is no other host") }}
		bad := Check{Name: "bad", Look: func(context.Context) Finding { return Error("it is broken", "nothing works", "mend it") }}
		got := Run(t.Context(), []Check{slow("a"), hangs, parts, noParts, bad, slow("b")})
		close(stuck)
		<-end
		if took := time.Since(began); took > usualLimit+grace {
			t.Errorf("it took %v: checks do not run side by side", took)
		}
		var names []string
		for _, c := range got {
			names = append(names, c.Name)
		}
		if len(got) != 45 || !slices.Equal(names[:3], []string{"a", "hangs", "part 0"}) || !slices.Equal(names[42:], []string{"none", "bad", "b"}) {
			t.Fatalf("%d results: %q", len(got), names)
		}
		if c := got[1]; c.State != adminapi.CheckUnknown || !strings.Contains(c.Text, "could not look: it took longer than 2s") {
			t.Errorf("a check that hangs: %+v", c)
		}
		if c := got[0]; c.State != adminapi.CheckUnknown || c.Looked != "at a" || c.Cure != "wait" {
			t.Errorf("a slow check: %+v", c)
		}
		if c := got[42]; c.State != adminapi.CheckOK || !c.NotApplicable || c.Text != "not applicable: there is no other host" {
			t.Errorf("no parts: %+v", c)
		}
		if c := got[43]; c.State != adminapi.CheckBad || c.Text != "it is broken: nothing works" || c.Saw != "it is broken" || c.Follows != "nothing works" || c.Cure != "mend it" {
			t.Errorf("an error: %+v", c)
		}
	})
}

// TestManyParts: a cluster of hundreds of hosts that give no answer does not make doctor late, and no host is left out.
func TestManyParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		parts := Check{Name: "parts", Parts: func(context.Context) (all []Check, none Finding) {
			for i := range 500 {
				all = append(all, Check{Name: fmt.Sprint("part ", i), Limit: wayLimit, Look: func(ctx context.Context) Finding {
					<-time.After(4 * time.Second)
					return Warning("no answer", "", "see the host")
				}})
			}
			return all, none
		}}
		got := Run(t.Context(), []Check{parts})
		if took := time.Since(began); took > partsLimit+wayLimit {
			t.Errorf("it took %v", took)
		}
		count := map[string]int{}
		for i, c := range got {
			count[c.State]++
			if c.Name != fmt.Sprint("part ", i) || c.Cure == "" {
				t.Errorf("%d is %+v", i, c)
			}
		}
		if count[adminapi.CheckWarn] < 5*partsAtOnce || count[adminapi.CheckWarn]+count[adminapi.CheckUnknown] != 500 {
			t.Errorf("%v", count)
		}
	})
}

// TestDocumented: docs/doctor.md describes each check, in the order in which they are shown.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| check |")
	table, _, _ = strings.Cut(table, "\n\n")
	var names []string
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) == 5 && !strings.Contains(cells[1], "---") {
			names = append(names, strings.TrimSuffix(strings.TrimSpace(cells[1]), " HOST"))
		}
	}
	if !slices.Equal(names, Names()) {
		t.Errorf("docs/doctor.md describes %q,\nthe checks are %q", names, Names())
	}
}
