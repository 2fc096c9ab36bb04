package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// listing counts how often each key was listed, and the most that one list had.
type listing struct {
	store.KV
	mu    sync.Mutex
	times map[string]int
	most  int
}

func (l *listing) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	all, err := l.KV.List(ctx, prefix)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = max(l.most, len(all))
	for _, e := range all {
		l.times[e.Key]++
	}
	return all, err
}

// TestEachHost: each host is told once with its labels, with any id and either form of its records; each record is read once, and few hosts' at a time.
func TestEachHost(t *testing.T) {
	kv := emptyStore(t)
	ctx := t.Context()
	first := store.NewCluster(kv, "first")
	if err := first.BeginLayout(ctx); err != nil {
		t.Fatal(err)
	}
	n, err := first.Create(ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{poolA}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		host := fmt.Sprintf("%016x", 0x5ca1e000+i) // one after the other
		switch i % 4 {
		case 1:
			host = fmt.Sprintf("%016x", r.Uint64())
		case 2:
			host = strings.Repeat("a", 1+i/4) // each begins the next one's
		}
		c := store.NewCluster(kv, host)
		if _, err := c.Bind(ctx, binding("d"+host, "", poolA)); err != nil {
			t.Fatal(err)
		}
		endpoints := make([]store.Endpoint, 1+i%40)
		for e := range endpoints {
			endpoints[e] = store.Endpoint{ID: fmt.Sprint(host, "-", e), Container: &store.Container{ID: "c", Name: "n", Labels: map[string]string{"of": host}}}
		}
		if err := c.PutEndpoints(ctx, n.ID, endpoints); err != nil {
			t.Fatal(err)
		}
		want[host] = len(endpoints)
	}
	former := store.Endpoints{Schema: store.Schema, Network: n.ID, Host: "former", Endpoints: []store.Endpoint{{ID: "f"}}}
	put(t, kv, store.EndpointsKey(n.ID, "former"), string(store.Encode(former)))
	want["former"] = 1
	l := &listing{KV: kv, times: map[string]int{}}
	reader := store.NewCluster(l, "reader")
	got := map[string]int{}
	err = reader.EachHost(ctx, n.ID, store.Walk{Hosts: len(want), Labels: true}, func(e store.Endpoints) error {
		if got[e.Host] != 0 {
			t.Errorf("host %s is told twice", e.Host)
		}
		got[e.Host] = len(e.Endpoints)
		for _, its := range e.Endpoints {
			if e.Host != "former" && (its.Container == nil || its.Container.Labels["of"] != e.Host) {
				t.Errorf("endpoint %s has the labels %+v", its.ID, its.Container)
			}
		}
		return nil
	})
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d of %d hosts are told, %v", len(got), len(want), err)
	}
	for host, n := range want {
		if got[host] != n {
			t.Errorf("host %s has %d endpoints, want %d", host, got[host], n)
		}
	}
	for key, n := range l.times {
		if n != 1 {
			t.Errorf("%s was read %d times", key, n)
		}
	}
	// The heads of all hosts, and three parts of each of 128 hosts.
	if l.most > 400 {
		t.Errorf("a list had %d records", l.most)
	}
	halt := errors.New("enough")
	told := 0
	err = reader.EachHost(ctx, n.ID, store.Walk{Hosts: len(want)}, func(store.Endpoints) error {
		if told++; told == 3 {
			return halt
		}
		return nil
	})
	if !errors.Is(err, halt) || told != 3 {
		t.Errorf("after an error %d hosts are told, %v", told, err)
	}
	ended, end := context.WithCancel(ctx)
	if err := reader.EachHost(ended, n.ID, store.Walk{Hosts: len(want)}, func(store.Endpoints) error { end(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a walk that was ended says %v", err)
	}
}
