package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/socketplane/socketplane/store"
)

// StoreDeps are what the cluster's store is looked at with.
type StoreDeps struct {
	Files Files
	Links Links
	// Kind and Address are for people. Own says that the agent runs it as part of its cluster, Alone that no other host can share it.
	Kind, Address string
	Own, Alone    bool
	// Host is this host's id.
	Host string
	// Members reads all hosts.
	Members func(context.Context) (store.Membership, error)
	// Ask asks the Consul at an address whether it is well; store.ErrNoLeader is among its errors.
	Ask func(ctx context.Context, address string) error
	// Log is where the agent's log is.
	Log string
}

// storeAnswer is how long the store may take to answer, storeLimit that with a question of our own afterwards.
const (
	storeAnswer = 4 * time.Second
	storeLimit  = storeAnswer + consulAnswer + time.Second
)

// Store looks whether the store answers, and whether it holds this host for alive.
func Store(d StoreDeps) Check {
	return Check{Name: nameStore, Looks: fmt.Sprintf("an answer of the %s store at %s, and this host's sign of life in it", d.Kind, d.Address), Limit: storeLimit, Look: func(ctx context.Context) Finding {
		ctx, cancel := context.WithTimeout(ctx, storeAnswer)
		defer cancel()
		began := time.Now()
		members, err := d.Members(ctx)
		switch {
		case err != nil:
			return d.silent(ctx, err)
		case d.Alone:
			return Warning("a file of this host", "networks reach no other host", "give the agents one Consul with --consul-addr")
		case !d.shown(members):
			return d.hidden()
		case !members.Alive[d.Host]:
			return Warning("other hosts take this host's agent for down", "", "wait a minute; "+d.Log+" says why if it stays")
		}
		return OK("%s at %s answers in %v; %d hosts, %d up", d.Kind, d.Address, time.Since(began).Round(time.Millisecond), len(members.Hosts), len(members.Alive))
	}}
}

// shown says whether the store lets this host see its own record, without which it may hide all others too: Consul leaves out of lists what a token
// may not read.
func (d StoreDeps) shown(members store.Membership) bool {
	_, there := members.Hosts[d.Host]
	return there
}

func (d StoreDeps) hidden() Finding {
	return Error(fmt.Sprintf("the %s store at %s answers, but does not show this host's own record: it is not the store that the agent wrote it to, it has lost its data, or the token may not read the keys below socketplane/",
		d.Kind, d.Address), "what other hosts have is not seen here", "wait a minute, within which the agent writes its record again; if it stays, see --consul-addr (the other hosts' agents must have the same Consul and datacenter) and CONSUL_HTTP_TOKEN, "+
		"whose policy needs key_prefix \"socketplane/\" with write")
}

// Versions looks whether the hosts' agents are of one version.
func Versions(own string, hosts func(context.Context) ([]Peer, error)) Check {
	return Check{Name: nameVersions, Looks: "the versions of all hosts' agents", Look: func(ctx context.Context) Finding {
		peers, err := hosts(ctx)
		if err != nil {
			return Unknown("the other hosts are not known: "+err.Error(), "see the store")
		}
		var other []string
		for _, p := range peers {
			if p.Version != own {
				other = append(other, p.Name+" has "+p.Version)
			}
		}
		if len(other) > 0 {
			return Warning(fmt.Sprintf("this host's agent is %s; %s", own, strings.Join(other, ", ")), "what only the newer ones can do does not work between these hosts",
				"install the same version on all hosts")
		}
		return OK("all hosts' agents are %s", own)
	}}
}

// HostNames looks for hosts of the same name.
func HostNames(own, id string, hosts func(context.Context) ([]Peer, error)) Check {
	return Check{Name: nameHostNames, Looks: "the names of all hosts", Look: func(ctx context.Context) Finding {
		peers, err := hosts(ctx)
		if err != nil {
			return Unknown("the other hosts are not known: "+err.Error(), "see the store")
		}
		ids := map[string][]string{own: {id}}
		for _, p := range peers {
			ids[p.Name] = append(ids[p.Name], p.ID)
		}
		var twice []string
		for name, all := range ids {
			if len(all) > 1 {
				slices.Sort(all)
				twice = append(twice, fmt.Sprintf("%d hosts are named %s: %s", len(all), name, strings.Join(all, ", ")))
			}
		}
		if len(twice) > 0 {
			slices.Sort(twice)
			return Warning(strings.Join(twice, "; "), "commands that take a host's name can't tell them apart; give the id there",
				"give each host a name of its own with --name or hostnamectl, and restart its agent; 'socketplane host rm ID' forgets one that is gone")
		}
		return OK("%d hosts, each with a name of its own", len(peers)+1)
	}}
}
