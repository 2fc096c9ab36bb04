package support

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/bundle"
	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/store"
)

// Lister lists records, as stores and the journal do.
type Lister interface {
	List(ctx context.Context, prefix string) ([]store.Entry, error)
}

// Parts are the parts of an agent that tell of themselves in files of their own. Its functions may be called concurrently.
type Parts struct {
	// Networks gives each of the cluster's networks, Here those of this host.
	Networks func(ctx context.Context, each func(adminapi.NetworkDetail) error) error
	Here     func() []netview.Network
	Switch   *ovsctl.Switch
	Plane    *ovs.Plane
	Links    *hostlink.Links
	// Local is the host's own store, Journal that of addresses.
	Local, Journal Lister
	Cluster        *store.Cluster
}

// files are those of the bundle that only an agent that runs can fill.
func (p *Parts) files() []bundle.Part {
	return []bundle.Part{
		{Name: "ovs-bridge.json", Read: func(context.Context) ([]byte, error) { return told(p.Switch.BridgeRow()) }},
		{Name: "ovs-ports.json", Read: func(context.Context) ([]byte, error) { return bundle.JSON(p.Switch.Ports()) }},
		{Name: "ovs-flows.txt", Read: p.tellFlows},
		{Name: "links.json", Read: func(ctx context.Context) ([]byte, error) { return told(p.Links.Owned(ctx)) }},
		{Name: "forwarding.json", Read: p.tellForwarding},
		{Name: "records-local.txt", Read: p.tellLocalRecords},
		{Name: "records-cluster.txt", Read: p.tellClusterRecords},
	}
}

func (p *Parts) tellFlows(ctx context.Context) ([]byte, error) {
	flows, err := p.Plane.DumpFlows(ctx)
	var out bytes.Buffer
	for _, f := range flows {
		fmt.Fprintln(&out, f)
	}
	return out.Bytes(), err
}

// tellForwarding gives the entries of our VXLAN devices.
func (p *Parts) tellForwarding(ctx context.Context) ([]byte, error) {
	links, err := p.Links.Owned(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for _, l := range links {
		if l.Kind != "vxlan" {
			continue
		}
		entries, err := p.Links.FDB(ctx, l.Name)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			all[l.Name] = append(all[l.Name], e.MAC.String()+" at "+e.Dst.String())
		}
		slices.Sort(all[l.Name])
	}
	return bundle.JSON(all)
}

// tellLocalRecords gives what this host remembers. The prefixes are named one by one, so that a secret that is
// stored some day is not told.
func (p *Parts) tellLocalRecords(ctx context.Context) ([]byte, error) {
	out, err := records(ctx, p.Local.List, store.LocalHostKey, store.LocalStoreKindKey, store.LocalBindings, store.LocalEndpoints,
		store.LocalPools, store.LocalHosts)
	addresses, journalErr := records(ctx, p.Journal.List, store.LocalBlocks, store.LocalAddresses)
	return append(out, addresses...), errors.Join(err, journalErr)
}

// tellClusterRecords gives the cluster's records without those of other hosts' containers.
func (p *Parts) tellClusterRecords(ctx context.Context) ([]byte, error) {
	prefixes := []string{store.NetworksPrefix, store.PoolsPrefix, store.HostsPrefix, store.HostHeadsPrefix, store.AlivePrefix, store.JanitorKey, store.LayoutKey, store.DeclaredPrefix}
	for _, n := range p.Here() {
		prefixes = append(prefixes, store.BoundKey(n.ID, p.Cluster.Host()), store.EndpointsKey(n.ID, p.Cluster.Host()), store.IndexPrefix(n.ID),
			store.PartsOf(n.ID, p.Cluster.Host()), store.HeadsOf(n.ID), store.ShardsOf(n.ID))
	}
	return records(ctx, p.Cluster.KV().List, prefixes...)
}

func records(ctx context.Context, list func(context.Context, string) ([]store.Entry, error), prefixes ...string) ([]byte, error) {
	var keys []string
	var values [][]byte
	var errs []error
	for _, prefix := range prefixes {
		entries, err := list(ctx, prefix)
		errs = append(errs, err)
		for _, e := range entries {
			keys, values = append(keys, e.Key), append(values, e.Value)
		}
	}
	return bundle.Records(keys, values), errors.Join(errs...)
}

// allNetworks are the cluster's networks.
func (p *Parts) allNetworks(ctx context.Context) ([]adminapi.NetworkDetail, error) {
	var all []adminapi.NetworkDetail
	err := p.Networks(ctx, func(n adminapi.NetworkDetail) error {
		all = append(all, n)
		return nil
	})
	return all, err
}
