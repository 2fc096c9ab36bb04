package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/discovery"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// Times of forming.
const (
	// listenTime is how long a candidate listens before it may found a cluster.
	listenTime = 2 * time.Second
	// settleTime is how long a founder listens for another one that founds in the same moment.
	settleTime = 400 * time.Millisecond
	formEvery  = 250 * time.Millisecond
	// askTime bounds one question to be admitted, askAgain is between rounds of questions.
	askTime  = 10 * time.Second
	askAgain = 500 * time.Millisecond
	// lockedAgain is between rounds after a refusal, which only a user can change.
	lockedAgain = 5 * time.Second
)

// sight is what a host without a cluster knows. From it alone it is decided what to do.
type sight struct {
	self  string
	since time.Duration // how long it has listened
	peers []discovery.Peer
	// join says that it was told whom to ask, token that it has a token, so that there is a cluster, alone that it was told to wait.
	join, token, alone bool
}

// move is what a host without a cluster does next.
type move struct {
	do      doing
	cluster string
	addrs   []netip.AddrPort
	why     string // what it waits for
}

type doing int

const (
	wait doing = iota
	ask
	found
)

// decide says what a host without a cluster does next. The host with the least id of all candidates founds, after it has
// listened; who hears that somebody founds, or a cluster, never does.
func decide(s sight) move {
	clusters := map[string][]netip.AddrPort{}
	founder, least := "", s.self
	for _, p := range s.peers {
		switch p.State {
		case discovery.Member:
			clusters[p.Cluster] = append(clusters[p.Cluster], netip.AddrPortFrom(p.Addr, p.Port))
		case discovery.Founding:
			founder = p.Name
		case discovery.Candidate:
			least = min(least, p.Host)
		}
	}
	switch {
	case s.alone:
		return move{why: "it has left its cluster: run 'socketplane cluster join' or 'socketplane cluster init'"}
	case s.join:
		return move{do: ask}
	case len(clusters) > 1:
		return move{why: fmt.Sprintf("%d clusters are heard: name a host of one with 'socketplane cluster join ADDRESS'", len(clusters))}
	case len(clusters) == 1:
		for id, addrs := range clusters {
			return move{do: ask, cluster: id, addrs: addrs}
		}
	case s.token:
		return move{why: "it has a token, and hears no cluster: name a host of it with --join"}
	case founder != "":
		return move{why: "host " + founder + " founds one"}
	case least != s.self:
		return move{why: "host " + least + " is to found one"}
	case s.since < listenTime:
		return move{why: "it listens for others"}
	}
	return move{do: found}
}

// outside looks for a cluster until the host has one, or until ctx ends.
func (c *Cluster) outside(ctx context.Context) error {
	began := time.Now()
	for ctx.Err() == nil {
		if w := c.nextWish(); w != nil {
			err := c.fulfil(ctx, w)
			w.answer <- err
			if err == nil {
				return nil
			}
			continue
		}
		rec := c.records.get()
		if rec.Alone {
			c.disco.Silence()
		} else {
			c.announce(discovery.Candidate, "", false)
		}
		token, err := c.token()
		if err != nil {
			c.trouble(err)
		}
		m := decide(sight{
			self: c.opts.Host, since: time.Since(began), peers: c.disco.Peers(), join: len(c.opts.Join) > 0,
			token: token != nil || err != nil, alone: rec.Alone,
		})
		switch m.do {
		case wait:
			c.rest("this host is in no cluster: " + m.why)
			c.await(ctx, formEvery)
		case ask:
			pause, err := c.join(ctx, m, token)
			if err == nil {
				return nil
			}
			c.rest("this host is in no cluster: " + err.Error())
			c.trouble(err)
			c.linger(ctx, pause)
		case found:
			err := c.found(ctx, c.opts.Locked, false)
			if !errors.Is(err, errYield) {
				return err
			}
		}
	}
	return nil
}

// linger waits until the next try is due, or a user wants something.
func (c *Cluster) linger(ctx context.Context, d time.Duration) {
	for until := time.Now().Add(d); ctx.Err() == nil && time.Now().Before(until) && !c.wished(); {
		c.await(ctx, time.Until(until))
	}
}

// join asks the members that are heard or were named. The pause is for the next try.
func (c *Cluster) join(ctx context.Context, m move, token *trust.Token) (pause time.Duration, err error) {
	if len(m.addrs) == 0 {
		if m.addrs, err = c.resolve(ctx, c.opts.Join); err != nil {
			return lockedAgain, err
		}
	}
	creds, err := c.askAny(ctx, m.addrs, admission.Question{Host: c.host(), Trust: c.trusts(), Token: token, Cluster: m.cluster})
	if err == nil {
		return 0, c.enter(creds)
	}
	var refused *admission.Refused
	if errors.As(err, &refused) && refused.Code != admission.CodeNotNow {
		return lockedAgain, err
	}
	return askAgain, err
}

// token is what this host was given to join with.
func (c *Cluster) token() (*trust.Token, error) {
	if c.opts.Token == nil {
		return nil, nil
	}
	return c.opts.Token()
}

// enter makes this host a member of the cluster that has admitted it.
func (c *Cluster) enter(creds trust.Credentials) error {
	if err := c.records.change(func(r *record) { *r = record{Role: store.RoleClient} }); err != nil {
		return err
	}
	c.log.Info("cluster: this host was admitted", "cluster", creds.Cluster())
	return c.keeper.Set(creds)
}

// askAny asks one after the other, in no fixed order, until one admits this host.
func (c *Cluster) askAny(ctx context.Context, addrs []netip.AddrPort, q admission.Question) (trust.Credentials, error) {
	addrs = slices.Clone(addrs)
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return c.askEach(ctx, addrs, q)
}

// askEach asks one after the other until one admits this host.
func (c *Cluster) askEach(ctx context.Context, addrs []netip.AddrPort, q admission.Question) (trust.Credentials, error) {
	var last error
	own := netip.AddrPortFrom(c.addr(), c.opts.Port)
	for _, addr := range addrs {
		if addr == own {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, askTime)
		creds, err := admission.Ask(ask, c.keeper, addr, q)
		cancel()
		if err == nil {
			return creds, nil
		}
		// A refusal says more than a silence.
		var refused *admission.Refused
		if last == nil || !errors.As(last, &refused) {
			last = err
		}
	}
	switch {
	case last == nil && slices.Contains(addrs, own):
		last = fmt.Errorf("the only host to ask is said to be at %s, which is this host's own address: if another host has it too, give each an address of its own with --advertise", own.Addr())
	case last == nil:
		last = errors.New("there is no other host to ask: check the addresses given with --join")
	}
	return trust.Credentials{}, last
}

func (c *Cluster) host() admission.Host {
	return admission.Host{ID: c.opts.Host, Name: c.opts.Name, Addr: c.addr(), Port: c.opts.Port}
}

var errYield = errors.New("another host founds a cluster")

// found makes the keys of a new cluster. With force it does not look whether others do the same.
func (c *Cluster) found(ctx context.Context, locked, force bool) error {
	creds, err := trust.Found(c.keeper.Identity(), c.subject(), locked, c.opts.Lifetimes, time.Now())
	if err != nil {
		return err
	}
	if c.opts.former {
		creds = trust.Share(creds)
	}
	c.announce(discovery.Founding, creds.Cluster(), locked)
	if !force {
		sleep(ctx, settleTime)
		for _, p := range c.disco.Peers() {
			if p.State == discovery.Member || p.State == discovery.Founding && p.Host < c.opts.Host {
				return errYield
			}
		}
	}
	if err := c.records.change(func(r *record) { *r = record{Founder: true, Role: store.RoleServer} }); err != nil {
		return err
	}
	c.log.Info("cluster: this host founds a cluster", "cluster", creds.Cluster(), "locked", locked)
	return c.keeper.Set(creds)
}

// resolve makes addresses of what users gave: HOST:PORT, where HOST may be a name.
func (c *Cluster) resolve(ctx context.Context, given []string) ([]netip.AddrPort, error) {
	lookup := c.opts.lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupNetIP
	}
	var out []netip.AddrPort
	var errs []error
	for _, text := range given {
		host, port, err := net.SplitHostPort(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("join %s: %w", text, err))
			continue
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			errs = append(errs, fmt.Errorf("join %s: %w", text, err))
			continue
		}
		addrs, err := lookup(ctx, "ip", strings.Trim(host, "[]"))
		if err != nil {
			errs = append(errs, fmt.Errorf("join %s: %w", text, err))
			continue
		}
		for _, a := range addrs {
			out = append(out, netip.AddrPortFrom(a.Unmap(), uint16(n)))
		}
	}
	if len(out) == 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

func hostPort(addr netip.Addr, port uint16) string { return netip.AddrPortFrom(addr, port).String() }
