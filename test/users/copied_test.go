package users

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/test/lab"
)

// linkLocal covers docker/compose#3757: --link-local-ip addresses, which Docker tells no driver, work between hosts.
func linkLocal(ctx context.Context, t *testing.T, w *world) {
	first := w.run(ctx, w.Hosts[0], "ll1", "--network", "web", "--link-local-ip", "169.254.71.1")
	second := w.run(ctx, w.Hosts[1], "ll2", "--network", "web")
	w.docker(ctx, w.Hosts[1], "network", "disconnect", "web", "ll2")
	w.docker(ctx, w.Hosts[1], "network", "connect", "--link-local-ip", "169.254.71.2", "web", "ll2")
	first.reaches(ctx, t, netip.MustParseAddr("169.254.71.2"))
	second.reaches(ctx, t, netip.MustParseAddr("169.254.71.1"))
	// A second container with an address that is taken: its host says so.
	w.run(ctx, w.Hosts[1], "ll3", "--network", "web", "--link-local-ip", "169.254.71.1")
	eventually(ctx, t, patience, func(ctx context.Context) error {
		var all string
		for _, h := range w.Hosts {
			out, err := h.SocketPlane(ctx, "network", "inspect", "web")
			if err != nil {
				return err
			}
			all += out
		}
		if !strings.Contains(all, "169.254.71.1") || !strings.Contains(all, "--link-local-ip") {
			return fmt.Errorf("no host tells of the address that two containers have:\n%s", all)
		}
		return nil
	})
	w.docker(ctx, w.Hosts[0], "rm", "-f", "ll1")
	w.docker(ctx, w.Hosts[1], "rm", "-f", "ll2", "ll3")
}

// copiedMachine covers weave#3263 and consul#9467: the second host gets the disk of the first one's agent. It is refused, both say why, and the cure mends it.
func copiedMachine(ctx context.Context, t *testing.T, w *world) {
	first, copied := w.Hosts[0], w.Hosts[1]
	c := w.run(ctx, first, "stays", "--network", "web")
	if err := copied.StopAgent(); err != nil {
		t.Fatal(err)
	}
	if err := copied.Wipe(); err != nil {
		t.Fatal(err)
	}
	const state = "var/lib/socketplane"
	text, err := os.ReadFile(filepath.Join(first.Dir, state, "local.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied.Dir, state, "local.db"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := copied.StartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	w.refused(ctx, copied, []string{"another machine has this host's id", first.Addr.String(), copied.Addr.String(), "socketplane clean"},
		"run", "--rm", "--network", "web", lab.ImageName, "true")
	eventually(ctx, t, patience, func(ctx context.Context) error {
		out, err := first.SocketPlane(ctx, "doctor", "--format", "json") // which fails where anything is wrong
		if !strings.Contains(out, copied.Addr.String()+" has this host's id") {
			return fmt.Errorf("doctor of the first host: %s, %v", out, err)
		}
		return nil
	})
	// The first one is restarted and stays who it is; its container talks.
	if err := first.RestartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	if err := first.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	// The cure.
	if err := copied.StopAgent(); err != nil {
		t.Fatal(err)
	}
	if out, err := copied.SocketPlane(ctx, "clean", "--yes"); err != nil {
		t.Fatal(out, err)
	}
	if err := copied.StartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	if err := copied.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	w.docker(ctx, copied, "network", "rm", "web")
	eventually(ctx, t, patience, func(ctx context.Context) error {
		_, err := copied.Docker(ctx, "network", "inspect", "web")
		return err
	})
	far := w.run(ctx, copied, "own", "--network", "web")
	far.reaches(ctx, t, c.addr)
	// Two hosts of one name: the name means neither.
	if err := copied.RestartAgent(ctx, "--name", first.Name); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, patience, func(ctx context.Context) error {
		_, err := first.SocketPlane(ctx, "host", "inspect", first.Name)
		if err == nil || !strings.Contains(err.Error(), "means 2 hosts") || !strings.Contains(err.Error(), copied.Addr.String()) {
			return fmt.Errorf("inspect of a name that two hosts have: %v", err)
		}
		return nil
	})
	if _, err := first.SocketPlane(ctx, "host", "rm", first.Name); err == nil || !strings.Contains(err.Error(), "give the id") {
		t.Errorf("host rm of a name that two hosts have: %v", err)
	}
}
