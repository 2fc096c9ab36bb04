package agent

import (
	"context"
	"errors"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/plugin"
	"github.com/socketplane/socketplane/plugin/netapi"
	"github.com/socketplane/socketplane/store"
)

// front is both of Docker's drivers: those of the agent that runs, or a refusal with the cause.
//
// Docker never repeats a removal. What it removes while no agent runs is kept in memory and done before the next agent answers anything; if
// the process ends before, internal/mirror finds that Docker has forgotten it.
type front struct{ s *supervisor }

var (
	_ plugin.NetworkDriver = front{}
	_ plugin.IPAMDriver    = front{}
)

// asked calls the agent that runs. The first attempt to start it is awaited, and after that one for each call.
func asked[Req, Resp any](ctx context.Context, f front, req *Req, call func(*agent) func(context.Context, *Req) (*Resp, error)) (*Resp, error) {
	a, done, err := f.s.use(ctx, attemptWait)
	if err != nil {
		f.s.refused.Store(true)
		return nil, notReady(err)
	}
	defer done()
	resp, err := call(a)(ctx, req)
	if errors.Is(err, ovs.ErrNotReady) {
		f.s.refused.Store(true)
	}
	if errors.Is(err, store.ErrUnavailable) {
		f.s.starved.Store(true)
	}
	return resp, err
}

// release is a removal that waits for an agent.
type release func(context.Context, *agent) error

// Limits of what is kept for the next agent: Docker removes at its boot what it had when the machine went down.
const (
	maxOwed     = 8192
	owedTimeout = 10 * time.Second // for all of it: internal/mirror does the rest
)

// released calls the agent that runs, or the next one. Nobody waits: the answer is the same a moment later.
func released[Req any](ctx context.Context, f front, req *Req, call func(*agent) func(context.Context, *Req) error) error {
	a, done, err := f.s.use(ctx, 0)
	if err != nil {
		a, done = f.s.owe(func(later context.Context, a *agent) error { return call(a)(netapi.Carry(later, ctx), req) })
	}
	if a == nil {
		return notReady(err)
	}
	defer done()
	return call(a)(ctx, req)
}

// owe keeps a removal for the next agent, unless there is one by now.
func (s *supervisor) owe(r release) (*agent, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.agent != nil {
		s.agent.users.Add(1)
		return s.agent, s.agent.users.Done
	}
	if len(s.owed) < maxOwed {
		s.owed = append(s.owed, r)
	}
	return nil, nil
}

// adopt makes an agent the one that answers, after it has done what Docker removed while none ran. Nothing of that can have been
// made again since, as all else was refused. It says whether calls may have been refused before.
func (s *supervisor) adopt(ctx context.Context, a *agent) (waited bool) {
	ctx, cancel := context.WithTimeout(ctx, owedTimeout)
	defer cancel()
	total, failed := 0, 0
	for {
		s.mu.Lock()
		owed := s.owed
		s.owed = nil
		if len(owed) == 0 {
			waited = s.cause != nil
			s.agent, s.cause = a, nil
			s.end()
			s.mu.Unlock()
			break
		}
		s.mu.Unlock()
		for _, r := range owed {
			if total++; r(ctx, a) != nil {
				failed++
			}
		}
	}
	if total > 0 {
		s.log.Info("what Docker removed while the agent could not start is removed now", "calls", total, "failed", failed)
	}
	return waited
}

func (f front) CreateNetwork(ctx context.Context, r *network.CreateNetworkRequest) error {
	_, err := asked(ctx, f, r, func(a *agent) func(context.Context, *network.CreateNetworkRequest) (*struct{}, error) {
		return func(ctx context.Context, r *network.CreateNetworkRequest) (*struct{}, error) {
			return nil, a.network.CreateNetwork(ctx, r)
		}
	})
	return err
}

func (f front) CreateEndpoint(ctx context.Context, r *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	return asked(ctx, f, r, func(a *agent) func(context.Context, *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
		return a.network.CreateEndpoint
	})
}

func (f front) EndpointInfo(ctx context.Context, r *network.InfoRequest) (*network.InfoResponse, error) {
	return asked(ctx, f, r, func(a *agent) func(context.Context, *network.InfoRequest) (*network.InfoResponse, error) {
		return a.network.EndpointInfo
	})
}

func (f front) Join(ctx context.Context, r *network.JoinRequest) (*netapi.JoinResponse, error) {
	return asked(ctx, f, r, func(a *agent) func(context.Context, *network.JoinRequest) (*netapi.JoinResponse, error) {
		return a.network.Join
	})
}

func (f front) RequestPool(ctx context.Context, r *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	return asked(ctx, f, r, func(a *agent) func(context.Context, *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
		return a.addresses.RequestPool
	})
}

func (f front) RequestAddress(ctx context.Context, r *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	return asked(ctx, f, r, func(a *agent) func(context.Context, *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
		return a.addresses.RequestAddress
	})
}

func (f front) DeleteNetwork(ctx context.Context, r *network.DeleteNetworkRequest) error {
	return released(ctx, f, r, func(a *agent) func(context.Context, *network.DeleteNetworkRequest) error {
		return a.network.DeleteNetwork
	})
}

func (f front) DeleteEndpoint(ctx context.Context, r *network.DeleteEndpointRequest) error {
	return released(ctx, f, r, func(a *agent) func(context.Context, *network.DeleteEndpointRequest) error {
		return a.network.DeleteEndpoint
	})
}

func (f front) Leave(ctx context.Context, r *network.LeaveRequest) error {
	return released(ctx, f, r, func(a *agent) func(context.Context, *network.LeaveRequest) error { return a.network.Leave })
}

func (f front) ReleasePool(ctx context.Context, r *ipam.ReleasePoolRequest) error {
	return released(ctx, f, r, func(a *agent) func(context.Context, *ipam.ReleasePoolRequest) error { return a.addresses.ReleasePool })
}

func (f front) ReleaseAddress(ctx context.Context, r *ipam.ReleaseAddressRequest) error {
	return released(ctx, f, r, func(a *agent) func(context.Context, *ipam.ReleaseAddressRequest) error {
		return a.addresses.ReleaseAddress
	})
}
