package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// TestLocked is a cluster that is locked: who is in stays in, through rotations and absences; everybody else is refused, is told
// why, is named in the log, and changes nothing.
func TestLocked(t *testing.T) {
	w := start(t, 15*time.Minute, lab.Options{Hosts: 3, NoAgent: true, NoDocker: true, NoOVS: true})
	w.each(w.Hosts, func(h *lab.Host) error { return h.StartAgent(w.ctx) })
	w.eventually("three hosts form a cluster", patience, func(ctx context.Context) error { return formed(ctx, w.Hosts, 3) })
	for _, part := range []struct {
		name string
		do   func(*world)
	}{
		{"lock", lock},
		{"without_a_token", withoutToken},
		{"bad_tokens", badTokens},
		{"good_token", goodToken},
		{"keys_of_servers", keysOfServers},
		{"replayed_token", replayedToken},
		{"wrong_key", wrongKey},
		{"removed_host", removedHost},
		{"port_scan", portScan},
		{"unlock", unlock},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.do(w.with(t)) }) {
			return // what follows builds on it
		}
	}
}

// keyState is what the command line says of a cluster's keys.
type keyState struct {
	State   string
	Locked  bool
	Epoch   int
	Trouble string
}

func keysOf(ctx context.Context, h *lab.Host) (keyState, error) {
	return ask[keyState](ctx, h, "cluster", "status")
}

// epoch waits until the hosts see this epoch.
func (w *world) epoch(hosts []*lab.Host, want int) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%d hosts have the keys of epoch %d", len(hosts), want), patience, func(ctx context.Context) error {
		for _, h := range hosts {
			s, err := keysOf(ctx, h)
			if err != nil {
				return err
			}
			if s.Epoch != want {
				return fmt.Errorf("%s has epoch %d", h.Name, s.Epoch)
			}
		}
		return nil
	})
}

// members are the names of the members as h sees them.
func (w *world) members(h *lab.Host) []string {
	w.t.Helper()
	s, err := statusOf(w.ctx, h)
	w.must(err)
	var names []string
	for _, m := range s.Members {
		names = append(names, m.Name)
	}
	return names
}

// refused waits until h is told why it is refused; members have named it in their log then.
func (w *world) refused(h *lab.Host, code, told string) {
	w.t.Helper()
	w.eventually(h.Name+" is told that it is refused: "+code, patience, func(ctx context.Context) error {
		s, err := keysOf(ctx, h)
		if err == nil && (s.State == "member" || !strings.Contains(s.Trouble, told)) {
			err = fmt.Errorf("state %s, trouble %q", s.State, s.Trouble)
		}
		return err
	})
	w.named(h, code)
}

// named demands a line in a member's log that names the host, its address and the reason.
func (w *world) named(h *lab.Host, code string) {
	w.t.Helper()
	for _, m := range w.Hosts {
		for line := range strings.Lines(w.log(m)) {
			if strings.Contains(line, "host refused") && strings.Contains(line, "peer="+h.Addr.String()) &&
				strings.Contains(line, "name="+h.Name+" ") && strings.Contains(line, "code="+code+" ") {
				return
			}
		}
	}
	w.t.Errorf("no member's log says that %s is refused with code %s", h.Name, code)
}

func (w *world) log(h *lab.Host) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.Dir, "log", "agent.log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	return string(text)
}

// stranger demands that h is none of the members.
func (w *world) stranger(h *lab.Host) {
	w.t.Helper()
	if names := w.members(w.Hosts[0]); slices.Contains(names, h.Name) {
		w.t.Errorf("%s is a member: %v", h.Name, names)
	}
}

// newToken makes a token on the first host.
func (w *world) newToken(args ...string) (text, id string) {
	w.t.Helper()
	return w.newTokenOn(w.Hosts[0], args...)
}

func (w *world) newTokenOn(h *lab.Host, args ...string) (text, id string) {
	w.t.Helper()
	out, _, err := w.insist(h, "", append([]string{"cluster", "token", "create", "--format", "json"}, args...)...)
	w.must(err)
	var made struct{ ID, Token string }
	w.must(json.Unmarshal([]byte(out), &made))
	return made.Token, made.ID
}

// joinWith lets h join with a token, and gives what it was told.
func (w *world) joinWith(h *lab.Host, token string) error {
	w.t.Helper()
	w.must(os.WriteFile(filepath.Join(h.Dir, "run", "token"), []byte(token+"\n"), 0o600))
	_, _, err := w.insist(h, inCluster, "cluster", "join", "--token-file", "/run/token", w.Hosts[0].Addr.String())
	return err
}

// add starts one more host and its agent; it is not among the hosts of the cluster.
func (w *world) add() *lab.Host {
	w.t.Helper()
	h, err := w.AddHost(w.ctx)
	w.must(err)
	w.must(h.StartAgent(w.ctx))
	return h
}

func lock(w *world) {
	before, err := keysOf(w.ctx, w.Hosts[0])
	w.must(err)
	if before.Locked {
		w.t.Fatal("a new cluster is locked")
	}
	_, _, err = w.insist(w.Hosts[1], "", "cluster", "lock")
	w.must(err)
	w.epoch(w.Hosts, before.Epoch+3)
	w.eventually("everybody is in still", patience, func(ctx context.Context) error { return formed(ctx, w.Hosts, 3) })
	for _, h := range w.Hosts {
		if s, err := keysOf(w.ctx, h); err != nil || !s.Locked {
			w.t.Errorf("%s: locked %v, %v", h.Name, s.Locked, err)
		}
	}
	w.writes(w.Hosts)
}

// writes demands that each host's store takes writes.
func (w *world) writes(hosts []*lab.Host) {
	w.t.Helper()
	for _, h := range hosts {
		out, _, err := w.insist(h, "", "cluster", "token", "create", "--expires", "1m", "--format", "json")
		if err != nil || out == "" {
			w.t.Errorf("%s writes nothing: %v", h.Name, err)
		}
	}
}

func withoutToken(w *world) {
	h := w.add() // the fourth, which the following parts use
	w.refused(h, "locked", "socketplane cluster token create")
	w.stranger(h)
	if err := w.joinWithout(h); err == nil || !strings.Contains(err.Error(), "socketplane cluster token create") {
		w.t.Errorf("join without a token: %v", err)
	}
}

func (w *world) joinWithout(h *lab.Host) error {
	_, _, err := w.insist(h, "", "cluster", "join", w.Hosts[0].Addr.String())
	return err
}

func badTokens(w *world) {
	h := w.Hosts[3]
	expired, _ := w.newToken("--expires", "1s")
	removed, id := w.newToken()
	_, _, err := w.insist(w.Hosts[0], "no token", "cluster", "token", "rm", id)
	w.must(err)
	good, _ := w.newToken()
	parts := strings.Split(good, ".")
	forged := strings.Join([]string{parts[0], parts[1], strings.Repeat("0", len(parts[2])), parts[3]}, ".")
	foreign := strings.Join([]string{parts[0], parts[1], parts[2], strings.Repeat("0", len(parts[3]))}, ".")
	w.eventually("a token expires", patience, func(ctx context.Context) error {
		out, err := w.Hosts[0].SocketPlane(ctx, "cluster", "token", "ls")
		if err == nil && strings.Contains(out, strings.Split(expired, ".")[1]) {
			err = fmt.Errorf("it is listed: %s", out)
		}
		return err
	})
	for _, tc := range []struct{ name, token, code, told string }{
		{"expired", expired, "token-expired", "has expired"},
		{"removed", removed, "token", "does not know this token"},
		{"forged", forged, "token", "does not know this token"},
		{"of another authority", foreign, "", "not of this cluster"},
		{"half of one", good[:40], "", "not a join token"},
	} {
		err := w.joinWith(h, tc.token)
		if err == nil || !strings.Contains(err.Error(), tc.told) {
			w.t.Errorf("%s: %v, want %q", tc.name, err, tc.told)
		}
		if err != nil && strings.Contains(err.Error(), parts[2]) {
			w.t.Errorf("%s: the error has the secret", tc.name)
		}
		if tc.code != "" {
			w.named(h, tc.code)
		}
		w.stranger(h)
	}
	for _, host := range w.Hosts {
		if strings.Contains(w.log(host), parts[2]) {
			w.t.Errorf("a token's secret is in the log of %s", host.Name)
		}
	}
}

func goodToken(w *world) {
	h := w.Hosts[3]
	token, _ := w.newToken()
	w.must(w.joinWith(h, token))
	w.eventually("four hosts are a cluster", patience, func(ctx context.Context) error { return formed(ctx, w.Hosts, 3) })
	w.writes(w.Hosts)
	// It was used.
	other := w.add()
	err := w.joinWith(other, token)
	if err == nil || !strings.Contains(err.Error(), "as often as it may be") {
		w.t.Errorf("a spent token: %v", err)
	}
	w.named(other, "token-spent")
	w.stranger(other)
}

// replayedToken: two hosts show the same token in the same moment.
func replayedToken(w *world) {
	one, two := w.Hosts[4], w.add()
	token, _ := w.newToken()
	errs := make([]error, 2)
	w.each([]*lab.Host{one, two}, func(h *lab.Host) error {
		i := 0
		if h == two {
			i = 1
		}
		errs[i] = w.joinWith(h, token)
		return nil
	})
	if (errs[0] == nil) == (errs[1] == nil) {
		w.t.Fatalf("of two hosts with one token for one host, they were told %v and %v", errs[0], errs[1])
	}
	loser, err := two, errs[1]
	if errs[0] != nil {
		loser, err = one, errs[0]
	}
	if !strings.Contains(err.Error(), "as often as it may be") {
		w.t.Errorf("the loser is told %v", err)
	}
	w.named(loser, "token-spent")
	w.stranger(loser)
	// The loser is the last host from here on, and out of the game.
	w.must(loser.StopAgent())
	w.Hosts = append(except(w.Hosts, loser), loser)
	w.eventually("five hosts are a cluster", patience, func(ctx context.Context) error { return formed(ctx, w.Hosts[:5], 5) })
}

// inside are the hosts of the cluster.
func (w *world) inside() []*lab.Host { return w.Hosts[:5] }

// wrongKey: a host with the id of a member and another key. With its own key again, it is that member.
func wrongKey(w *world) {
	h := w.Hosts[4]
	w.must(h.StopAgent())
	w.must(w.killConsul(h))
	state := filepath.Join(h.Dir, "var/lib/socketplane")
	w.must(os.Rename(filepath.Join(state, "cluster"), filepath.Join(state, "kept")))
	w.must(h.StartAgent(w.ctx))
	w.refused(h, "other-key", "another key")
	w.must(h.StopAgent())
	w.must(os.RemoveAll(filepath.Join(state, "cluster")))
	w.must(os.Rename(filepath.Join(state, "kept"), filepath.Join(state, "cluster")))
	w.must(h.StartAgent(w.ctx))
	w.eventually("the host is a member with its own key", patience, func(ctx context.Context) error { return formed(ctx, w.inside(), 5) })
}

// killConsul ends the Consul that a host's agent has left running.
func (w *world) killConsul(h *lab.Host) error {
	_, err := h.Exec(w.ctx, "pkill", "-x", "consul")
	return err
}

// removedHost: one host is removed while it is off, another one is off while the keys are rotated for that.
func removedHost(w *world) {
	gone, late := w.Hosts[3], w.Hosts[4]
	gone.Halt()
	late.Halt()
	rest := w.Hosts[:3]
	before, err := keysOf(w.ctx, rest[0])
	w.must(err)
	w.eventually("the host is removed, as it is down", patience, func(ctx context.Context) error {
		_, err := rest[0].SocketPlane(ctx, "host", "rm", gone.Name)
		if err != nil && strings.Contains(err.Error(), "has no host") {
			return nil // the answer to the one before was lost
		}
		return err
	})
	w.epoch(rest, before.Epoch+3)
	w.writes(rest)
	w.must(gone.Reboot(w.ctx))
	w.must(gone.StartAgent(w.ctx))
	w.must(late.Reboot(w.ctx))
	w.must(late.StartAgent(w.ctx))
	inside := append(slices.Clone(rest), late)
	w.eventually("the host that was off is in again", patience, func(ctx context.Context) error { return formed(ctx, inside, 3) })
	w.writes(inside)
	w.refused(gone, "locked", "socketplane cluster token create")
	w.stranger(gone)
	w.named(gone, "not-member")
	if out, err := gone.Exec(w.ctx, "pgrep", "-x", "consul"); err == nil {
		w.t.Errorf("the removed host runs a Consul still: %s", out)
	}
	if _, err := gone.SocketPlane(w.ctx, "cluster", "token", "ls"); err == nil {
		w.t.Error("the removed host reads the cluster's records")
	}
	// With a token it is a host like any other.
	token, _ := w.newToken()
	w.must(w.joinWith(gone, token))
	w.eventually("the removed host has joined as a new one", patience, func(ctx context.Context) error { return formed(ctx, w.inside(), 5) })
}

// portScan: a host of the segment that is no member opens connections to all ports of all members, says garbage or nothing.
func portScan(w *world) {
	scanner := w.Hosts[5]
	before := w.members(w.Hosts[0])
	size := len(w.log(w.Hosts[0]))
	began := time.Now()
	w.each(w.inside(), func(h *lab.Host) error {
		script := fmt.Sprintf(`for i in 1 2 3 4 5 6 7 8 9 10; do for p in 4780 4781 4782 4783; do
			busybox nc -w 2 %[1]s $p </dev/null >/dev/null 2>&1 &
			head -c 2000 /dev/urandom | busybox nc -w 2 %[1]s $p >/dev/null 2>&1 &
			printf '\026\003\001\002\000\001\000\001' | busybox nc -w 2 %[1]s $p >/dev/null 2>&1 &
			printf 'GET / HTTP/1.0\r\n\r\n' | busybox nc -w 2 %[1]s $p >/dev/null 2>&1 &
		done; wait; done`, h.Addr)
		_, err := scanner.Exec(w.ctx, "sh", "-c", script)
		return err
	})
	w.t.Logf("the scan took %.1f s", time.Since(began).Seconds())
	w.eventually("the cluster is whole", patience, func(ctx context.Context) error { return formed(ctx, w.inside(), 5) })
	w.writes(w.inside())
	if after := w.members(w.Hosts[0]); !slices.Equal(before, after) {
		w.t.Errorf("members %v, were %v", after, before)
	}
	said := w.log(w.Hosts[0])[size:]
	if !strings.Contains(said, "a peer was not served") || !strings.Contains(said, "peer="+scanner.Addr.String()) {
		w.t.Error("the log does not name who scanned")
	}
	if lines := strings.Count(said, "a peer was not served"); lines > 30 {
		w.t.Errorf("160 connections to admission wrote %d lines", lines)
	}
}

// unlock: the last host joins by itself.
func unlock(w *world) {
	_, _, err := w.insist(w.Hosts[0], "", "cluster", "unlock")
	w.must(err)
	w.must(w.Hosts[5].StartAgent(w.ctx))
	w.eventually("a host without a token joins", patience, func(ctx context.Context) error { return formed(ctx, w.Hosts, 5) })
}
