package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/config"
)

// infoTimeout bounds what Info asks the cluster's store.
const infoTimeout = 2 * time.Second

// Info tells how this host's agent does. What is broken is told in it, not as an error.
func (a *agent) Info(ctx context.Context) (adminapi.Info, error) {
	v, st := a.opts.Version, a.plane.Status()
	info := adminapi.Info{
		Version: v.Version, Commit: v.Commit, Go: v.Go, Started: a.started,
		Host: adminapi.Host{
			ID: a.cluster.Host(), Name: a.cfg.Name, VTEP: a.where().Addr, Underlay: a.where().Dev, MTU: a.where().MTU, ContainerMTU: a.driver.MTU(),
		},
		Store: adminapi.Store{
			Kind: string(a.storage.kind), Address: a.storage.address, Alone: a.storage.kind == config.StoreBolt,
		},
		OVS: adminapi.OVS{
			Version: a.sw.Version(ctx), Datapath: st.Datapath, Tunnel: string(st.Tunnel), Bridge: config.Bridge, TSO: st.TSO,
		},
	}
	if a.storage.managed != nil {
		summary := summaryOf(a.storage.managed.Status())
		info.Cluster = &summary
	}
	if err := a.served(); err != nil {
		info.Trouble = err.Error()
	}
	if err := a.plane.Ready(); err != nil {
		info.OVS.Error = err.Error()
	}
	for _, n := range a.networks() {
		info.Networks = append(info.Networks, adminapi.Network{
			ID: n.ID, Name: n.Name, VNI: n.VNI, Pools: n.Pools, Endpoints: n.Endpoints, Peers: n.Peers,
		})
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	members, err := a.cluster.Hosts(ctx)
	if err != nil {
		info.Store.Error = err.Error()
	}
	for id, h := range members.Hosts {
		info.Hosts = append(info.Hosts, adminapi.Member{
			ID: id, Name: h.Name, VTEP: h.VTEP, Alive: members.Alive[id], Version: h.Version, Started: h.Started, Subnets: h.Subnets,
		})
	}
	slices.SortFunc(info.Hosts, func(a, b adminapi.Member) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return info, nil
}

// Ready is nil while Docker can call, and containers can be attached.
func (a *agent) Ready(context.Context) error {
	return errors.Join(a.plane.Ready(), a.subnetsReady(), a.served())
}
