package doctor

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// sickness is a misconfiguration: how it is made, what doctor must say of it, and how it is mended.
type sickness struct {
	name string
	harm func(context.Context) error
	// at is the host whose doctor is asked, the first by default.
	at *lab.Host
	// check must be in that state, with all the words in its text and cure.
	check, state string
	words        []string
	// never are words that nothing that doctor says may have.
	never []string
	// code is the exit code; that of the state by default.
	code int
	// mend mends it; without it the cure itself is run, its first command.
	mend func(context.Context) error
	// after is done when it is mended, by whom ever.
	after func(context.Context) error
}

// TestSick makes all misconfigurations, one after the other, in one lab.
func TestSick(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	w := newWard(ctx, t, lab.Options{Hosts: 3, Consul: true, AgentFlags: []string{"--mirror=true"}})
	w.patients(ctx, "socketplane")
	w.recovers(ctx, t)
	all := w.sicknesses()
	if len(all) < 30 {
		t.Errorf("only %d misconfigurations are tried", len(all))
	}
	for _, s := range all {
		began := time.Now()
		t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) { w.treat(ctx, t, s) })
		t.Logf("%s: %v", s.name, time.Since(began).Round(100*time.Millisecond))
		if ctx.Err() != nil {
			return
		}
	}
}

// treat makes a misconfiguration, asks doctor, mends it, and asks again. What it has made it undoes also when doctor was wrong.
func (w *ward) treat(ctx context.Context, t *testing.T, s sickness) {
	if s.at == nil {
		s.at = w.Hosts[0]
	}
	if err := s.harm(ctx); err != nil {
		t.Error(err)
	}
	found, err := w.diagnosed(ctx, t, s)
	if err != nil {
		t.Errorf("not within %v: %v", patience, err)
	}
	mend := s.mend
	if mend == nil {
		mend = on(s.at, sh(command(found.Cure)))
	}
	if err := mend(ctx); err != nil {
		t.Errorf("%s: %v", found.Cure, err)
	}
	if s.after != nil {
		if err := s.after(ctx); err != nil {
			t.Error(err)
		}
	}
	w.recovers(ctx, t)
}

// diagnosed asks until doctor is right, and returns the last answer.
func (w *ward) diagnosed(ctx context.Context, t *testing.T, s sickness) (found check, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = testenv.Poll(ctx, 100*time.Millisecond, func() bool { // err has what was wrong last
		d, failed := diagnose(ctx, s.at)
		switch {
		case failed != nil && (ctx.Err() == nil || err == nil):
			err = failed
		case failed == nil:
			found, err = s.said(d)
		}
		if d.took > answered {
			t.Errorf("doctor took %v: %v", d.took, d)
		}
		return failed == nil && err == nil
	})
	return found, err
}

// said looks whether a diagnosis is right.
func (s sickness) said(d diagnosis) (check, error) {
	c, there := d.find(s.check)
	if !there {
		return c, fmt.Errorf("there is no check %q: %v", s.check, d)
	}
	if c.State != s.state {
		return c, fmt.Errorf("%s is %s, not %s: %s\n%v", s.check, c.State, s.state, c.Text, d)
	}
	for _, word := range s.words {
		if !strings.Contains(c.Text+" "+c.Cure, word) {
			return c, fmt.Errorf("%s does not say %q: %s | %s", s.check, word, c.Text, c.Cure)
		}
	}
	if c.Cure == "" {
		return c, fmt.Errorf("%s has no cure: %s", s.check, c.Text)
	}
	for _, other := range d.checks {
		for _, word := range s.never {
			if other.State != "ok" && strings.Contains(other.Text+" "+other.Cure, word) {
				return c, fmt.Errorf("%s says %q: %s | %s", other.Name, word, other.Text, other.Cure)
			}
		}
	}
	code := s.code
	if code == 0 {
		code = map[string]int{"error": 1, "warning": 5, "unknown": 5}[s.state]
	}
	if d.code != code {
		return c, fmt.Errorf("want exit code %d: %v", code, d)
	}
	return c, nil
}

// command is the first command of a cure, which ends where the text goes on.
func command(cure string) string {
	for _, end := range []string{", and ", "; ", " (", ", or "} {
		cure, _, _ = strings.Cut(cure, end)
	}
	return cure
}

// on returns what runs programs on a host.
func on(h *lab.Host, commands ...[]string) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, argv := range commands {
			if _, err := h.Exec(ctx, argv...); err != nil {
				return err
			}
		}
		return nil
	}
}

// sh is a command of the shell.
func sh(script string) []string { return []string{"sh", "-ec", script} }

// filter makes a rule in a chain of a host's firewall; wall takes it away.
func filter(h *lab.Host, hook, rule string) func(context.Context) error {
	return on(h, []string{"nft", fmt.Sprintf("add table inet broken; add chain inet broken c { type filter hook %s priority 0; }; add rule inet broken c %s", hook, rule)})
}

func unfiltered(h *lab.Host) func(context.Context) error {
	return on(h, []string{"nft", "delete", "table", "inet", "broken"})
}

// signal sends a signal to a daemon.
func signal(h *lab.Host, d lab.Daemon, sig syscall.Signal) func(context.Context) error {
	return func(context.Context) error {
		h.Signal(d, sig)
		return nil
	}
}

// restart restarts a host's agent with other flags.
func restart(h *lab.Host, flags ...string) func(context.Context) error {
	return func(ctx context.Context) error { return h.RestartAgent(ctx, flags...) }
}

func both(all ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, f := range all {
			if err := f(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}
