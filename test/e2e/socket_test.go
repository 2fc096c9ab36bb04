package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

// socket speaks Docker's protocol to the agent of a host, without Docker.
type socket struct{ client *http.Client }

func newSocket(h *lab.Host) *socket {
	path := filepath.Join(h.Dir, "run/docker/plugins/socketplane.sock")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &socket{&http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 16}}}
}

// post sends a body to a method and gives the status and the answer.
func (s *socket) post(ctx context.Context, method string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+method, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// object is a JSON object.
type object map[string]any

// call calls a method as Docker does.
func (s *socket) call(ctx context.Context, method string, args object) (object, error) {
	body, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	status, text, err := s.post(ctx, method, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	var answer object
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("%s answers %d %q: %w", method, status, text, err)
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("%s: %d: %v", method, status, answer["Err"])
	}
	return answer, nil
}

var methodsWithRequest = []string{
	"NetworkDriver.CreateNetwork", "NetworkDriver.DeleteNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.DeleteEndpoint",
	"NetworkDriver.EndpointOperInfo", "NetworkDriver.Join", "NetworkDriver.Leave", "NetworkDriver.AllocateNetwork", "NetworkDriver.FreeNetwork",
	"IpamDriver.RequestPool", "IpamDriver.ReleasePool", "IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress",
}

// TestBadRequests: nothing that comes through the plugin's socket changes anything that it should not, or ends the agent.
func TestBadRequests(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 3*time.Minute)
	all := w.members(ctx, t)
	h := w.Hosts[0]
	s := newSocket(h)
	before, err := w.settled(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pid := h.AgentPid()
	long, slashes := strings.Repeat("x", 300), "../../networks/"
	bodies := map[string]string{
		"empty": "", "cut": `{"NetworkID":"a`, "list": "[]", "text": `"text"`, "number": "5", "binary": "\x00\xff\xfe",
		"two": `{}{}`, "wrong_types": `{"NetworkID":5,"EndpointID":[],"PoolID":{},"Pool":7,"Address":false,"Interface":"x","IPv4Data":"y","Options":3}`,
		"deep": strings.Repeat("[", 200_000), "megabytes": `{"NetworkID":"` + strings.Repeat("y", 16<<20) + `"}`, "nothing": `{}`, "null": `null`,
	}
	for _, id := range []string{long, slashes, "a/b", "\u0000", "", " ", "ü", "unknown"} {
		body, err := json.Marshal(object{
			"NetworkID": id, "EndpointID": id, "PoolID": id, "Address": "10.60.0.77", "SandboxKey": "/x",
			"Interface": object{"Address": "10.60.0.77/24", "MacAddress": "02:00:00:00:00:01"}, "Pool": id,
			"IPv4Data": []object{{"AddressSpace": id, "Pool": "10.72.0.0/24", "Gateway": id}},
		})
		if err != nil {
			t.Fatal(err)
		}
		bodies["id_"+strconv.Itoa(len(id))+"_"+fmt.Sprintf("%.4q", id)] = string(body)
	}
	for name, body := range bodies {
		for _, method := range methodsWithRequest {
			if method == "IpamDriver.RequestPool" && (name == "nothing" || name == `id_0_""`) {
				continue // So Docker asks for any subnet.
			}
			status, answer, err := s.post(ctx, method, []byte(body))
			if err != nil && name != "megabytes" { // A body may be refused before it is read to its end.
				t.Errorf("%s with %s: %v", method, name, err)
				continue
			}
			if err == nil {
				checkAnswer(t, method, name, status, answer)
			}
		}
	}
	for _, path := range []string{"NetworkDriver.Nonsense", "", "../etc/passwd", "IpamDriver.", long} {
		if status, _, err := s.post(ctx, path, []byte("{}")); err != nil || status != http.StatusNotFound {
			t.Errorf("unknown method %.30q: status %d, %v", path, status, err)
		}
	}
	if h.AgentPid() != pid || !h.AgentRunning() {
		t.Fatalf("the agent ended: %s", h.LogTail("agent", 30))
	}
	if err := w.sameAs(ctx, before); err != nil {
		t.Error(err)
	}
	all[0].reachable(ctx, t, all[1].addr)
}

// checkAnswer demands an error that both of Docker's sides can read, or success where there was nothing to do.
func checkAnswer(t *testing.T, method, name string, status int, answer []byte) {
	t.Helper()
	var got struct{ Err, Error string }
	if err := json.Unmarshal(answer, &got); err != nil {
		t.Errorf("%s with %s answers %d %.100q", method, name, status, answer)
		return
	}
	verb := method[strings.IndexByte(method, '.')+1:]
	ending := strings.HasPrefix(verb, "Delete") || strings.HasPrefix(verb, "Leave") || strings.HasPrefix(verb, "Release") || strings.HasPrefix(verb, "Free")
	switch {
	case status != http.StatusOK && (got.Err == "" || got.Error == ""):
		t.Errorf("%s with %s: status %d without a reason: %.100q", method, name, status, answer)
	case status == http.StatusOK && !ending && verb != "AllocateNetwork":
		t.Errorf("%s with %s succeeds: %.100q", method, name, answer)
	}
}

// Limits of the agent's memory: the figures that are promised.
const (
	manyEndpoints = 1000
	manyNetworks  = 3
	memoryLimit   = 60 << 20
	// manyLimit is for a busy machine: 600 endpoints took one minute on two shared cores, more of them take more each.
	manyLimit = 15 * time.Minute
)

// load is what a test has put on a host through its plugin's socket.
type load struct {
	s      *socket
	prefix string
	space  any

	mu        sync.Mutex
	networks  []object // NetworkID and PoolID
	endpoints []object // NetworkID, EndpointID, PoolID and Address
}

// TestManyEndpoints: an agent with 1,000 endpoints on 3 networks stays small, and so does one that must know of them.
func TestManyEndpoints(t *testing.T) {
	w := need(t)
	if w.slow {
		t.Skip("1,000 endpoints take too long on an emulated machine")
	}
	if testing.Short() {
		t.Skip("1,000 endpoints take minutes")
	}
	ctx := deadline(t, manyLimit)
	before, err := w.settled(ctx)
	if err != nil {
		t.Fatal(err)
	}
	many, few := &load{s: newSocket(w.Hosts[0]), prefix: "many"}, &load{s: newSocket(w.Hosts[1]), prefix: "few"}
	for _, l := range []*load{many, few} {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), manyLimit/2)
			defer cancel()
			if err := l.remove(ctx); err != nil {
				t.Errorf("clean up: %v", err)
			}
		})
		if err := l.create(ctx, manyNetworks); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := few.add(ctx, manyNetworks); err != nil {
		t.Fatal(err)
	}
	if err := many.add(ctx, manyEndpoints); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d endpoints in %v", manyEndpoints, time.Since(began).Round(time.Millisecond))
	for _, h := range w.Hosts[:2] {
		rss, err := residentBytes(h.AgentPid())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("the agent of %s has %.1f MiB", h.Name, float64(rss)/(1<<20))
		if rss > memoryLimit {
			t.Errorf("the agent of %s has %d bytes, more than %d", h.Name, rss, memoryLimit)
		}
	}
	began = time.Now()
	if err := many.remove(ctx); err != nil {
		t.Fatal(err)
	}
	if err := few.remove(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("removed in %v", time.Since(began).Round(time.Millisecond))
	if err := w.sameAs(ctx, before); err != nil {
		t.Error(err)
	}
}

func (l *load) create(ctx context.Context, count int) error {
	spaces, err := l.s.call(ctx, "IpamDriver.GetDefaultAddressSpaces", nil)
	if err != nil {
		return err
	}
	l.space = spaces["LocalDefaultAddressSpace"]
	for i := range count {
		pool, err := l.s.call(ctx, "IpamDriver.RequestPool", object{"AddressSpace": l.space, "Pool": fmt.Sprintf("10.%d.0.0/20", 80+i)})
		if err != nil {
			return err
		}
		n := object{"NetworkID": fmt.Sprintf("%s%060d", l.prefix, i), "PoolID": pool["PoolID"]}
		l.networks = append(l.networks, n)
		gateway, err := l.s.call(ctx, "IpamDriver.RequestAddress", object{
			"PoolID": pool["PoolID"], "Options": object{"RequestAddressType": "com.docker.network.gateway"},
		})
		if err != nil {
			return err
		}
		_, err = l.s.call(ctx, "NetworkDriver.CreateNetwork", object{
			"NetworkID": n["NetworkID"], "Options": object{},
			"IPv4Data": []object{{"AddressSpace": l.space, "Pool": pool["Pool"], "Gateway": gateway["Address"]}},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// add makes endpoints, spread over the networks, a few at a time as Docker does.
func (l *load) add(ctx context.Context, count int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range count {
		g.Go(func() error { return l.addOne(ctx, i) })
	}
	return g.Wait()
}

func (l *load) addOne(ctx context.Context, i int) error {
	n := l.networks[i%len(l.networks)]
	mac := fmt.Sprintf("02:%02x:00:00:%02x:%02x", l.prefix[0], i>>8, i&0xff)
	addr, err := l.s.call(ctx, "IpamDriver.RequestAddress", object{
		"PoolID": n["PoolID"], "Options": object{"com.docker.network.endpoint.macaddress": mac},
	})
	if err != nil {
		return err
	}
	text, _ := addr["Address"].(string)
	bare, _, _ := strings.Cut(text, "/")
	ids := object{"NetworkID": n["NetworkID"], "EndpointID": fmt.Sprintf("%s%060d", l.prefix, i)}
	l.mu.Lock()
	l.endpoints = append(l.endpoints, object{"NetworkID": ids["NetworkID"], "EndpointID": ids["EndpointID"], "PoolID": n["PoolID"], "Address": bare})
	l.mu.Unlock()
	create := object{"Interface": object{"Address": text, "MacAddress": mac}, "Options": object{}}
	for k, v := range ids {
		create[k] = v
	}
	if _, err := l.s.call(ctx, "NetworkDriver.CreateEndpoint", create); err != nil {
		return err
	}
	join := object{"SandboxKey": "/var/run/docker/netns/none", "Options": object{}}
	for k, v := range ids {
		join[k] = v
	}
	_, err = l.s.call(ctx, "NetworkDriver.Join", join)
	return err
}

// remove removes all in Docker's order. It can be repeated.
func (l *load) remove(ctx context.Context) error {
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, e := range l.endpoints {
		g.Go(func() error {
			for _, method := range []string{"NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint", "IpamDriver.ReleaseAddress"} {
				if _, err := l.s.call(groupCtx, method, e); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	l.endpoints = nil
	for _, n := range l.networks {
		for _, method := range []string{"IpamDriver.ReleasePool", "NetworkDriver.DeleteNetwork"} {
			if _, err := l.s.call(ctx, method, n); err != nil {
				return err
			}
		}
	}
	l.networks = nil
	return nil
}

// residentBytes is the memory that a process has now (proc(5), VmRSS).
func residentBytes(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, fmt.Errorf("process %d has no memory", pid)
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10, err
}
