package agent

import (
	"context"
	"errors"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/checkup"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/membership"
	"github.com/socketplane/socketplane/internal/metrics"
	"github.com/socketplane/socketplane/internal/operator"
	"github.com/socketplane/socketplane/internal/support"
)

// An agent answers all that its socket is asked; a field of the same name would hide a part's method.
var (
	_ adminapi.Agent           = (*agent)(nil)
	_ adminapi.Operator        = (*agent)(nil)
	_ adminapi.ClusterOperator = (*agent)(nil)
	_ adminapi.Supporter       = (*agent)(nil)
)

// buildOperator makes what answers the command line.
func (a *agent) buildOperator() {
	deps := operator.Deps{
		Cluster: a.cluster, Follows: a.mirror != nil && a.cfg.Mirror, Addresses: a.ipam, MTU: a.driver.MTU, Logger: a.log,
	}
	if a.mirror != nil { // else it would be an interface with nil in it
		deps.Mirror = a.mirror
	}
	a.Membership = membership.New(membership.Deps{
		Managed: a.storage.managed, Kind: a.storage.kind, Address: a.storage.address, Cluster: a.cluster, Port: a.cfg.ClusterPort, Networks: a.driver.Networks,
	})
	if a.storage.managed != nil {
		deps.Member = a.Membership.RemoveMember
	}
	a.Operator = operator.New(deps)
	a.Checkup = checkup.New(a.checked())
	a.Self = operator.NewSelf(a.told())
	a.Writer = support.New(support.Sources{
		Config: a.cfg, Version: a.opts.Version, Started: a.started, Recent: a.opts.Recent, Info: a.Info, Doctor: a.Doctor,
		Metrics: func() prometheus.Gatherer { return a.metrics.Gatherer(a.collected) },
		Parts: &support.Parts{
			Networks: a.Networks, Here: a.driver.Networks, Switch: a.sw, Plane: a.plane, Links: a.links, Local: a.local, Journal: a.journal, Cluster: a.cluster,
		},
	})
}

// told is what this agent tells of itself.
func (a *agent) told() operator.SelfDeps {
	v := a.opts.Version
	return operator.SelfDeps{
		Known: adminapi.Info{
			Version: v.Version, Commit: v.Commit, Go: v.Go, Started: a.started,
			Store: adminapi.Store{Kind: string(a.storage.kind), Address: a.storage.address, Alone: a.storage.kind == config.StoreBolt},
		},
		Host: func() adminapi.Host {
			at := a.where()
			return adminapi.Host{ID: a.cluster.Host(), Name: a.cfg.Name, VTEP: at.Addr, Underlay: at.Dev, MTU: at.MTU, ContainerMTU: a.driver.MTU()}
		},
		Switch: func(ctx context.Context) adminapi.OVS {
			st := a.plane.Status()
			o := adminapi.OVS{Version: a.sw.Version(ctx), Datapath: st.Datapath, Tunnel: string(st.Tunnel), Bridge: config.Bridge, TSO: st.TSO}
			if err := a.plane.Ready(); err != nil {
				o.Error = err.Error()
			} else {
				o.Error = strings.Join(checkup.Unreached(st, a.networks), "; ")
			}
			return o
		},
		Membership: a.Membership.Summary, Served: a.served, Networks: a.networks, Hosts: a.cluster.Hosts,
		Works: func() error { return errors.Join(a.plane.Ready(), a.subnetsReady(), a.served()) },
	}
}

// checked are the parts that the doctor looks at.
func (a *agent) checked() checkup.Parts {
	p := checkup.Parts{
		Config: a.cfg, Version: a.opts.Version.Version, Started: a.started, V1Socket: a.opts.V1Socket, Opened: a.opened, Served: a.served,
		Kind: a.storage.kind, Address: a.storage.address, Cluster: a.cluster, Copied: a.presence.Copied, Links: a.links, Underlay: a.underlay.Current, Switch: a.sw, Plane: a.plane,
		Driver: a.driver, View: a.view, Docker: a.docker, Mirror: a.mirror, Outward: a.outward, Networks: a.networks, Pending: a.pending, MTUTroubles: a.MTUTroubles,
	}
	if a.storage.managed != nil {
		p.Membership = a.Cluster
	}
	return p
}

// counted are the parts of which metrics tell.
func (a *agent) counted() metrics.Parts {
	return metrics.Parts{
		Started: a.started, Links: a.links, Plane: a.plane, Addresses: a.ipam, Peers: a.driver.Peers, StoreSync: a.lastSync,
		Networks: func() (networks, endpoints int) {
			all := a.networks()
			for _, n := range all {
				endpoints += n.Endpoints
			}
			return len(all), endpoints
		},
	}
}
