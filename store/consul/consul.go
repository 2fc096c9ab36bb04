// Package consul owns the way to a Consul server or agent: its client, its
// transactions, blocking queries and sessions, and what their errors mean. It
// implements store.KV and is held to that contract by store/storetest.
//
// It may import store and Consul's API client. It knows neither what the
// records mean nor how the Consul process is found, started or supervised.
package consul

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/store"
)

// defaultTimeout bounds a call. It is below the 9 to 10 s after which Consul
// itself gives up for want of a quorum, so that callers hear of it in time;
// a failover (2 to 3 s) fits in.
const defaultTimeout = 8 * time.Second

// idleConns are kept open: the client's default of one more than the number of
// processors makes busy callers dial again and again. Consul allows 200 for
// each address.
const idleConns = 64

// idleTime is how long a connection is kept that no call uses: the calls of one
// container's start share it, and those of an agent at rest hold none.
const idleTime = 5 * time.Second

// Token is a Consul ACL token. It prints as ***, whatever the format.
type Token string

const hidden = "***"

func (Token) String() string               { return hidden }
func (Token) GoString() string             { return hidden }
func (Token) MarshalText() ([]byte, error) { return []byte(hidden), nil }
func (Token) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (Token) Format(f fmt.State, _ rune)   { fmt.Fprint(f, hidden) }

// Options of Open.
type Options struct {
	// Address is HOST:PORT, or a URL with http, https or unix. When empty,
	// Consul's own environment (CONSUL_HTTP_ADDR and so on) or 127.0.0.1:8500.
	Address string
	// Token, when empty, comes from Consul's environment too, as do TLS files,
	// namespace and partition.
	Token Token
	// TokenNow, if not nil, is asked for the token of each request instead, with TLS only.
	TokenNow func() Token
	// Timeout bounds each call except Watch and Announce; 0 means 8 s.
	Timeout time.Duration
	// TLS, if not nil, is for an https Address of a Consul that this program runs: nothing is taken from Consul's environment then.
	TLS *tls.Config
}

// Store is a store.KV in Consul. Versions are Consul's ModifyIndex. It has one
// client, and so one pool of connections, to be shared by all of a process
// (Consul refuses the 201st connection of an address). All methods may be
// called concurrently.
type Store struct {
	client  *api.Client
	http    *http.Client
	conns   *connections
	address string // for error texts
	timeout time.Duration
	bare    bareness
	large   prefixes  // whose answers are long
	opened  time.Time // when this was made

	// ctx ends when Close is called.
	ctx    context.Context
	cancel context.CancelFunc

	mu        sync.Mutex // for the order of announcing.Add and Close
	announced sync.WaitGroup
}

var _ store.KV = (*Store)(nil)

// Open makes a client; it talks to nobody yet, so it succeeds while Consul is
// away. Its errors wrap store.ErrInvalid: a bad address, a file that can't be read.
func Open(opts Options) (*Store, error) {
	config := api.DefaultConfig()
	if opts.Address != "" {
		if theirs := os.Getenv(api.HTTPAddrEnvName); theirs != "" && theirs != opts.Address {
			config.Scheme = "http" // CONSUL_HTTP_SSL belongs to that address, not to this one
		}
		config.Address = opts.Address
	}
	if opts.Token != "" {
		config.Token, config.TokenFile = string(opts.Token), ""
	}
	if opts.TLS != nil {
		config = &api.Config{Address: opts.Address, Scheme: "https", Token: string(opts.Token), Transport: config.Transport}
		config.Transport.TLSClientConfig = opts.TLS
		config.HttpClient = &http.Client{Transport: ours{config.Transport, opts.TokenNow}}
	}
	address := config.Address
	config.Transport.MaxIdleConnsPerHost, config.Transport.IdleConnTimeout = idleConns, idleTime
	if path, is := strings.CutPrefix(config.Address, "unix://"); is {
		overSocket(config, path)
	}
	conns := &connections{open: map[*connection]struct{}{}}
	config.Transport.DialContext = conns.keep(config.Transport.DialContext)
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("%w: consul client for %s: %w", store.ErrInvalid, display(address), err)
	}
	if opts.Timeout <= 0 {
		opts.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Store{
		client:  client,
		http:    config.HttpClient,
		conns:   conns,
		address: display(address),
		timeout: opts.Timeout,
		bare:    bareness{seen: map[string]span{}},
		large:   prefixes{all: map[string]bool{}},
		opened:  time.Now(),
		ctx:     ctx,
		cancel:  cancel,
	}, nil
}

// ours leaves out what the client takes from the environment whatever it is told (its NewClient): CONSUL_NAMESPACE and CONSUL_PARTITION
// mean somebody else's Consul, and one without that feature refuses every request that names any.
type ours struct {
	next  http.RoundTripper
	token func() Token // nil: the client's own
}

// RoundTrip implements http.RoundTripper.
func (o ours) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	q := r.URL.Query()
	q.Del("ns")
	q.Del("partition")
	r.URL.RawQuery = q.Encode()
	if o.token != nil {
		r.Header.Set("X-Consul-Token", string(o.token()))
	}
	return o.next.RoundTrip(r)
}

// CloseIdleConnections is what http.Client's asks for.
func (o ours) CloseIdleConnections() {
	if t, ok := o.next.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// display is the address without a password, should there be one.
func display(address string) string {
	if i := strings.LastIndex(address, "@"); i >= 0 {
		return address[i+1:]
	}
	return address
}

// Close implements store.KV. It waits up to two seconds for announced keys to
// be removed.
func (s *Store) Close() error {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.announced.Wait()
	s.http.CloseIdleConnections()
	return nil
}

// call derives the context of one request, which ends with ctx, with the store
// and after limit.
func (s *Store) call(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// Get implements store.KV.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := store.ValidKey(key); err != nil {
		return store.Entry{}, err
	}
	req, cancel := s.call(ctx, s.timeout)
	defer cancel()
	var pair *api.KVPair
	err := readAgain(req, func() (err error) {
		pair, _, err = s.client.KV().Get(key, (&api.QueryOptions{}).WithContext(req))
		if err == nil && pair == nil {
			// A leader that has just begun answers before it has replayed its log: what is missing may be there.
			pair, _, err = s.client.KV().Get(key, consistent().WithContext(req))
		}
		return err
	})
	if err != nil {
		return store.Entry{}, s.failure(ctx, "read "+key, err)
	}
	if pair == nil {
		return store.Entry{}, fmt.Errorf("%s: %w", key, store.ErrNotFound)
	}
	return entryOf(pair), nil
}

// List implements store.KV.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	if err := store.ValidPrefix(prefix); err != nil {
		return nil, err
	}
	req, cancel := s.call(ctx, s.timeout)
	defer cancel()
	var pairs api.KVPairs
	err := readAgain(req, func() (err error) {
		pairs, _, err = s.client.KV().List(prefix, consistent().WithContext(req))
		return err
	})
	if err != nil {
		return nil, s.failure(ctx, "list "+prefix, err)
	}
	return entriesOf(pairs), nil
}

// readAgain repeats a read while Consul has no leader, or can't reach it: for the first second after a leader's death servers answer so at once,
// instead of waiting for the next one.
func readAgain(ctx context.Context, read func() error) error { return again(ctx, read, leaderless) }

// writeAgain is readAgain for a write. One that may have taken effect is not repeated.
func writeAgain(ctx context.Context, write func() error) error { return again(ctx, write, unwritten) }

// again repeats what is refused in such a way, until ctx ends.
func again(ctx context.Context, ask func() error, such func(api.StatusError) bool) error {
	const pause = 200 * time.Millisecond
	for refused := error(nil); ; {
		err := ask()
		if refused != nil && ctx.Err() != nil {
			return refused // it says more than that time is up
		}
		var status api.StatusError
		if !errors.As(err, &status) || !such(status) {
			return err
		}
		refused = err
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// consistent reads what all acknowledged writes have made, also from a leader that has just begun; it costs that leader a round to
// its followers. An old value is harmless, as a compare-and-set finds it out; an entry that seems to be missing is not.
func consistent() *api.QueryOptions { return &api.QueryOptions{RequireConsistent: true} }

func entryOf(p *api.KVPair) store.Entry {
	return store.Entry{Key: p.Key, Value: p.Value, Version: p.ModifyIndex}
}

func entriesOf(pairs api.KVPairs) []store.Entry {
	entries := make([]store.Entry, 0, len(pairs))
	for _, p := range pairs {
		entries = append(entries, entryOf(p))
	}
	return entries
}
