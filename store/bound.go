package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// apartSchema is the schema of the records of networks and pools in the second layout: hosts and holders are keys of their own. An agent that knows the
// first layout only refuses such a record alone.
const apartSchema = 2

// rereads is how often what lies beside a record is read again because the record has changed meanwhile.
const rereads = 8

// networkRecord is the stored form of a network.
type networkRecord struct {
	Network
	// Hosts tells, in the first layout, on which hosts the network exists: host id to the id that the Docker of that host has given it.
	Hosts map[string]string `json:"hosts,omitzero"`
	// Away are, in the first layout, the ids of hosts whose users removed it there while others went on using it, sorted.
	Away []string `json:"away,omitempty"`
}

// boundRecord is what lies at BoundKey.
type boundRecord struct {
	Schema int `json:"schema"`
	// DockerID is the id that the host's Docker has given the network.
	DockerID string `json:"docker_id,omitempty"`
	// LetGo is the VNI of the network that the host's user removed there while others went on using it. A network that is removed and made again gets
	// another VNI, and the word is void.
	LetGo uint32 `json:"let_go,omitempty"`
	// Fence is another one after each [EndpointRecords.Fence].
	Fence string `json:"fence,omitempty"`
}

// Bound says how a host stands to a network. The zero Bound is a host that has it not.
type Bound struct {
	// DockerID is the id that the host's Docker has given the network; empty if the host has it not.
	DockerID string
	// Away says that the host's user removed it there while others went on using it.
	Away bool
}

func (r boundRecord) of(n Network) Bound {
	return Bound{DockerID: r.DockerID, Away: r.DockerID == "" && r.LetGo != 0 && r.LetGo == n.VNI}
}

// record is the stored form of b in the second layout.
func (b Bound) record(n Network) boundRecord {
	if b.DockerID != "" {
		return boundRecord{Schema: Schema, DockerID: b.DockerID}
	}
	return boundRecord{Schema: Schema, LetGo: n.VNI}
}

// Bindings tell by host how it stands to a network; hosts that have nothing to do with it are not there.
type Bindings map[string]Bound

// Present are the ids of the hosts that have the network, sorted.
func (b Bindings) Present() []string {
	var hosts []string
	for id, bound := range b {
		if bound.DockerID != "" {
			hosts = append(hosts, id)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// Away are the ids of the hosts whose users let go of it, sorted.
func (b Bindings) Away() []string {
	var hosts []string
	for id, bound := range b {
		if bound.Away {
			hosts = append(hosts, id)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// apart says whether a record of this schema has its hosts or holders beside it.
func apart(schema int) bool { return schema >= apartSchema }

// bindings are those that a record of the first layout has.
func (r networkRecord) bindings() Bindings {
	all := Bindings{}
	for _, id := range r.Away {
		all[id] = Bound{Away: true}
	}
	for id, docker := range r.Hosts {
		if docker != "" {
			all[id] = Bound{DockerID: docker}
		}
	}
	return all
}

// add notes what a key below BoundPrefix says.
func (b Bindings) add(n Network, host string, r boundRecord) {
	if bound := r.of(n); bound != (Bound{}) {
		b[host] = bound
	}
}

// readBindings are the bindings of a network whose record is r.
func (c *core) readBindings(ctx context.Context, r networkRecord) (Bindings, error) {
	if !apart(r.Schema) {
		return r.bindings(), nil
	}
	all := Bindings{}
	err := list(ctx, c.kv, boundTo(r.ID), func(e Entry, b boundRecord) { all.add(r.Network, Last(e.Key), b) })
	return all, err
}

// Bound tells how this host stands to a network; the zero Bound if there is no such network.
func (c NetworkRecords) Bound(ctx context.Context, network string) (Bound, error) {
	for range rereads {
		r, version, err := find[networkRecord](ctx, c.kv, NetworkKey(network))
		if err != nil || version == 0 {
			return Bound{}, err
		}
		own, err := c.readOwn(ctx, r)
		if err != nil || !apart(r.Schema) || own != (Bound{}) {
			return own, err
		}
		if same, err := c.same(ctx, NetworkKey(network), version); err != nil || same {
			return own, err
		}
	}
	return Bound{}, errRestless(NetworkKey(network))
}

// same says whether a record is the one that was read. What was read beside it while it was brought into another form may be half of something.
func (c *core) same(ctx context.Context, key string, version uint64) (bool, error) {
	e, err := c.kv.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return e.Version == version, err
}

// errRestless says that a record never stayed the same while what lies beside it was read.
func errRestless(key string) error {
	return fmt.Errorf("%w: %s changes all the time", ErrConflict, key)
}

func (c *core) readOwn(ctx context.Context, r networkRecord) (Bound, error) {
	if !apart(r.Schema) {
		return r.bindings()[c.host], nil
	}
	b, _, err := find[boundRecord](ctx, c.kv, BoundKey(r.ID, c.host))
	return b.of(r.Network), err
}

// BoundTo tells how all hosts stand to a network. It lists that network's bindings; ErrNotFound says that there is no such network.
func (c NetworkRecords) BoundTo(ctx context.Context, network string) (Bindings, error) {
	for range rereads {
		r, version, err := find[networkRecord](ctx, c.kv, NetworkKey(network))
		if err == nil && version == 0 {
			err = fmt.Errorf("%w: the cluster has no network %s", ErrNotFound, network)
		}
		if err != nil {
			return nil, err
		}
		all, err := c.readBindings(ctx, r)
		if err != nil || !apart(r.Schema) {
			return all, err
		}
		if same, err := c.same(ctx, NetworkKey(network), version); err != nil || same {
			return all, err
		}
	}
	return nil, errRestless(NetworkKey(network))
}

// BoundNetwork is a network with how all hosts stand to it.
type BoundNetwork struct {
	Network
	Bindings Bindings
}

// BoundNetworks lists all networks with their bindings, which grow with networks and hosts, and apart the records that can't be read. It is for people and for
// what happens rarely.
func (c NetworkRecords) BoundNetworks(ctx context.Context) ([]BoundNetwork, Unreadable, error) {
	records, unread, err := c.networkRecords(ctx)
	if err != nil {
		return nil, nil, err
	}
	at := make(map[string]int, len(records))
	all := make([]BoundNetwork, len(records))
	beside := false
	for i, r := range records {
		at[r.ID], all[i] = i, BoundNetwork{r.Network, r.bindings()}
		if apart(r.Schema) {
			beside, all[i].Bindings = true, Bindings{}
		}
	}
	if !beside {
		return all, unread, nil
	}
	unreadBound, err := listKnown(ctx, c.kv, BoundPrefix, func(e Entry, b boundRecord) error {
		network, host := boundOfKey(e.Key)
		if i, is := at[network]; is && apart(records[i].Schema) {
			all[i].Bindings.add(all[i].Network, host, b)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(unread, unreadBound)
	return all, unread, c.reread(ctx, all)
}

// reread reads the bindings of networks again whose records may have been brought back into the form of the first layout meanwhile.
func (c *core) reread(ctx context.Context, all []BoundNetwork) error {
	layout, _, err := c.layout(ctx)
	if err != nil || layout > FirstLayout {
		return err
	}
	for i, n := range all {
		if !apart(n.Schema) {
			continue
		}
		if all[i].Bindings, err = c.networks().BoundTo(ctx, n.ID); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// OwnNetwork is a network with how this host stands to it.
type OwnNetwork struct {
	Network
	Bound
}

// OwnNetworks lists all networks with this host's bindings, and apart those whose records can't be read. It reads one key more for each network, whatever the
// number of hosts.
func (c NetworkRecords) OwnNetworks(ctx context.Context) ([]OwnNetwork, Unreadable, error) {
	records, unread, err := c.networkRecords(ctx)
	if err != nil {
		return nil, nil, err
	}
	all := make([]OwnNetwork, 0, len(records))
	for _, r := range records {
		own, err := c.readOwn(ctx, r)
		if errors.Is(err, ErrInvalid) {
			unread[BoundKey(r.ID, c.host)] = err
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		all = append(all, OwnNetwork{r.Network, own})
	}
	return all, unread, c.rereadOwn(ctx, all)
}

// rereadOwn is reread for this host's bindings.
func (c *core) rereadOwn(ctx context.Context, all []OwnNetwork) error {
	layout, _, err := c.layout(ctx)
	if err != nil || layout > FirstLayout {
		return err
	}
	for i, n := range all {
		if !apart(n.Schema) {
			continue
		}
		if all[i].Bound, err = c.networks().Bound(ctx, n.ID); err != nil {
			return err
		}
	}
	return nil
}

// networkRecords lists the records of all networks, and apart those that can't be read.
func (c *core) networkRecords(ctx context.Context) ([]networkRecord, Unreadable, error) {
	var records []networkRecord
	unread, err := listKnown(ctx, c.kv, NetworksPrefix, func(e Entry, r networkRecord) error {
		if r.ID != Last(e.Key) {
			return fmt.Errorf("%w: record %s says that it is of network %q", ErrInvalid, e.Key, r.ID)
		}
		records = append(records, r)
		return nil
	})
	return records, unread, err
}
