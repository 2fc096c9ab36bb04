package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/store"
)

// failure says what the error of a request means: which of store's errors it
// is, who did not do what, and what an operator can do. ctx is the caller's.
func (s *Store) failure(ctx context.Context, what string, err error) error {
	switch {
	case s.ctx.Err() != nil:
		return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, what, store.ErrClosed)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %s: Consul at %s: %w", store.ErrUnavailable, what, s.address, ctx.Err())
	}
	var status api.StatusError
	if errors.As(err, &status) {
		return s.refusal(what, status)
	}
	// The client's text has the whole URL; the cause is inside.
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %s: Consul at %s did not answer within %s: check that a majority of its servers runs (consul operator raft list-peers); a write may have taken effect", store.ErrUnavailable, what, s.address, s.timeout)
	}
	return fmt.Errorf("%w: %s: Consul at %s can't be reached (%w): check that it runs and that the address is right", store.ErrUnavailable, what, s.address, err)
}

// refusal is failure for an answer with an HTTP status.
func (s *Store) refusal(what string, status api.StatusError) error {
	kind, cure := store.ErrUnavailable, "see Consul's log"
	if strings.Contains(status.Body, plainToTLS) {
		return fmt.Errorf("%w: %s: Consul at %s answered %d (%s): put https:// before its address", kind, what, s.address, status.Code, strings.TrimSpace(status.Body))
	}
	switch status.Code {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		kind, cure = store.ErrInvalid, "this is a fault of SocketPlane: please report it"
	case http.StatusUnauthorized, http.StatusForbidden:
		kind, cure = store.ErrDenied, cureToken
	case http.StatusTooManyRequests:
		cure = "this host has too many connections to Consul or exceeds a rate limit: raise limits.http_max_conns_per_client"
	default:
		if leaderless(status) {
			kind, cure = store.ErrNoLeader, "the cluster has no leader: wait if one has just failed, else check that a majority of its servers runs (consul operator raft list-peers)"
		} else if denied(status.Body) {
			kind, cure = store.ErrDenied, cureToken
		}
	}
	return fmt.Errorf("%w: %s: Consul at %s answered %d (%s): %s", kind, what, s.address, status.Code, status.Body, cure)
}

// plainToTLS is what Go's HTTP server, and so Consul, answers with status 400 to a request without TLS at a port with TLS.
const plainToTLS = "HTTP request to an HTTPS server"

const cureToken = `give SocketPlane a token (CONSUL_HTTP_TOKEN) whose policy has key_prefix "socketplane/" and session_prefix "" with write`

// What Consul's servers say when they have no leader, or can't reach it, before anything was written: agent/structs/errors.go, agent/pool/pool.go and
// rpc.go of Consul, api.go of its Raft. A server that was asked by another one has its words quoted.
func beforeWriting() []string {
	return []string{
		"No cluster leader", "Raft leader not found", "node is not the leader", "leadership transfer in progress",
		"rpc error getting client", // the connection could not be made
	}
}

// afterWriting is what they say when the leader was lost on the way: a write may have been made.
func afterWriting() []string { return []string{"rpc error", "leadership lost while committing log"} }

// leaderless recognises all of it.
func leaderless(status api.StatusError) bool {
	return unwritten(status) || refuses(status, afterWriting())
}

// unwritten recognises refusals that prove that nothing was written.
func unwritten(status api.StatusError) bool { return refuses(status, beforeWriting()) }

func refuses(status api.StatusError, texts []string) bool {
	return status.Code == http.StatusInternalServerError && !denied(status.Body) &&
		slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(status.Body, text) })
}

// denied recognises what Consul's ACLs say; transactions report it without a
// status of its own.
func denied(text string) bool {
	return strings.Contains(text, "Permission denied") || strings.Contains(text, "ACL not found")
}
