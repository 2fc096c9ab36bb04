package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/consulproc"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
)

// hostVar names the configuration of a host, as which this test program then runs: a host's sockets must all be in its
// network namespace, and goroutines wander between threads.
const hostVar = "SOCKETPLANE_TEST_CLUSTER_HOST"

// formerVar names this test's program as a former commit built it (go test -c), for hosts that are to be upgraded. Without it this
// program plays the former agent.
const formerVar = "SOCKETPLANE_TEST_CLUSTER_FORMER"

func TestMain(m *testing.M) {
	if path := os.Getenv(hostVar); path != "" {
		if err := beHost(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Clusters form by waiting: more of them do so side by side than there are cores.
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(sideBySide)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// sideBySide is how many tests run at once.
const sideBySide = 4

// hostConfig is what a host is told.
type hostConfig struct {
	ID, Name string
	Addr     netip.Addr
	Dir      string
	Socket   string
	Consul   string
	Join     []string
	Locked   bool
	Grace    time.Duration
	// Former makes it a host of before members lost the keys that only servers hold.
	Former bool
}

// beHost is the host: a cluster.Cluster, and a socket to ask it.
func beHost(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var cfg hostConfig
	if err := json.Unmarshal(text, &cfg); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	opts := cluster.Options{
		Host: cfg.ID, Name: cfg.Name, Addr: cfg.Addr, Dev: "eth0", Port: 4780, Dir: cfg.Dir, File: filepath.Join(cfg.Dir, "alone.db"), Consul: cfg.Consul, Join: cfg.Join,
		Locked: cfg.Locked, Grace: cfg.Grace, Logger: log,
	}
	if cfg.Former {
		cluster.Former(&opts)
	}
	c, err := cluster.New(opts)
	if err != nil {
		return err
	}
	if err := c.Claim(ctx); err != nil { // as the agent does
		return err
	}
	if err := os.Remove(cfg.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", cfg.Socket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: control(c)}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	go func() { // as the agent does
		for ctx.Err() == nil {
			_ = c.KV().Announce(ctx, store.AliveKey(cfg.ID), []byte(cfg.ID), 10*time.Second)
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	return c.Run(ctx)
}

// control answers questions to a host.
func control(c *cluster.Cluster) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any, err error) {
		var refused *admission.Refused
		switch {
		case errors.Is(err, store.ErrUnavailable), errors.As(err, &refused) && refused.Code == admission.CodeNotNow:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		case err != nil:
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, c.Status(), nil) })
	mux.HandleFunc("/move", func(w http.ResponseWriter, r *http.Request) {
		addr, err := netip.ParseAddr(r.FormValue("addr"))
		if err == nil {
			c.Move(addr, "eth0")
		}
		answer(w, "", err)
	})
	mux.HandleFunc("/serve-for-a-moment", func(w http.ResponseWriter, _ *http.Request) { answer(w, "", c.ServeForAMoment()) })
	mux.HandleFunc("/init", func(w http.ResponseWriter, r *http.Request) { answer(w, "", c.Init(r.Context(), false)) })
	mux.HandleFunc("/leave", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "", c.Leave(r.Context(), r.FormValue("force") != ""))
	})
	mux.HandleFunc("/join", func(w http.ResponseWriter, r *http.Request) {
		var token *trust.Token
		if text := r.FormValue("token"); text != "" {
			t, err := trust.ParseToken(text)
			if err != nil {
				answer(w, "", err)
				return
			}
			token = &t
		}
		answer(w, "", c.Join(r.Context(), []string{r.FormValue("addr")}, token))
	})
	mux.HandleFunc("/put", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "", c.KV().Apply(r.Context(), store.Op{Kind: store.OpPut, Key: store.Root + "test/" + r.FormValue("key"), Value: []byte(r.FormValue("value"))}))
	})
	mux.HandleFunc("/schema", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "", c.KV().Apply(r.Context(), store.Op{Kind: store.OpPut, Key: store.SchemaKey, Value: []byte(r.FormValue("value"))}))
	})
	mux.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) {
		e, err := c.KV().Get(r.Context(), store.Root+"test/"+r.FormValue("key"))
		answer(w, string(e.Value), err)
	})
	mux.HandleFunc("/create", func(w http.ResponseWriter, r *http.Request) {
		_, err := store.NewCluster(c.KV(), r.FormValue("host")).Create(r.Context(), newNetwork(r.FormValue("name"), r.FormValue("subnet")))
		answer(w, "", err)
	})
	mux.HandleFunc("/networks", func(w http.ResponseWriter, r *http.Request) {
		networks, err := store.NewCluster(c.KV(), "x").Networks(r.Context())
		names := []string{}
		for _, n := range networks {
			names = append(names, n.Name)
		}
		slices.Sort(names)
		answer(w, strings.Join(names, " "), err)
	})
	mux.HandleFunc("/lock", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "", c.SetLocked(r.Context(), true))
	})
	mux.HandleFunc("/unlock", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "", c.SetLocked(r.Context(), false))
	})
	mux.HandleFunc("/remove", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "", c.Remove(r.Context(), r.FormValue("host")))
	})
	mux.HandleFunc("/remove-member", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "", store.NewCluster(c.KV(), "x").RemoveMember(r.Context(), r.FormValue("host")))
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		st := store.NewCluster(c.KV(), "x")
		keys, err := st.Keys(r.Context())
		if err != nil {
			answer(w, "", err)
			return
		}
		t, record, err := trust.NewToken(keys, time.Now().Add(time.Hour), 1)
		if err == nil {
			err = c.CreateToken(r.Context(), record)
		}
		answer(w, t.Text(), err)
	})
	return mux
}

// newNetwork is a network that a host makes for all.
func newNetwork(name, subnet string) store.NewNetwork {
	pool := netip.MustParsePrefix(subnet)
	return store.NewNetwork{Name: name, Pools: []netip.Prefix{pool}, Declaration: store.Declaration{Subnets: []store.Subnet{{CIDR: pool}}}}
}

// host is one host of a segment.
type host struct {
	s      *segment
	cfg    hostConfig
	space  string
	port   string // its end on the bridge
	env    []string
	proc   *testenv.Process
	client *http.Client
}

// host adds a host with the address 10.7.0.n.
func (s *segment) host() *host {
	s.t.Helper()
	n := len(s.hosts) + 1
	dir := s.t.TempDir()
	h := &host{s: s, space: fmt.Sprintf("%sh%d", s.name, n), port: fmt.Sprintf("p%d", n)}
	h.cfg = hostConfig{
		ID: store.NewNonce(), Name: fmt.Sprintf("h%d", n), Dir: filepath.Join(dir, "cluster"), Socket: filepath.Join(dir, "s"), Consul: s.consul, Grace: 4 * time.Second,
	}
	s.space(h.space)
	ip(s.t, "-n", s.name, "link", "add", h.port, "type", "veth", "peer", "name", "eth0", "netns", h.space)
	ip(s.t, "-n", s.name, "link", "set", h.port, "master", "br0", "up")
	ip(s.t, "-n", h.space, "link", "set", "eth0", "up")
	h.address(fmt.Sprintf("10.7.0.%d", n))
	h.client = &http.Client{Timeout: patience / 2, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", h.cfg.Socket)
		},
	}}
	s.t.Cleanup(func() {
		h.crash()
		if s.t.Failed() {
			s.t.Logf("%s %s:\n%s", h.cfg.Name, h.cfg.ID, testenv.TailFile(h.log(), 60))
		}
	})
	s.hosts = append(s.hosts, h)
	return h
}

// file is where it keeps networks while it is in no cluster.
func (h *host) file() string { return filepath.Join(h.cfg.Dir, "alone.db") }

// networks are the names of the networks that it sees, or why it sees none.
func (h *host) networks() string {
	var names string
	if err := h.ask("/networks", &names); err != nil {
		return err.Error()
	}
	return names
}

func (h *host) log() string { return filepath.Join(filepath.Dir(h.cfg.Dir), "log") }

// address gives the host another address.
func (h *host) address(addr string) {
	ip(h.s.t, "-n", h.space, "addr", "flush", "dev", "eth0")
	ip(h.s.t, "-n", h.space, "addr", "add", addr+"/24", "dev", "eth0")
	h.cfg.Addr = netip.MustParseAddr(addr)
}

// start starts the host's agent.
func (h *host) start() {
	h.s.t.Helper()
	path := filepath.Join(filepath.Dir(h.cfg.Dir), "config.json")
	text, err := json.Marshal(h.cfg)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		h.s.t.Fatal(err)
	}
	self := h.s.binary
	if h.cfg.Former {
		self = os.Getenv(formerVar)
	}
	if self == "" {
		if self, err = os.Executable(); err != nil {
			h.s.t.Fatal(err)
		}
	}
	h.proc = testenv.NewProcess(h.log(), "nsenter", "--net=/run/netns/"+h.space, self)
	h.proc.Env = append(append(os.Environ(), hostVar+"="+path), h.env...)
	if err := h.proc.Start(); err != nil {
		h.s.t.Fatal(err)
	}
}

// kill ends the agent alone.
func (h *host) kill() {
	if h.proc != nil {
		h.proc.Kill()
	}
}

// crash ends everything on the host at once.
func (h *host) crash() {
	h.kill()
	if err := consulproc.Kill(filepath.Join(h.cfg.Dir, "consul")); err != nil {
		h.s.t.Error(err)
	}
}

func (h *host) put(key, value string) error { return h.ask("/put?key="+key+"&value="+value, nil) }

func (h *host) get(key string) string {
	var value string
	if err := h.ask("/get?key="+key, &value); err != nil {
		return err.Error()
	}
	return value
}

// logged is the host's log.
func (h *host) logged() string {
	text, err := os.ReadFile(h.log())
	if err != nil {
		h.s.t.Fatal(err)
	}
	return string(text)
}
