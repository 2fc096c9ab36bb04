package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/bundle"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/store"
)

var _ adminapi.Supporter = (*agent)(nil)

// consulAuth is a secret that Consul's client takes from the environment by itself.
const consulAuth = "CONSUL_HTTP_AUTH"

// Support writes what a bug report needs. What can't be had says so in its file.
func (a *agent) Support(ctx context.Context, w io.Writer) error {
	return bundle.Write(ctx, w, a.secrets(), []bundle.Part{
		{Name: "versions.txt", Read: a.tellVersions},
		{Name: "settings.txt", Read: a.tellSettings},
		{Name: "info.json", Read: func(ctx context.Context) ([]byte, error) { return told(a.Info(ctx)) }},
		{Name: "doctor.json", Read: func(ctx context.Context) ([]byte, error) { return told(a.Doctor(ctx)) }},
		{Name: "networks.json", Read: func(ctx context.Context) ([]byte, error) { return told(a.allNetworks(ctx)) }},
		{Name: "log.txt", Read: a.tellLog},
		{Name: "metrics.txt", Read: a.tellMetrics},
		{Name: "goroutines.txt", Read: tellGoroutines},
		{Name: "ovs-bridge.json", Read: func(context.Context) ([]byte, error) { return told(a.sw.BridgeRow()) }},
		{Name: "ovs-ports.json", Read: func(context.Context) ([]byte, error) { return bundle.JSON(a.sw.Ports()) }},
		{Name: "ovs-flows.txt", Read: a.tellFlows},
		{Name: "links.json", Read: func(ctx context.Context) ([]byte, error) { return told(a.links.Owned(ctx)) }},
		{Name: "forwarding.json", Read: a.tellForwarding},
		{Name: "records-local.txt", Read: a.tellLocalRecords},
		{Name: "records-cluster.txt", Read: a.tellClusterRecords},
	})
}

// secrets are what is blanked wherever it appears.
func (a *agent) secrets() []string {
	secrets := a.cfg.Secrets()
	if auth := os.Getenv(consulAuth); auth != "" {
		secrets = append(secrets, auth)
	}
	if token, err := os.ReadFile(a.cfg.JoinTokenFile); err == nil {
		secrets = append(secrets, strings.TrimSpace(string(token)))
	}
	return secrets
}

// told is a value as JSON, unless it could not be had.
func told[T any](value T, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return bundle.JSON(value)
}

func (a *agent) tellVersions(ctx context.Context) ([]byte, error) {
	v := a.opts.Version
	var out bytes.Buffer
	fmt.Fprintf(&out, "socketplane %s, commit %s, %s, %s\nstarted %s, now %s\nOpen vSwitch %s\nrecords of schema %d\n", v.Version, v.Commit, v.Go,
		v.Platform, a.started.Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339), a.sw.Version(ctx), store.Schema)
	kernel, err := os.ReadFile("/proc/version")
	out.Write(kernel)
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, m := range build.Deps {
			fmt.Fprintf(&out, "%s %s\n", m.Path, m.Version)
		}
	}
	return out.Bytes(), err
}

func (a *agent) tellSettings(context.Context) ([]byte, error) {
	var out bytes.Buffer
	for _, s := range config.Settings() {
		fmt.Fprintf(&out, "%s=%s\n", s.Env[0], s.Value(a.cfg))
	}
	return out.Bytes(), nil
}

func (a *agent) tellLog(context.Context) ([]byte, error) {
	if a.opts.Recent == nil {
		return nil, errors.New("the log is not kept")
	}
	return a.opts.Recent(), nil
}

func (a *agent) tellMetrics(context.Context) ([]byte, error) {
	families, err := a.metrics.Gatherer(a.collected).Gather()
	var out bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
			return out.Bytes(), err
		}
	}
	return out.Bytes(), err
}

func tellGoroutines(context.Context) ([]byte, error) {
	const stacks = 1 // those that are alike together
	var out bytes.Buffer
	err := pprof.Lookup("goroutine").WriteTo(&out, stacks)
	return out.Bytes(), err
}

func (a *agent) tellFlows(ctx context.Context) ([]byte, error) {
	flows, err := a.plane.DumpFlows(ctx)
	var out bytes.Buffer
	for _, f := range flows {
		fmt.Fprintln(&out, f)
	}
	return out.Bytes(), err
}

// tellForwarding gives the entries of our VXLAN devices.
func (a *agent) tellForwarding(ctx context.Context) ([]byte, error) {
	links, err := a.links.Owned(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for _, l := range links {
		if l.Kind != "vxlan" {
			continue
		}
		entries, err := a.links.FDB(ctx, l.Name)
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

// tellLocalRecords gives what this host remembers. The prefixes are named one by one, lest a secret that is
// stored some day be told.
func (a *agent) tellLocalRecords(ctx context.Context) ([]byte, error) {
	out, err := records(ctx, a.local.List, store.LocalHostKey, store.LocalStoreKindKey, store.LocalBindings, store.LocalEndpoints,
		store.LocalPools, store.LocalHosts)
	addresses, journalErr := records(ctx, a.journal.List, store.LocalBlocks, store.LocalAddresses)
	return append(out, addresses...), errors.Join(err, journalErr)
}

// tellClusterRecords gives the cluster's records without those of other hosts' containers.
func (a *agent) tellClusterRecords(ctx context.Context) ([]byte, error) {
	prefixes := []string{store.NetworksPrefix, store.PoolsPrefix, store.HostsPrefix, store.DeclaredPrefix}
	for _, n := range a.driver.Networks() {
		prefixes = append(prefixes, store.EndpointsKey(n.ID, a.cluster.Host()), store.IndexPrefix(n.ID))
	}
	return records(ctx, a.cluster.KV().List, prefixes...)
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
func (a *agent) allNetworks(ctx context.Context) ([]adminapi.NetworkDetail, error) {
	var all []adminapi.NetworkDetail
	err := a.Networks(ctx, func(n adminapi.NetworkDetail) error {
		all = append(all, n)
		return nil
	})
	return all, err
}
