package admission

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
)

// askTimeout bounds a question: a server that is slow is one that has no leader.
const askTimeout = 15 * time.Second

// dialTimeout bounds the connection to an address at which no host may be any more: others are asked after it.
const dialTimeout = 3 * time.Second

// Question is what a host asks.
type Question struct {
	Host Host
	// Token is nil without one.
	Token *trust.Token
	// Cluster is the id of the cluster that is meant, "" for any.
	Cluster string
	// Again asks as a member of the cluster whose credentials the keeper has, and Epoch tells which keys it uses; with 0 it is
	// about to use those that it gets.
	Again bool
	Epoch uint64
	// Trust is store.Member.Trust of the host.
	Trust int
}

// Ask asks the member at addr, and returns the credentials that it gives. They are not saved. A refusal is a *Refused; an answer by a
// host of another cluster wraps trust.ErrStranger.
func Ask(ctx context.Context, keeper *trust.Keeper, addr netip.AddrPort, q Question) (trust.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	creds, err := put(ctx, tlsFor(keeper, q), addr, q.message())
	var refused *Refused
	switch {
	case errors.As(err, &refused):
		return trust.Credentials{}, err
	case errors.Is(err, trust.ErrStranger):
		return trust.Credentials{}, fmt.Errorf("ask %s to be admitted: %w: %s", addr, trust.ErrStranger, strange(q))
	case err != nil:
		return trust.Credentials{}, fmt.Errorf("ask %s to be admitted: %w", addr, err)
	case q.Cluster != "" && creds.Cluster() != q.Cluster:
		return trust.Credentials{}, fmt.Errorf("ask %s to be admitted: %w: it is of cluster %s", addr, trust.ErrStranger, creds.Cluster())
	}
	if err := keeper.Check(creds); err != nil {
		return trust.Credentials{}, fmt.Errorf("ask %s to be admitted: it answered with what can't be used: %w", addr, err)
	}
	return creds, nil
}

// strange says what it may mean that the host which answered is not of the cluster, and what helps.
func strange(q Question) string {
	switch {
	case q.Token != nil:
		return "the token is of another cluster, or the cluster's keys were changed since it was made: get a new one with 'socketplane cluster token create' on a host of the cluster"
	case q.Again:
		return "nothing that this host knows of its cluster fits: if none of the hosts that it knew is there any more, leave with 'socketplane cluster leave --force' and join again"
	}
	return "it showed no certificate that fits"
}

func tlsFor(keeper *trust.Keeper, q Question) *tls.Config {
	switch {
	case q.Token != nil:
		return keeper.TokenTLS(*q.Token)
	case q.Again:
		return keeper.MemberTLS()
	default:
		return keeper.OpenTLS()
	}
}

func (q Question) message() ask {
	a := ask{Version: version, Host: q.Host, Cluster: q.Cluster, Again: q.Again, Trust: q.Trust, Epoch: q.Epoch}
	if q.Token != nil {
		a.Token, a.Secret = q.Token.ID, q.Token.Secret.Reveal()
	}
	return a
}

// put sends a question and reads its answer. Done without credentials gives the zero Credentials.
func put(ctx context.Context, config *tls.Config, addr netip.AddrPort, a ask) (trust.Credentials, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	raw, err := dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return trust.Credentials{}, err
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return trust.Credentials{}, err
	}
	if err := json.NewEncoder(conn).Encode(a); err != nil {
		return trust.Credentials{}, unwrapped(err)
	}
	creds, err := readAnswer(conn, a.Do == "")
	if err != nil && ctx.Err() != nil {
		return trust.Credentials{}, fmt.Errorf("no answer: %w", context.Cause(ctx))
	}
	return creds, err
}

// unwrapped leaves out the addresses, which the caller says better.
func unwrapped(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
