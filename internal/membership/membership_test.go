package membership

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

func records(t *testing.T) *store.Cluster {
	t.Helper()
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return store.NewCluster(kv, "me")
}

// TestWithoutOwnCluster: where the agent runs no cluster each command is refused with the cause and the cure, and info tells of none.
func TestWithoutOwnCluster(t *testing.T) {
	for kind, want := range map[config.StoreKind]string{config.StoreConsul: "the Consul at consul.example:8500", config.StoreBolt: "install consul"} {
		m := New(Deps{Kind: kind, Address: "consul.example:8500", Cluster: records(t)})
		ask := map[string]func(context.Context) error{
			"status": func(ctx context.Context) error { _, err := m.Cluster(ctx); return err },
			"init":   func(ctx context.Context) error { return m.InitCluster(ctx, adminapi.InitRequest{}) },
			"join": func(ctx context.Context) error {
				return m.JoinCluster(ctx, adminapi.JoinRequest{Addresses: []string{"192.0.2.1"}})
			},
			"leave":  func(ctx context.Context) error { return m.LeaveCluster(ctx, true) },
			"lock":   func(ctx context.Context) error { return m.SetLocked(ctx, true) },
			"token":  func(ctx context.Context) error { _, err := m.CreateToken(ctx, adminapi.TokenRequest{}); return err },
			"tokens": func(ctx context.Context) error { _, err := m.Tokens(ctx); return err },
			"revoke": func(ctx context.Context) error { return m.RemoveToken(ctx, "x") },
		}
		for name, call := range ask {
			if err := call(t.Context()); !errors.Is(err, adminapi.ErrConflict) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s with %s: %v", name, kind, err)
			}
		}
		if s := m.Summary(); s != nil {
			t.Errorf("%s: %+v", kind, s)
		}
	}
}

// TestUnused: the containers that keep this host in its cluster are named, or counted where their names are not known.
func TestUnused(t *testing.T) {
	cluster := records(t)
	n, err := cluster.Bind(t.Context(), store.Binding{DockerID: "d", Name: "web", Pools: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}})
	if err == nil {
		err = cluster.PutEndpoints(t.Context(), n.ID, []store.Endpoint{{ID: "e", Container: &store.Container{Name: "shop"}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		here []netview.Network
		want string
	}{
		{nil, ""},
		{[]netview.Network{{ID: n.ID, Name: "web"}}, ""},
		{[]netview.Network{{ID: n.ID, Name: "web", Endpoints: 1}}, "web (shop)"},
		{[]netview.Network{{ID: n.ID, Name: "web", Endpoints: 1}, {ID: "x", Name: "db", Endpoints: 2}}, "db (2 containers); web (shop)"},
	} {
		m := New(Deps{Cluster: cluster, Networks: func() []netview.Network { return c.here }})
		err := m.unused(t.Context())
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, adminapi.ErrConflict) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.here, err, c.want)
		}
	}
}

// engine is a Docker Engine with networks of ours, and the driver beside it: which networks the two have, by Docker's id.
type engine struct {
	has     []string
	dropped map[string]bool
	inUse   string
}

func (e *engine) Networks() (all []netview.Network) {
	for _, id := range e.has {
		all = append(all, netview.Network{Name: "net-" + id, DockerID: id})
	}
	return all
}

func (e *engine) Drop(_ context.Context, id string) error { e.dropped[id] = true; return nil }
func (e *engine) Keep(_ context.Context, id string) error { delete(e.dropped, id); return nil }

func (e *engine) Remove(_ context.Context, id string) error {
	if id == e.inUse {
		return fmt.Errorf("%w: it has active endpoints", dockerwatch.ErrRefused)
	}
	e.has = slices.DeleteFunc(slices.Clone(e.has), func(s string) bool { return s == id })
	return nil
}

// TestFarewell: a host that leaves takes its networks and its record along; a network in use keeps it, and stays as it was, unless it is forced.
func TestFarewell(t *testing.T) {
	for _, c := range []struct {
		name         string
		inUse        string
		force, there bool // there: the host is still in the cluster's records
		fails        bool
		left         []string
	}{
		{name: "nothing is in use"},
		{name: "one is in use", inUse: "b", there: true, fails: true, left: []string{"b"}},
		{name: "one is in use, forced", inUse: "b", force: true, left: []string{"b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := records(t)
			if err := cluster.PutHost(t.Context(), store.Host{Name: "web1"}); err != nil {
				t.Fatal(err)
			}
			e := &engine{has: []string{"a", "b"}, dropped: map[string]bool{}, inUse: c.inUse}
			err := Farewell{Cluster: cluster, Driver: e, Docker: e}.Say(t.Context(), c.force)
			if (err != nil) != c.fails || c.fails && !strings.Contains(err.Error(), "net-b is in use") {
				t.Errorf("%v", err)
			}
			if !slices.Equal(e.has, c.left) || e.dropped["b"] != (c.inUse == "") {
				t.Errorf("Docker has %q, the driver has let go of %v", e.has, e.dropped)
			}
			members, err := cluster.Hosts(t.Context())
			if _, there := members.Hosts["me"]; err != nil || there != c.there {
				t.Errorf("the host's record is there: %v, %v", there, err)
			}
		})
	}
	cluster := records(t)
	e := &engine{has: []string{"a"}}
	if err := (Farewell{Cluster: cluster, Driver: e}).Say(t.Context(), false); err == nil || !strings.Contains(err.Error(), "docker network rm net-a") {
		t.Errorf("without Docker's API: %v", err)
	}
}
