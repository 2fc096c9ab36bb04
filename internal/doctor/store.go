package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/store"
)

// StoreDeps are what the cluster's store is looked at with.
type StoreDeps struct {
	Files Files
	// Kind and Address are for people. Own says that the agent runs it as part of its cluster, Alone that no other host can share it.
	Kind, Address string
	Own, Alone    bool
	// Host is this host's id.
	Host string
	// Members reads all hosts.
	Members func(context.Context) (store.Membership, error)
	// Log is where the agent's log is.
	Log string
}

// storeAnswer is how long the store may take to answer.
const storeAnswer = 4 * time.Second

// Store looks whether the store answers, and whether it holds this host for alive.
func Store(d StoreDeps) Check {
	return Check{Name: nameStore, Looks: fmt.Sprintf("an answer of the %s store at %s, and this host's sign of life in it", d.Kind, d.Address), Look: func(ctx context.Context) Finding {
		ctx, cancel := context.WithTimeout(ctx, storeAnswer)
		defer cancel()
		began := time.Now()
		members, err := d.Members(ctx)
		switch {
		case err != nil:
			return d.silent(err)
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

// silent says why a store does not answer. A connection of our own tells a Consul that is not there from one that hangs.
func (d StoreDeps) silent(err error) Finding {
	const follows = "networks can't be made or removed, and other hosts do not hear of containers that start here; those that run keep talking"
	cure := "start Consul, or give its address with --consul-addr"
	if d.Own {
		cure = "see the cluster"
	}
	text := err.Error()
	var refused *net.OpError
	var name *net.DNSError
	switch {
	case errors.Is(err, store.ErrDenied):
		return Error(text, follows, "give the agent a token (CONSUL_HTTP_TOKEN in its environment) that Consul knows, and whose policy lets it write keys below socketplane/ and sessions; then restart it")
	case errors.Is(err, store.ErrNoLeader):
		return Error(text, follows, "see on Consul's servers that a majority of them runs and that they reach each other: consul operator raft list-peers")
	case errors.As(err, &name):
		return Error(fmt.Sprintf("the name in the store's address can't be resolved: %v", err), follows,
			fmt.Sprintf("see that 'getent hosts %s' answers on this host (/etc/resolv.conf), or give an address with --consul-addr", name.Name))
	case otherProtocol(err):
		return Error(fmt.Sprintf("%s answers, but not as Consul's HTTP API of this scheme does: %v", d.Address, err), follows,
			"give --consul-addr Consul's HTTP port (8500 as a rule), or https:// and its HTTPS port (8501), with CONSUL_CACERT and CONSUL_TLS_SERVER_NAME as its certificate needs them")
	case errors.Is(err, syscall.ECONNREFUSED):
		text = fmt.Sprintf("%s refuses connections: Consul does not run there: %v", d.Address, err)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		text = fmt.Sprintf("there is no way to %s: %v", d.Address, err)
		cure = "see the tunnel address of this host, and start Consul's host, or give Consul's address with --consul-addr"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &refused) && refused.Timeout():
		var better string
		if text, better = d.hangs(err); better != "" {
			cure = better
		}
	}
	return Error(text, follows, cure)
}

// shown says whether the store lets this host see its own record, without which it may hide all others too: Consul leaves out of lists what a token
// may not read.
func (d StoreDeps) shown(members store.Membership) bool {
	_, there := members.Hosts[d.Host]
	return there
}

func (d StoreDeps) hidden() Finding {
	return Error(fmt.Sprintf("the %s store at %s answers, but does not show this host's own record: it is not the store that the agent wrote it to, it has lost its data, or the token may not read the keys below socketplane/",
		d.Kind, d.Address), "what other hosts have is not seen here", "see --consul-addr (the other hosts' agents must have the same Consul and datacenter) and CONSUL_HTTP_TOKEN, "+
		"whose policy needs key_prefix \"socketplane/\" with write; the agent writes its record again when it is restarted")
}

// otherProtocol says whether something else answers than an HTTP server of the expected scheme.
func otherProtocol(err error) bool {
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var syntax *json.SyntaxError
	return errors.As(err, &record) || errors.As(err, &verify) || errors.As(err, &alert) || errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || strings.Contains(err.Error(), "malformed HTTP") || strings.Contains(err.Error(), "HTTP response to HTTPS client") ||
		strings.Contains(err.Error(), "HTTP request to an HTTPS server")
}

// dialAnswer is how long a connection may take.
const dialAnswer = time.Second

// hangs tells a Consul that takes connections and says nothing from a host that does not answer at all. A process of this host that a signal stopped
// is named with its cure.
func (d StoreDeps) hangs(err error) (text, cure string) {
	if pid := d.Files.stopped("consul"); pid != 0 {
		return fmt.Sprintf("Consul (process %d of this host) is stopped by a signal (SIGSTOP, or a debugger): %v", pid, err), fmt.Sprintf("kill -CONT %d", pid)
	}
	u, parseErr := url.Parse(d.Address)
	addr := d.Address
	if parseErr == nil && strings.Contains(addr, "://") {
		addr = u.Host // "" of a unix socket
	}
	if _, _, parseErr = net.SplitHostPort(addr); parseErr != nil {
		return err.Error(), "" // nothing that a connection can be made to
	}
	conn, dialErr := net.DialTimeout("tcp", addr, dialAnswer)
	if dialErr != nil {
		return fmt.Sprintf("%s gives no answer to a connection (%v): %v", addr, dialErr, err),
			"see that Consul's host is up, and that no firewall drops TCP to it; or give another address with --consul-addr"
	}
	_ = conn.Close() // it was opened to see that it can be
	return fmt.Sprintf("%s takes connections and answers nothing: Consul hangs, is stopped by a signal, or has no leader: %v", addr, err),
		"see that Consul runs there ('systemctl status consul'; a process in state T is stopped, 'kill -CONT' lets it go on), and that a majority of its servers does " +
			"('consul operator raft list-peers'); then start Consul again"
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
