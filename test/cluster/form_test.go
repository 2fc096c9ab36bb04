package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// TestRandomStarts: five agents that start at random moments within three seconds are always one cluster.
func TestRandomStarts(t *testing.T) {
	runs := 2
	if long() {
		runs = 20
	}
	w := start(t, 30*time.Minute, lab.Options{Hosts: 5, NoAgent: true, NoDocker: true, NoOVS: true})
	for i := range runs {
		ok := t.Run(fmt.Sprintf("run_%d", i+1), func(t *testing.T) {
			w := w.with(t)
			defer w.report()
			watch := w.watchClusters()
			last := w.startAtRandom(rand.Uint64())
			w.eventually("one cluster with five votes", patience, func(ctx context.Context) error { return formed(ctx, w.Hosts, 5) })
			t.Logf("that was %.1f s after the last start", time.Since(last).Seconds())
			w.oneStore()
			if ids := watch(); len(ids) != 1 {
				t.Errorf("hosts were in the clusters %q", ids)
			}
			w.each(w.Hosts, func(h *lab.Host) error {
				h.KillAgent()
				// Its Consul lives on, in the host's own process namespace.
				if _, err := h.Exec(w.ctx, "sh", "-c", "kill -9 $(pgrep -x consul); while pgrep -x consul >/dev/null; do sleep 0.1; done"); err != nil {
					return err
				}
				return h.Wipe()
			})
		})
		if !ok {
			return // the hosts are not what they were
		}
	}
}

// startAtRandom starts all agents within three seconds, and tells when the last one was started.
func (w *world) startAtRandom(seed uint64) time.Time {
	w.t.Helper()
	w.t.Logf("seed %d", seed)
	moments := rand.New(rand.NewPCG(seed, 0))
	began, last := time.Now(), time.Time{}
	at := map[*lab.Host]time.Time{}
	for _, h := range w.Hosts {
		at[h] = began.Add(time.Duration(moments.IntN(3000)) * time.Millisecond)
		if at[h].After(last) {
			last = at[h]
		}
	}
	w.each(w.Hosts, func(h *lab.Host) error {
		if err := testenv.Poll(w.ctx, 5*time.Millisecond, func() bool { return time.Now().After(at[h]) }); err != nil {
			return err
		}
		return h.StartAgent(w.ctx)
	})
	return last
}

// watchClusters looks all the time at which clusters hosts are in, until the function that it returns is called.
func (w *world) watchClusters() func() []string {
	ctx, cancel := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for _, h := range w.Hosts {
		wg.Go(func() {
			_ = testenv.Poll(ctx, 200*time.Millisecond, func() bool {
				if s, err := statusOf(ctx, h); err == nil && s.ID != "" {
					mu.Lock()
					seen[s.ID] = true
					mu.Unlock()
				}
				return false
			})
		})
	}
	return func() []string {
		cancel()
		wg.Wait()
		var ids []string
		for id := range seen {
			ids = append(ids, id)
		}
		return ids
	}
}

// oneStore says that what is written on each host is read on all.
func (w *world) oneStore() {
	w.t.Helper()
	var mu sync.Mutex
	var made []string
	cut := false // a write without an answer may have taken effect
	w.each(w.Hosts, func(h *lab.Host) error {
		return testenv.Poll(w.ctx, 100*time.Millisecond, func() bool {
			token, err := ask[struct{ ID string }](w.ctx, h, "cluster", "token", "create", "--uses", "2")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made = append(made, token.ID)
			case notNow(err):
				cut = true
				w.t.Log(err)
				return false
			default:
				w.t.Error(err)
			}
			return true
		})
	})
	slices.Sort(made)
	for _, h := range w.Hosts {
		out, _, err := w.insist(h, "", "cluster", "token", "ls", "--quiet")
		w.must(err)
		got := slices.Sorted(slices.Values(strings.Fields(out)))
		if cut {
			got = slices.DeleteFunc(got, func(id string) bool { return !slices.Contains(made, id) })
		}
		if !slices.Equal(got, made) {
			w.t.Errorf("%s reads the tokens %q, written were %q", h.Name, got, made)
		}
	}
}

// TestOwnConsul: a host whose user has a Consul uses that one, runs none, and changes nothing else in it.
func TestOwnConsul(t *testing.T) {
	w := start(t, 5*time.Minute, lab.Options{Hosts: 1, Consul: true, NoAgent: true, NoDocker: true, NoOVS: true})
	h := w.Hosts[0]
	binary, err := testenv.ConsulBinary()
	w.must(err)
	look := func() string {
		var all strings.Builder
		for _, path := range []string{"catalog/services", "catalog/nodes", "agent/services", "agent/checks", "agent/members", "query"} {
			out, err := h.Exec(w.ctx, "busybox", "wget", "-qO-", "http://"+w.Consul.Addr+"/v1/"+path)
			w.must(err)
			if path == "catalog/nodes" { // whose details the server itself completes after its start
				out = fmt.Sprint(strings.Count(out, `"Node":`))
			}
			fmt.Fprintf(&all, "%s: %s\n", path, out)
		}
		return all.String()
	}
	w.must(put(w.ctx, h, w.Consul.Addr, "theirs/key", "theirs"))
	var before string
	w.eventually("the user's Consul is in its own catalog", patience, func(context.Context) error {
		if before = look(); !strings.Contains(before, `{"consul":[]}`) || !strings.Contains(before, "nodes: 1") || look() != before {
			return fmt.Errorf("it is\n%s", before)
		}
		return nil
	})
	w.must(h.StartAgent(w.ctx, "--store", "auto", "--consul-binary", binary))
	w.eventually("the host is in the user's Consul", patience, func(ctx context.Context) error {
		keys, err := w.Consul.Keys(ctx, "socketplane/v1/")
		if err != nil {
			return err
		}
		for key := range keys {
			id, is := strings.CutPrefix(key, "socketplane/v1/hosts/")
			if _, alive := keys["socketplane/v1/alive/"+id]; is && alive {
				return nil
			}
		}
		return fmt.Errorf("keys are %v", keys)
	})
	for _, args := range [][]string{{"status"}, {"members"}, {"init"}, {"join", "10.99.1.9"}, {"leave"}, {"lock"}, {"token", "create"}} {
		if _, err := h.SocketPlane(w.ctx, append([]string{"cluster"}, args...)...); err == nil || !strings.Contains(err.Error(), w.Consul.Addr) {
			t.Errorf("cluster %s: %v, want an error that names the user's Consul", args[0], err)
		}
	}
	if out, err := h.Exec(w.ctx, "pgrep", "-x", "consul"); err == nil {
		t.Errorf("the host runs a Consul: %s", out)
	}
	if after := look(); after != before {
		t.Errorf("the user's Consul is\n%s\nwas\n%s", after, before)
	}
	keys, err := w.Consul.Keys(w.ctx, "")
	w.must(err)
	for key := range keys {
		if !strings.HasPrefix(key, "socketplane/") && key != "theirs/key" && key != "testenv/ready" {
			t.Errorf("the user's Consul has the key %s", key)
		}
	}
	if keys["theirs/key"] != "theirs" {
		t.Errorf("the user's key is %q", keys["theirs/key"])
	}
	w.must(h.StopAgent())
}

func put(ctx context.Context, h *lab.Host, addr, key, value string) error {
	_, err := h.Exec(ctx, "sh", "-c", fmt.Sprintf(
		`printf 'PUT /v1/kv/%s HTTP/1.0\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s' | busybox nc %s`, key, len(value), value, strings.Replace(addr, ":", " ", 1)))
	return err
}
