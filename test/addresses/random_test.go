package addresses

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
	"github.com/socketplane/socketplane/test/internal/proxy"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(hostEnv); text != "" {
		if err := beHost(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// The size of the test. The long form is `make addresses`.
const (
	hosts        = 16
	perHost      = 4                // callers on each host
	most         = 40               // containers of a host
	shortTime    = 45 * time.Second // of the short form
	requestsEnv  = "SOCKETPLANE_ADDRESS_REQUESTS"
	settleTime   = 90 * time.Second
	restTime     = 300 * time.Millisecond
	lateBy       = 1500 * time.Millisecond // longer than the hosts' patience with Consul
	betweenFault = 1500 * time.Millisecond
)

// TestRandom: hosts that request and release at random, while agents and machines crash, journals are lost, Consul's leader
// changes, connections are cut, answers are lost and writes come late, never give one address to two
// containers; and in the end the cluster has exactly what the journals have, and these what the containers have.
func TestRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	server := newServers(t, 3)
	kv, err := consul.Open(consul.Options{Address: server.addr(0)})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.New(t, front, server.to(1), lateBy)
	f := &fleet{T: t, history: newHistory(), pools: []string{"10.1.0.0/22", "10.2.0.0/26", "fd00:3::/64", "10.4.0.0/24"}}
	for i := range hosts {
		id := fmt.Sprintf("host%02d", i)
		m := &machine{t: t, id: id, cfg: hostConfig{ID: id, Consul: p.Addr(), Dir: t.TempDir(), Rest: restTime}}
		f.eventually(time.Minute, func() (wrong []string) {
			if err := kv.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: store.AliveKey(id), Value: []byte(id)}); err != nil {
				wrong = append(wrong, err.Error()) // an election on a busy machine
			}
			return wrong
		})
		m.start(false)
		t.Cleanup(m.kill)
		f.machines = append(f.machines, m)
		for _, pool := range f.pools {
			m.ask(call{Op: "pool", Pool: pool})
		}
	}
	requests, limit := int64(1<<40), shortTime
	if text := os.Getenv(requestsEnv); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s=%q: give a number", requestsEnv, text)
		}
		requests, limit = int64(n), time.Hour
	}
	f.disturb(server, p, f.work(requests, limit))
	f.settle(kv)
	f.empty(kv)
}

// work lets all hosts work until so many requests were made, or so long; the channel is closed then.
func (f *fleet) work(requests int64, limit time.Duration) <-chan struct{} {
	var made atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	outcome := map[string]int{}
	ctx, cancel := context.WithTimeout(f.Context(), limit)
	for i, m := range f.machines {
		for j := range perHost {
			rng := rand.New(rand.NewPCG(uint64(i), uint64(j)))
			wg.Go(func() {
				for ctx.Err() == nil && made.Load() < requests {
					m.mu.Lock()
					full, down := len(m.containers) >= most, m.down
					m.mu.Unlock()
					if down {
						select { // for the agent's start
						case <-ctx.Done():
						case <-time.After(10 * time.Millisecond):
						}
						continue
					}
					if full || rng.IntN(20) < 9 {
						f.release(m, rng)
						continue
					}
					made.Add(1)
					pool, static := f.pools[rng.IntN(len(f.pools))], ""
					if rng.IntN(10) == 0 {
						static = nth(pool, 1+rng.IntN(60))
					}
					got := f.request(m, pool, static)
					mu.Lock()
					outcome[got]++
					mu.Unlock()
				}
			})
		}
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		cancel()
		f.Logf("%d requests: %v", made.Load(), outcome)
		close(done)
	}()
	return done
}

// nth is an address of a pool.
func nth(pool string, n int) string {
	a := netip.MustParsePrefix(pool).Addr()
	for range n {
		a = a.Next()
	}
	return a.String()
}

// disturb does evil until the work is done.
func (f *fleet) disturb(server *servers, p *proxy.Proxy, done <-chan struct{}) {
	rng := rand.New(rand.NewPCG(3, 4))
	count := map[string]int{}
	pause := func(d time.Duration) bool {
		select {
		case <-done:
			return false
		case <-time.After(d):
			return true
		}
	}
	for pause(betweenFault) {
		m := f.machines[rng.IntN(len(f.machines))]
		switch fault := rng.IntN(20); {
		case fault < 4:
			count["agent killed"]++
			f.crash(m, false, false)
		case fault < 6:
			count["agent killed, journal lost"]++
			f.crash(m, true, false)
		case fault < 9:
			count["machine crashed"]++
			f.crash(m, false, true)
		case fault < 12:
			count["connections cut"]++
			p.Cut()
		case fault < 15:
			count["answers lost"]++
			p.Set(proxy.Mute)
			pause(time.Second)
			p.Set(proxy.Pass)
			p.Cut()
		case fault < 17:
			count["writes late"]++
			p.Set(proxy.Late)
			pause(time.Second)
			p.Set(proxy.Pass)
		case fault < 18:
			count["Consul away"]++
			p.Set(proxy.Closed)
			p.Cut()
			pause(2 * time.Second)
			p.Set(proxy.Pass)
		default:
			count["Consul's leader killed"]++
			server.killLeader(p, 3*time.Second)
		}
	}
	f.Logf("faults: %v", count)
	if wrong := f.history.problems(); len(wrong) > 0 {
		f.Fatalf("%d of %d holds were wrong, such as %q", len(wrong), f.history.holds, wrong[:min(10, len(wrong))])
	}
	f.Logf("%d addresses were handed out, none to two at a time", f.history.holds)
}

// settle waits until containers, journals and the cluster agree.
func (f *fleet) settle(kv store.KV) {
	began := time.Now()
	f.eventually(settleTime, func() []string {
		containers, journals := map[string]string{}, map[string]map[string]string{}
		for _, m := range f.machines {
			journal, pending := f.tidy(m)
			journals[m.id] = journal
			if pending {
				return []string{m.id + " has something pending"}
			}
			for _, c := range m.containers {
				containers[c.addr] = m.id
			}
		}
		claims, err := f.claims(kv)
		if err != nil {
			return []string{err.Error()} // an election on a busy machine
		}
		return settled(containers, journals, claims)
	})
	f.Logf("settled after %v", time.Since(began).Round(time.Millisecond))
}

func (f *fleet) claims(kv store.KV) (map[string]string, error) {
	claims := map[string]string{}
	for _, pool := range f.pools {
		blocks, err := store.NewCluster(kv, "reader").Blocks(f.Context(), netip.MustParsePrefix(pool))
		if err != nil {
			return nil, err
		}
		for _, b := range blocks {
			for a, c := range b.Claims {
				claims[a.String()] = c.Owner.String()
			}
		}
	}
	return claims, nil
}

// empty ends all containers and pools; nothing may be left.
func (f *fleet) empty(kv store.KV) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, m := range f.machines {
		for len(m.containers) > 0 {
			f.release(m, rng)
		}
		for _, pool := range f.pools {
			m.ask(call{Op: "releasepool", Pool: pool})
		}
	}
	f.eventually(settleTime, func() (left []string) {
		entries, err := kv.List(f.Context(), store.Root)
		if err != nil {
			return []string{err.Error()}
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Key, store.HostsPrefix) && !strings.HasPrefix(e.Key, store.AlivePrefix) {
				left = append(left, e.Key+" = "+string(e.Value))
			}
		}
		return left
	})
}
