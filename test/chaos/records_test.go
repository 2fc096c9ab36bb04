package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// prefix is that of all keys of ours.
const prefix = "socketplane/v1/"

// records are the cluster's, as they are in Consul.
type records struct {
	keys map[string]string
	// names and vteps are those of hosts, by their ids and their names.
	names, vteps map[string]string
	// networks are by their ids.
	networks map[string]clusterNetwork
	// needed are the addresses of which claims are looked at: a host has more, as spares.
	needed map[string]bool
}

// removing is the state of a network that is to go. It stays where a container began on it in the same moment.
const removing = "deleting"

// clusterNetwork is a network's record, with hosts by name.
type clusterNetwork struct {
	ID, Name, State string
	VNI             uint32
	Pools, Away     []string
	Hosts           map[string]string // their Docker's ids
}

// readRecords asks Consul.
func (w *world) readRecords(ctx context.Context) (r records, err error) {
	r = records{names: map[string]string{}, vteps: map[string]string{}, networks: map[string]clusterNetwork{}, needed: map[string]bool{}}
	if r.keys, err = w.Consul.Keys(ctx, prefix); err != nil {
		return r, err
	}
	// These are there so that watched prefixes are not empty.
	maps.DeleteFunc(r.keys, func(key, _ string) bool { return path.Base(key) == "permanent" })
	for key, value := range r.keys {
		id, ok := strings.CutPrefix(key, prefix+"hosts/")
		if !ok || strings.Contains(id, "/") {
			continue
		}
		var host struct{ Name, VTEP string }
		err = errors.Join(err, decode(key, value, &host))
		r.names[id], r.vteps[host.Name] = host.Name, host.VTEP
	}
	for key, value := range r.keys {
		if !strings.HasPrefix(key, prefix+"networks/") {
			continue
		}
		var n clusterNetwork
		err = errors.Join(err, decode(key, value, &n))
		hosts := map[string]string{}
		for id, docker := range n.Hosts {
			hosts[r.names[id]] = docker
		}
		for i, id := range n.Away {
			n.Away[i] = r.names[id]
		}
		for key, value := range r.keys { // of the second layout
			host, ok := strings.CutPrefix(key, prefix+"bound/"+n.ID+"/")
			if !ok {
				continue
			}
			var b struct {
				DockerID string `json:"docker_id"`
				LetGo    uint32 `json:"let_go"`
			}
			if err = errors.Join(err, decode(key, value, &b)); b.DockerID != "" {
				hosts[r.names[host]] = b.DockerID
			} else if b.LetGo == n.VNI {
				n.Away = append(n.Away, r.names[host])
			}
		}
		n.Hosts = hosts
		r.networks[n.ID] = n
	}
	return r, err
}

func decode(key, value string, into any) error {
	if err := json.Unmarshal([]byte(value), into); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// facts adds what the records say. What hosts tell of how they use addresses, and ask others for, comes and goes.
func (r records) facts(have facts) {
	for key, value := range r.keys {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
		first, last, _ := strings.Cut(rest, "/")
		var err error
		switch kind {
		case "hosts":
			if last == "" { // else a sign of life for agents of before the second layout
				have.add("host %s", r.names[first])
			}
		case "alive":
			if r.names[rest] != "" {
				have.add("%s is alive", r.names[rest])
			}
		case "networks":
			have.add("network %s", rest)
		case "names", "names-hashed":
			have.add("name %s of %s", rest, value)
		case "vnis":
			have.add("VNI %s of %s", rest, value)
		case "declared":
			have.add("declaration of %s", rest)
		case "index":
			have.add("index of host %s on %s", r.names[last], first)
		case "endpoints":
			err = r.endpoints(have, key, value, r.names[last], first)
		case "heads":
			have.add("index of host %s on %s", r.names[path.Base(last)], first)
		case "parts":
			err = r.endpoints(have, key, value, r.names[path.Dir(last)], first)
		case "bound", "labels", "shards":
			if _, is := r.networks[first]; !is {
				have.add("%s of %s, which is no network", kind, first)
			}
		case "pools":
			err = r.pool(have, key, value)
		case "blocks":
			err = r.block(have, key, value, strings.Replace(first, "_", "/", 1))
		}
		if err != nil {
			have.add("a record that can't be read: %v", err)
		}
	}
}

// endpoints reads a host's record, or a part, whose names are short.
func (r records) endpoints(have facts, key, value, host, network string) error {
	var record struct {
		Endpoints []struct {
			MAC   string
			Addrs []string
		}
		Parted []struct {
			MAC   string   `json:"m"`
			Addrs []string `json:"a"`
		} `json:"e"`
	}
	err := decode(key, value, &record)
	if len(record.Endpoints)+len(record.Parted) == 0 {
		have.add("empty record of host %s on %s", host, network)
	}
	told := func(mac string, addrs []string) {
		have.add("record of %s at %s of host %s on %s", mac, strings.Join(addrs, " "), host, network)
	}
	for _, e := range record.Endpoints {
		told(e.MAC, e.Addrs)
	}
	for _, e := range record.Parted {
		told(e.MAC, e.Addrs)
	}
	return err
}

func (r records) pool(have facts, key, value string) error {
	var pool struct {
		CIDR, Network string
		Hosts         []string
	}
	err := decode(key, value, &pool)
	var at []string
	for _, id := range pool.Hosts {
		at = append(at, r.names[id])
	}
	for key := range r.keys { // of the second layout
		if id, ok := strings.CutPrefix(key, prefix+"holders/"+strings.Replace(pool.CIDR, "/", "_", 1)+"/"); ok {
			at = append(at, r.names[id])
		}
	}
	slices.Sort(at)
	have.add("subnet %s of %s at %s", pool.CIDR, pool.Network, strings.Join(at, " "))
	return err
}

func (r records) block(have facts, key, value, pool string) error {
	have.add("claims in %s", pool)
	var block struct {
		Claims []struct {
			Owner string
			Addrs []string // single ones, and ranges
		}
	}
	err := decode(key, value, &block)
	for _, claim := range block.Claims {
		for _, addrs := range claim.Addrs {
			first, last, is := strings.Cut(addrs, "-")
			if !is {
				last = first
			}
			for addr := range r.needed {
				if within(addr, first, last) {
					have.add("claim of %s by %s", addr, r.names[claim.Owner])
				}
			}
		}
	}
	return err
}

func within(addr, first, last string) bool {
	a, errA := netip.ParseAddr(addr)
	from, errFrom := netip.ParseAddr(first)
	to, errTo := netip.ParseAddr(last)
	return errors.Join(errA, errFrom, errTo) == nil && from.Compare(a) <= 0 && a.Compare(to) <= 0
}
