package cluster_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// secrets are what only servers may hold.
type secrets map[string]string

// credentials are those on the host's disk.
func (h *host) credentials() trust.Credentials {
	h.s.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.cfg.Dir, "credentials.json"))
	if err != nil {
		h.s.t.Fatal(err)
	}
	c, err := trust.ParseCredentials(text)
	if err != nil {
		h.s.t.Fatal(err)
	}
	return c
}

// secretsOf are those that a server of the cluster holds now.
func secretsOf(server *host) secrets {
	keys := server.credentials().Keys
	out := secrets{}
	for i, m := range keys.Management {
		out[fmt.Sprint("management token ", i)] = m.Reveal()
	}
	for i, ca := range keys.CAs {
		// A line from its middle: it looks the same in PEM, in JSON and in Raft's log.
		if lines := strings.Split(ca.Key.Reveal(), "\n"); len(lines) > 2 {
			out[fmt.Sprint("authority's key ", i)] = lines[1]
		}
	}
	if len(out) < 2 {
		server.s.t.Fatalf("%s, a server, holds %d secrets", server.cfg.Name, len(out))
	}
	return out
}

// onDisk are the names of the secrets that are in any file of the host.
func (h *host) onDisk(all secrets) (found []string) {
	h.s.t.Helper()
	err := filepath.WalkDir(h.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		for name, secret := range all {
			if bytes.Contains(text, []byte(secret)) {
				found = append(found, name+" in "+filepath.Base(path))
			}
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) { // files come and go while Consul runs
		h.s.t.Fatal(err)
	}
	return found
}

// inMemory are the names of the secrets that are in the memory of the host's agent or of its Consul.
func (h *host) inMemory(all secrets) (found []string) {
	h.s.t.Helper()
	pids := map[string]int{"agent": h.agentPid()}
	h.s.await("Consul of "+h.cfg.Name+" runs", patience, func() bool {
		pids["Consul"] = h.findConsul()
		return pids["Consul"] != 0
	})
	for what, pid := range pids {
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		if err != nil {
			h.s.t.Fatal(err)
		}
		mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		if err != nil {
			h.s.t.Fatal(err)
		}
		defer mem.Close()
		for line := range strings.Lines(string(maps)) {
			var from, to int64
			var mode string
			if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); n != 3 || !strings.HasPrefix(mode, "rw") || to-from > 1<<30 {
				continue
			}
			text := make([]byte, to-from)
			n, _ := mem.ReadAt(text, from) // guard pages can't be read
			for name, secret := range all {
				if bytes.Contains(text[:n], []byte(secret)) {
					found = append(found, name+" in "+what)
				}
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// consul is a client of the host's Consul with all that root on that host finds on its disk.
func (h *host) consulClient() *http.Client {
	h.s.t.Helper()
	dir := filepath.Join(h.cfg.Dir, "consul")
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		h.s.t.Fatal(err)
	}
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialFrom(ctx, h.space, network, addr)
		},
	}}
}

// dialFrom dials from a network namespace.
func dialFrom(ctx context.Context, space, network, addr string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		fd, openErr := unix.Open("/run/netns/"+space, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err = openErr; err != nil {
			return
		}
		defer unix.Close(fd)
		if err = unix.Setns(fd, unix.CLONE_NEWNET); err == nil {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	}()
	<-done
	return conn, err
}

// calls asks the host's Consul with its token, and returns the status of each answer.
func (h *host) calls(token, method, path, body string) (int, string) {
	h.s.t.Helper()
	req, err := http.NewRequest(method, "https://127.0.0.1:4783"+path, strings.NewReader(body))
	if err != nil {
		h.s.t.Fatal(err)
	}
	req.Header.Set("X-Consul-Token", token)
	resp, err := h.consulClient().Do(req)
	if err != nil {
		h.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// clientOf finds the members by role, as their records say.
func rolesOf(hosts ...*host) (servers, clients []*host) {
	st := hosts[0].status()
	for _, h := range hosts {
		for _, m := range st.Members {
			switch {
			case m.ID == h.cfg.ID && m.Role == store.RoleServer:
				servers = append(servers, h)
			case m.ID == h.cfg.ID:
				clients = append(clients, h)
			}
		}
	}
	return servers, clients
}

// TestKeysOfServers: a member whose Consul is no server has nothing with which it could be one, or change who is a member. It gets that when
// it becomes a server, and loses it when it is none any more; what it may do, servers do for it.
func TestKeysOfServers(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	hosts := []*host{s.host(), s.host(), s.host(), s.host()}
	for _, h := range hosts {
		h.start()
	}
	s.await("one cluster of three servers and a client", patience, func() bool { return formed(3, hosts...) })
	servers, clients := rolesOf(hosts...)
	client := clients[0]
	all := secretsOf(servers[0])

	if found := append(client.onDisk(all), client.inMemory(all)...); len(found) > 0 {
		t.Errorf("a client has %v", found)
	}
	if found := servers[0].inMemory(all); len(found) == 0 {
		t.Error("a server's memory has no secret: the search finds nothing")
	}
	client.leastRights(servers[0])
	client.must("/put?key=client&value=1")
	client.actsThroughServers(hosts)
	s.await("the keys are changed", patience, func() bool {
		return !slices.ContainsFunc(hosts, func(h *host) bool { st := h.status(); return st.Epoch < 4 || !st.Locked }) && formed(3, hosts...)
	})
	old := all
	all = secretsOf(servers[0])
	for name, secret := range old {
		if all[name] == secret {
			t.Errorf("the %s is the same after the cluster was locked", name)
		}
	}
	s.await("the old management token is worthless", patience, func() bool {
		code, _ := servers[0].calls(old["management token 0"], "GET", "/v1/acl/tokens", "")
		return code == http.StatusForbidden
	})

	lost := servers[0]
	if leader, _ := s.leader(); leader == lost {
		lost = servers[1]
	}
	lost.crash()
	rest := slices.DeleteFunc(slices.Clone(hosts), func(h *host) bool { return h == lost })
	s.await("the client takes a lost server's place", patience, func() bool { return voting(rest...) && client.status().Role == store.RoleServer })
	all = secretsOf(client)
	lost.start()
	s.await("the former server is a client", patience, func() bool {
		return formed(3, hosts...) && lost.status().Role == store.RoleClient && len(lost.onDisk(all)) == 0
	})
	lost.must("/put?key=again&value=1")
	lost.leastRights(client)
}

// leastRights demands that the host, with all that root finds on it, may do in Consul what a member needs and no more.
func (h *host) leastRights(other *host) {
	h.s.t.Helper()
	token := h.credentials().Token.Reveal()
	kv := "/v1/kv/" + store.Root
	for _, tc := range []struct {
		method, path, body string
		allowed            bool
	}{
		{"PUT", kv + "networks/x-test", "1", true},
		{"DELETE", kv + "networks/x-test", "", true},
		{"GET", kv + "members/?keys", "", true},
		{"GET", kv + "cluster/keys", "", true},
		{"PUT", kv + "hosts/" + h.cfg.ID + "/test", "1", true},
		{"DELETE", kv + "hosts/" + h.cfg.ID + "/test", "", true},
		{"PUT", kv + "hostheads/test", "1", true}, // each agent brings heads in order
		{"DELETE", kv + "hostheads/test", "", true},
		{"PUT", "/v1/session/create", `{"Node":"` + h.cfg.ID + `","TTL":"10s"}`, true},
		{"GET", "/v1/operator/raft/configuration", "", true},
		{"PUT", "/v1/session/create", `{"Node":"` + other.cfg.ID + `","TTL":"10s"}`, false},
		{"PUT", kv + "hosts/" + other.cfg.ID, "1", false},
		{"PUT", kv + "members/" + h.cfg.ID, "1", false},
		{"DELETE", kv + "members/" + other.cfg.ID, "", false},
		{"DELETE", kv + "?recurse", "", false},
		{"PUT", kv + "cluster/keys", "1", false},
		{"PUT", kv + "cluster/tokens/x", "1", false},
		{"GET", kv + "cluster/private", "", false},
		{"PUT", "/v1/kv/elsewhere", "1", false},
		{"GET", "/v1/acl/tokens", "", false},
		{"GET", "/v1/acl/policies", "", false},
		{"GET", "/v1/operator/keyring", "", false},
		{"PUT", "/v1/operator/keyring", `{"Key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`, false},
		{"DELETE", "/v1/operator/raft/peer?id=x", "", false},
		{"GET", "/v1/snapshot", "", false},
		{"PUT", "/v1/catalog/register", `{"Node":"` + other.cfg.ID + `","Address":"192.0.2.1"}`, false},
		{"PUT", "/v1/event/fire/x", "", false},
		{"POST", "/v1/query", `{"Name":"x","Service":{"Service":"x"}}`, false},
	} {
		code, text := h.calls(token, tc.method, tc.path, tc.body)
		// The server cuts off who asks for a snapshot in vain, sometimes before the refusal was read.
		refused := code == http.StatusForbidden || tc.path == "/v1/snapshot" && code == http.StatusInternalServerError
		if (code == http.StatusOK) != tc.allowed || !tc.allowed && !refused {
			h.s.t.Errorf("%s %s: %d %.200s, allowed should be %v", tc.method, tc.path, code, text, tc.allowed)
		}
	}
	if _, text := h.calls(token, "GET", kv+"?recurse", ""); strings.Contains(text, "cluster/private") || !strings.Contains(text, "cluster/keys") {
		h.s.t.Errorf("the list of all records: %.200s", text)
	}
}

// actsThroughServers does on a client what changes records that only servers may change.
func (h *host) actsThroughServers(hosts []*host) {
	h.s.t.Helper()
	h.must("/lock")
	var token string
	if err := h.insist("/token", &token); err != nil {
		h.s.t.Fatal(err)
	}
	late := h.s.host()
	late.start()
	h.s.await("who has no token is refused", patience, func() bool { return strings.Contains(late.status().Trouble, "locked") })
	if err := h.insist("/remove?host="+hosts[0].cfg.ID, nil); err == nil || !strings.Contains(err.Error(), "is up") {
		h.s.t.Errorf("a host that is up is removed: %v", err)
	}
	late.kill()
	h.s.hosts = h.s.hosts[:len(h.s.hosts)-1]
}
