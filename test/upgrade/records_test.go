package upgrade

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
)

// prefix is that of all keys of ours.
const prefix = "socketplane/v1/"

// claim is a range of addresses that the cluster's records say is a host's.
type claim struct {
	first, last netip.Addr
	host        string
}

type claims []claim

// of are the hosts that claim an address.
func (all claims) of(addr string) (hosts []string) {
	a, err := netip.ParseAddr(addr)
	for _, c := range all {
		if err == nil && c.first.Compare(a) <= 0 && a.Compare(c.last) <= 0 {
			hosts = append(hosts, c.host)
		}
	}
	return hosts
}

// keys are all of the cluster's records.
func (w *world) keys(ctx context.Context) map[string]string {
	w.t.Helper()
	keys, err := w.Consul.Keys(ctx, prefix)
	if err != nil {
		w.t.Fatal(err)
	}
	return keys
}

func (w *world) decode(key, value string, into any) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(value), into); err != nil {
		w.t.Fatalf("%s: %v: %s", key, err, value)
	}
}

// claims reads who claims which addresses.
func (w *world) claims(ctx context.Context) (all claims) {
	w.t.Helper()
	keys := w.keys(ctx)
	names := map[string]string{}
	for key, value := range keys {
		id, is := strings.CutPrefix(key, prefix+"hosts/")
		if !is || strings.Contains(id, "/") {
			continue
		}
		var host struct{ Name string }
		w.decode(key, value, &host)
		names[id] = host.Name
	}
	for key, value := range keys {
		if !strings.HasPrefix(key, prefix+"blocks/") {
			continue
		}
		var block struct {
			Claims []struct {
				Owner string
				Addrs []string // single ones, and ranges
			}
		}
		w.decode(key, value, &block)
		for _, c := range block.Claims {
			for _, addrs := range c.Addrs {
				first, last, is := strings.Cut(addrs, "-")
				if !is {
					last = first
				}
				all = append(all, claim{netip.MustParseAddr(first), netip.MustParseAddr(last), names[c.Owner]})
			}
		}
	}
	return all
}
