package operator_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/internal/operator"
	"github.com/socketplane/socketplane/store"
)

// self is an agent all of which is well.
func self() operator.SelfDeps {
	return operator.SelfDeps{
		Known:      adminapi.Info{Version: "v1", Started: time.Unix(1, 0), Store: adminapi.Store{Kind: "bolt", Alone: true}},
		Host:       func() adminapi.Host { return adminapi.Host{ID: "h1", Name: "web1", ContainerMTU: 1450} },
		Switch:     func(context.Context) adminapi.OVS { return adminapi.OVS{Version: "3.3", Error: "no bridge"} },
		Membership: func() *adminapi.ClusterSummary { return &adminapi.ClusterSummary{ID: "c"} },
		Served:     func() error { return nil }, Works: func() error { return nil },
		Networks: func() []netview.Network { return []netview.Network{{ID: "n", Name: "web", Endpoints: 2, Peers: 3}} },
		Hosts: func(context.Context) (store.Membership, error) {
			hosts := map[string]store.Host{"h2": {Name: "b", VTEP: netip.MustParseAddr("192.0.2.2")}, "h1": {Name: "a"}, "h3": {Name: "b"}}
			return store.Membership{Hosts: hosts, Alive: map[string]bool{"h1": true}}, nil
		},
	}
}

// TestInfo: what each part tells is in it, and what is broken is told and hides nothing else.
func TestInfo(t *testing.T) {
	s := self()
	info, err := operator.NewSelf(s).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Version != "v1" || info.Store.Kind != "bolt" || info.Host.ContainerMTU != 1450 || info.OVS.Error != "no bridge" || info.Cluster.ID != "c" ||
		info.Trouble != "" || info.Store.Error != "" || len(info.Networks) != 1 || info.Networks[0].Endpoints != 2 || info.Networks[0].Peers != 3 {
		t.Errorf("%+v", info)
	}
	var order []string
	for _, h := range info.Hosts {
		order = append(order, h.Name+h.ID)
	}
	if len(order) != 3 || order[0] != "ah1" || order[1] != "bh2" || order[2] != "bh3" || !info.Hosts[0].Alive || info.Hosts[1].Alive {
		t.Errorf("the hosts are %+v", info.Hosts)
	}
	s.Hosts = func(ctx context.Context) (store.Membership, error) {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("the store may take as long as it wants")
		}
		return store.Membership{}, errors.New("the store is away")
	}
	s.Served = func() error { return errors.New("a socket is taken") }
	info, err = operator.NewSelf(s).Info(t.Context())
	if err != nil || info.Store.Error != "the store is away" || info.Trouble != "a socket is taken" || len(info.Networks) != 1 || len(info.Hosts) != 0 {
		t.Errorf("%+v, %v", info, err)
	}
	if again, _ := operator.NewSelf(self()).Info(t.Context()); again.Trouble != "" || again.Store.Error != "" {
		t.Errorf("an answer changed what the next one tells: %+v", again)
	}
}
