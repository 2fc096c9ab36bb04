package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

const (
	// patience bounds the wait for what takes a moment.
	patience = 30 * time.Second
	// answered is how long doctor may take, whatever hangs.
	answered = 20 * time.Second
)

// check is a check as programs read it.
type check struct {
	Name, State, Text, Cure string
	Looked                  string `json:"looked_at"`
	NotApplicable           bool   `json:"not_applicable"`
}

// diagnosis is one answer of doctor.
type diagnosis struct {
	checks []check
	code   int
	took   time.Duration
}

func (d diagnosis) find(name string) (check, bool) {
	i := slices.IndexFunc(d.checks, func(c check) bool { return c.Name == name })
	if i < 0 {
		return check{}, false
	}
	return d.checks[i], true
}

// String shows what is not well.
func (d diagnosis) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "exit code %d after %v", d.code, d.took.Round(time.Millisecond))
	for _, c := range d.checks {
		if c.State != "ok" {
			fmt.Fprintf(&b, "\n  %s %s: %s | %s", c.State, c.Name, c.Text, c.Cure)
		}
	}
	return b.String()
}

// diagnose runs doctor on a host.
func diagnose(ctx context.Context, h *lab.Host, args ...string) (diagnosis, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*answered)
	defer cancel()
	began := time.Now()
	out, err := h.SocketPlane(ctx, append([]string{"doctor", "--format", "json"}, args...)...)
	d := diagnosis{took: time.Since(began)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		d.code = exit.ExitCode()
	} else if err != nil {
		return d, err
	}
	var answer struct{ Checks []check }
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&answer); err != nil {
		return d, fmt.Errorf("doctor answered %q: %w", out, err)
	}
	d.checks = answer.Checks
	return d, nil
}

// ward is a lab whose hosts are looked at.
type ward struct {
	*lab.Lab
	t *testing.T
}

// newWard starts a lab.
func newWard(ctx context.Context, t *testing.T, opts lab.Options) *ward {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "ovs-ofctl", "dockerd", "docker", "ip", "nft", "nsenter", "busybox", "consul")
	opts.Log, opts.Engine, opts.Tunnel = t.Logf, lab.Engine(os.Getenv("SOCKETPLANE_E2E_ENGINE")), lab.TunnelKernel
	l, err := lab.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	w := &ward{l, t}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range w.Hosts {
				t.Logf("the agent of %s:\n%s", h.Name, h.LogTail("agent", 15))
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// eventually polls until f returns nil.
func eventually(ctx context.Context, t *testing.T, within time.Duration, f func(context.Context) error) {
	t.Helper()
	if err := testenv.Await(ctx, within, 100*time.Millisecond, f); err != nil {
		t.Fatal(err)
	}
}

// must runs a program on a host, which must succeed.
func (w *ward) must(ctx context.Context, h *lab.Host, argv ...string) string {
	w.t.Helper()
	out, err := h.Exec(ctx, argv...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// docker runs a docker command that must succeed.
func (w *ward) docker(ctx context.Context, h *lab.Host, args ...string) {
	w.t.Helper()
	if _, err := h.Docker(ctx, args...); err != nil {
		w.t.Fatal(err)
	}
}

// well says whether nothing is wrong, and the exit code says so.
func well(ctx context.Context, h *lab.Host) error {
	d, err := diagnose(ctx, h)
	if err != nil {
		return err
	}
	for _, c := range d.checks {
		if c.State != "ok" {
			return fmt.Errorf("%s is not well: %v", h.Name, d)
		}
		if c.Looked == "" {
			return fmt.Errorf("%s does not say at what it looked", c.Name)
		}
	}
	if d.code != 0 {
		return fmt.Errorf("%s: %v", h.Name, d)
	}
	return nil
}

// recovers waits until all hosts are well.
func (w *ward) recovers(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, h := range w.Hosts {
		eventually(ctx, t, patience, func(ctx context.Context) error { return well(ctx, h) })
	}
}

// patients starts a container of the network on each host.
func (w *ward) patients(ctx context.Context, network string) {
	w.t.Helper()
	for _, h := range w.Hosts {
		eventually(ctx, w.t, patience, func(ctx context.Context) error {
			_, err := h.Docker(ctx, "network", "inspect", network)
			return err
		})
		w.docker(ctx, h, "run", "-d", "--name", "patient", "--network", network, lab.ImageName)
	}
}
