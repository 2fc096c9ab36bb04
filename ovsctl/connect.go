package ovsctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/ovn-org/libovsdb/cache"
	"github.com/ovn-org/libovsdb/client"
	"github.com/ovn-org/libovsdb/ovsdb"

	"github.com/socketplane/socketplane/internal/lock"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/ovsctl/vswitch"
)

// Options say which database and bridge a Switch manages.
type Options struct {
	// Endpoint is ovsdb-server's socket as OVSDB writes it, such as "unix:/run/openvswitch/db.sock".
	// Unix sockets only: ovs-vswitchd must be on this host.
	Endpoint string
	// Bridge is the name of our bridge.
	Bridge string
	// Logger takes the loss and return of the connection; nil is slog.Default().
	Logger *slog.Logger
}

// Switch is our bridge in one Open vSwitch. Its methods may be called from several goroutines; those
// that write are done one after the other.
type Switch struct {
	endpoint, path, bridge string
	log                    *slog.Logger

	changed chan struct{} // cap 1, for the user
	kick    chan struct{} // cap 1: look at ovs-vswitchd now
	writing lock.Lock     // held by the writer

	stop context.CancelFunc
	done chan struct{}

	handle *os.Process // of vswitchd.id, for run only
	counts counters
	news   news

	mu       sync.Mutex
	session  *session // nil while there is none with its cache in sync
	cause    error    // why session is nil
	moved    chan struct{}
	vswitchd vswitchd
}

// session is one connection to ovsdb-server with a copy of the database that is kept in sync.
type session struct {
	client client.Client
	cache  *cache.TableCache
	lost   chan struct{} // closed after the client has let the connection go
}

// Connect starts to manage the bridge of an Open vSwitch until Close. It waits for the first attempt
// to connect; that it fails is no error of Connect, as more follow for ever: Ready tells. The
// context bounds only this call.
func Connect(ctx context.Context, o Options) (*Switch, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Scheme != client.UNIX || !filepath.IsAbs(u.Path) {
		return nil, fmt.Errorf("OVSDB endpoint %q: want unix: and an absolute path, such as unix:/run/openvswitch/db.sock", o.Endpoint)
	}
	if o.Bridge == "" {
		return nil, errors.New("the bridge has no name: give one, such as socketplane0")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Switch{
		endpoint: o.Endpoint, path: u.Path, bridge: o.Bridge, log: o.Logger,
		changed: make(chan struct{}, 1), kick: make(chan struct{}, 1), writing: lock.New(),
		stop: stop, done: make(chan struct{}), moved: make(chan struct{}),
		cause: errors.New("not tried yet"),
	}
	first := make(chan struct{})
	go s.run(life, first)
	select {
	case <-first:
	case <-ctx.Done():
	}
	return s, nil
}

// Close ends the connection and all goroutines. Bridge and ports stay as they are.
func (s *Switch) Close() {
	s.stop()
	<-s.done
}

// Changed tells that something may be other than it was: rows of ours, the connection, or
// ovs-vswitchd (which lost its flows if it restarted). It is a hint to look again, not a queue: any
// number of changes is one value, and our own writes are among them. The channel is never closed.
func (s *Switch) Changed() <-chan struct{} { return s.changed }

// Bridge is the name of our bridge, and of its interface in the kernel.
func (s *Switch) Bridge() string { return s.bridge }

// MgmtPath is the path of the bridge's OpenFlow management socket, which ovs-vswitchd makes beside
// the database's.
func (s *Switch) MgmtPath() string {
	return filepath.Join(filepath.Dir(s.path), s.bridge+".mgmt")
}

// run connects again and again. libovsdb can reconnect by itself, but then its transactions block
// while there is no connection, its probe can write to a closed channel, and a lost update goes
// unnoticed; a fresh client has none of that.
func (s *Switch) run(ctx context.Context, first chan<- struct{}) {
	defer close(s.done)
	defer func() {
		if s.handle != nil {
			_ = s.handle.Release()
		}
	}()
	once := sync.OnceFunc(func() { close(first) })
	defer once()
	pause := retry.Pause{First: backoffMin, Last: backoffMax, Steady: steadyAfter}
	trouble := retry.Trouble{Logger: s.log, Level: slog.LevelWarn, Text: "Open vSwitch can't be reached or drops the connection", Over: "connected to Open vSwitch again"}
	for ctx.Err() == nil {
		n, err := s.open(ctx)
		began := time.Now()
		if err == nil {
			s.look(ctx, n) // so that Ready knows from the first moment
			s.setSession(n, nil)
			once()
			err = s.serve(ctx, n, func() { trouble.Note(nil, "endpoint", s.endpoint) })
		}
		worked := time.Since(began)
		s.setSession(nil, err)
		once()
		if n != nil {
			n.close()
		} else {
			worked = 0
		}
		if ctx.Err() == nil { // else it was let go
			trouble.Note(err, "endpoint", s.endpoint)
		}
		pause.Wait(ctx, worked)
	}
}

// open makes a session; it is in sync when open returns.
func (s *Switch) open(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	model, err := vswitch.FullDatabaseModel()
	if err != nil {
		return nil, err
	}
	quiet := logr.Discard() // what matters comes back as errors
	c, err := client.NewOVSDBClient(model, client.WithEndpoint(s.endpoint), client.WithLogger(&quiet))
	if err != nil {
		return nil, err
	}
	if err := c.Connect(ctx); err != nil {
		return nil, err
	}
	n := &session{client: c, cache: c.Cache(), lost: make(chan struct{})}
	go n.awaitLoss()
	if n.cache == nil { // lost already
		n.close()
		return nil, client.ErrNotConnected
	}
	n.cache.AddEventHandler(&events{s})
	monitor, err := monitorOf(c, vswitch.Schema())
	if err == nil {
		_, err = c.Monitor(ctx, monitor)
	}
	if err != nil {
		n.close()
		return nil, fmt.Errorf("monitor the database: %w", err)
	}
	return n, nil
}

// monitorOf asks for the columns of the generated schema: a monitor without columns gets all that
// the server has, and the interfaces' statistics change all the time. The older of the two methods
// is used because libovsdb ignores updates that it cannot apply with monitor_cond_since, where it
// disconnects with monitor_cond, which is what we want: reading all anew mends it.
func monitorOf(c client.Client, schema ovsdb.DatabaseSchema) (*client.Monitor, error) {
	m := c.NewMonitor()
	m.Method = ovsdb.ConditionalMonitorRPC
	for name, table := range schema.Tables {
		t := client.TableMonitor{Table: name}
		for column := range table.Columns {
			t.Fields = append(t.Fields, column)
		}
		slices.Sort(t.Fields)
		m.Tables = append(m.Tables, t)
	}
	return m, errors.Join(m.Errors...)
}

// serve watches a session until it ends, and says why. It calls steady once the session has lasted.
func (s *Switch) serve(ctx context.Context, n *session, steady func()) error {
	echo, look, lasts := time.NewTicker(echoInterval), time.NewTicker(vswitchdInterval), time.NewTimer(steadyAfter)
	defer echo.Stop()
	defer look.Stop()
	defer lasts.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.New("closed")
		case <-lasts.C:
			steady()
		case <-n.lost:
			return errors.New("ovsdb-server closed the connection")
		case <-s.kick:
			s.look(ctx, n)
		case <-look.C:
			s.look(ctx, n)
		case <-echo.C:
			bounded, cancel := context.WithTimeout(ctx, waitLimit)
			err := n.client.Echo(bounded)
			cancel()
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("ovsdb-server does not answer: %w", err)
			}
		}
	}
}

// awaitLoss turns the client's notification, which is lost when nobody listens in that moment, into
// a closed channel.
func (n *session) awaitLoss() {
	defer close(n.lost)
	for {
		select {
		case <-n.client.DisconnectNotify():
			return
		case <-time.After(echoInterval):
			if n.client.CurrentEndpoint() == "" {
				return
			}
		}
	}
}

// close ends the session. The client's Close waits for transactions that are under way; these have
// their limit, but one that cannot even be sent to a stopped server has not, so the wait has one.
func (n *session) close() {
	go n.client.Close()
	select {
	case <-n.lost:
	case <-time.After(waitLimit):
	}
}

func (s *Switch) setSession(n *session, cause error) {
	s.mu.Lock()
	again := n == nil && s.session == nil // one more failed attempt is no news
	s.session, s.cause = n, cause
	s.mu.Unlock()
	if !again {
		s.news.note(nil, nil)
		s.announce(true)
	}
}

// announce wakes those who wait inside this package, and the user too if it concerns what is ours.
func (s *Switch) announce(ours bool) {
	s.mu.Lock()
	close(s.moved)
	s.moved = make(chan struct{})
	s.mu.Unlock()
	if ours {
		signal(s.changed)
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// await returns when is says true of the present state, having looked again after each change. Its
// limit is the context's or waitLimit.
func (s *Switch) await(ctx context.Context, is func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	for {
		s.mu.Lock()
		moved := s.moved
		s.mu.Unlock()
		if is() { // cheap: it is asked after each row that changes
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
