package addresses

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/proxy"
)

// Ports of the servers; they differ in their loopback address.
const (
	portHTTP = 18600
	portRPC  = 18610
	portSerf = 18611
)

// servers are a Consul cluster whose members can be killed.
type servers struct {
	t     *testing.T
	ips   []string
	procs []*testenv.Process
}

// newServers starts a cluster of n servers, ready for writes.
func newServers(t *testing.T, n int) *servers {
	binary, err := testenv.ConsulBinary()
	if err != nil {
		testenv.Missing(t, err.Error())
	}
	s := &servers{t: t}
	for i := range n {
		s.ips = append(s.ips, net.IPv4(127, byte(1+rand.IntN(250)), byte(rand.IntN(256)), byte(1+i)).String())
	}
	for _, ip := range s.ips {
		dir := t.TempDir()
		if err := (testenv.ConsulConfig{Dir: dir, IP: ip, HTTP: portHTTP, Server: portRPC, Serf: portSerf}).Write(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "consul.json")
		text, err := os.ReadFile(path)
		config := map[string]any{}
		if err == nil {
			err = json.Unmarshal(text, &config)
		}
		if err != nil {
			t.Fatal(err)
		}
		config["bootstrap_expect"], config["retry_join"], config["retry_interval"] = n, s.ips, "1s"
		text, _ = json.Marshal(config) // plain values
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		p := testenv.NewProcess(filepath.Join(dir, "log"), binary, "agent", "-config-file="+path)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Stop(5 * time.Second) })
		s.procs = append(s.procs, p)
	}
	s.ready()
	return s
}

// addr is the HTTP address of the nth server.
func (s *servers) addr(n int) string { return net.JoinHostPort(s.ips[n], strconv.Itoa(portHTTP)) }

// to opens connections to the nth server.
func (s *servers) to(n int) proxy.Dial {
	return func() (net.Conn, error) { return net.Dial("tcp", s.addr(n)) }
}

// ready waits until all servers accept a write.
func (s *servers) ready() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	for i := range s.procs {
		if err := testenv.WaitConsul(ctx, http.DefaultClient, s.addr(i), s.procs[i]); err != nil {
			s.t.Fatal(err)
		}
	}
}

// leader is the number of the server that leads.
func (s *servers) leader() (int, error) {
	for i := range s.procs {
		resp, err := http.Get("http://" + s.addr(i) + "/v1/status/leader")
		if err != nil {
			continue
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			continue
		}
		for j, ip := range s.ips {
			if strings.Contains(string(text), `"`+ip+":") {
				return j, nil
			}
		}
	}
	return 0, fmt.Errorf("no server knows the leader")
}

// killLeader kills the leading server, and sends clients to another one; afterwards it runs again.
func (s *servers) killLeader(p *proxy.Proxy, away time.Duration) {
	s.t.Helper()
	// On a busy machine servers elect another one now and then; meanwhile none leads.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var i int
	var err error
	if testenv.Poll(ctx, 50*time.Millisecond, func() bool { i, err = s.leader(); return err == nil }) != nil {
		s.t.Error(err)
		return
	}
	p.To(s.to((i + 1) % len(s.procs)))
	s.procs[i].Kill()
	p.Cut()
	<-time.After(away)
	if err := s.procs[i].Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ready()
}
