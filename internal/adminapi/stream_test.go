package adminapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// lister is an agent with many endpoints, of which each fails that is not 0 is an error.
type lister struct {
	agent
	adminapi.Operator
	endpoints, fails int
}

func (l *lister) Info(ctx context.Context) (adminapi.Info, error) { return l.agent.Info(ctx) }

func (l *lister) Endpoints(_ context.Context, network string, each func(adminapi.Endpoint) error) error {
	for i := range l.endpoints {
		if l.fails != 0 && i == l.fails-1 {
			return errors.New("the store went away")
		}
		if err := each(endpoint(i, network)); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) Inspect(ctx context.Context, network string, each func(adminapi.Endpoint) error) (adminapi.NetworkDetail, error) {
	return adminapi.NetworkDetail{ID: "5c0d1c2e3f4a5b6c7d8e", Name: network, Endpoints: l.endpoints}, l.Endpoints(ctx, network, each)
}

func endpoint(i int, network string) adminapi.Endpoint {
	return adminapi.Endpoint{
		ID: fmt.Sprintf("%064d", i), Network: network, NetworkID: "5c0d1c2e3f4a5b6c7d8e", Host: fmt.Sprint("host", i/100), HostID: fmt.Sprintf("%032d", i/100),
		MAC: "02:42:0a:01:00:02", Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i / 256), byte(i)})}, Container: fmt.Sprintf("shop-web-%06d", i),
		ContainerID: fmt.Sprintf("%064d", i), Labels: map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
	}
}

// TestLongLists: a hundred thousand endpoints arrive, whole and in order, though they are more than an answer may have.
func TestLongLists(t *testing.T) {
	const many = 100_000
	path, _ := serve(t, &lister{endpoints: many})
	got, err := adminapi.NewClient(path).EndpointsOn(t.Context(), "a b&c")
	if err != nil || len(got) != many {
		t.Fatalf("%d endpoints, %v", len(got), err)
	}
	for i, e := range got {
		if e.ID != fmt.Sprintf("%064d", i) || e.Network != "a b&c" {
			t.Fatalf("endpoint %d is %s of %s", i, e.ID, e.Network)
		}
	}
}

// TestInspect: a network comes behind its endpoints; an agent of before, which knows no such answer, is asked twice.
func TestInspect(t *testing.T) {
	for _, many := range []int{0, 3} {
		path, _ := serve(t, &lister{endpoints: many})
		n, all, err := adminapi.NewClient(path).Inspect(t.Context(), "web")
		if err != nil || n.Name != "web" || n.Endpoints != many || len(all) != many {
			t.Errorf("the network is %+v with %d endpoints, %v", n, len(all), err)
		}
	}
	path, _ := serve(t, &lister{endpoints: 3, fails: 2})
	if _, _, err := adminapi.NewClient(path).Inspect(t.Context(), "web"); err == nil || err.Error() != "the agent answered: the store went away" {
		t.Errorf("a list that breaks: %v", err)
	}
	former := http.NewServeMux()
	former.HandleFunc("/v1/networks/web", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"id":"n1","name":"web"}`)) })
	former.HandleFunc("/v1/endpoints", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"schema":1,"endpoints":[{"id":"a","network_id":"n1"},{"id":"b","network_id":"n2"}]}`))
	})
	n, all, err := adminapi.NewClient(serveHTTP(t, former)).Inspect(t.Context(), "web")
	if err != nil || n.ID != "n1" || len(all) != 1 || all[0].ID != "a" {
		t.Errorf("a former agent's network is %+v with %v, %v", n, all, err)
	}
}

// TestListsAreNotKept: the agent's side of a list does not grow with its length.
func TestListsAreNotKept(t *testing.T) {
	const many = 100_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w := &discard{}
	adminapi.Handler(&lister{endpoints: many}).ServeHTTP(w, httptest.NewRequest("GET", "/v1/endpoints", nil))
	peak := w.peak
	runtime.GC()
	runtime.ReadMemStats(&after)
	if w.bytes < 16<<20 {
		t.Errorf("the list has %d bytes only", w.bytes)
	}
	if most := int64(before.HeapInuse) + 8<<20; peak > most {
		t.Errorf("a list of %d bytes took %d bytes of memory", w.bytes, peak-int64(before.HeapInuse))
	}
}

// discard is a reader of an answer that keeps nothing, and looks now and then how much memory is in use.
type discard struct {
	bytes, writes int
	peak          int64
}

func (*discard) Header() http.Header { return http.Header{} }
func (*discard) WriteHeader(int)     {}
func (d *discard) Write(p []byte) (int, error) {
	d.bytes += len(p)
	if d.writes++; d.writes%20_000 == 0 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		d.peak = max(d.peak, int64(m.HeapInuse))
	}
	return len(p), nil
}

// TestBrokenLists: an error before the first item is an answer of its own, one after it is told with the list, and a connection that breaks is no whole list.
func TestBrokenLists(t *testing.T) {
	for fails, want := range map[int]string{1: "the agent answered: the store went away", 3: "the agent answered: the store went away"} {
		path, _ := serve(t, &lister{endpoints: 5, fails: fails})
		all, err := adminapi.NewClient(path).Endpoints(t.Context())
		if err == nil || err.Error() != want || len(all) != fails-1 {
			t.Errorf("failing at item %d: %d items, %v", fails, len(all), err)
		}
	}
	path, _ := serve(t, &lister{})
	if all, err := adminapi.NewClient(path).Endpoints(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("an empty list: %v, %v", all, err)
	}
	for name, c := range map[string]struct {
		answer string
		broken bool // the connection
	}{
		"cut": {`{"schema":1,"endpoints":[{"id":"a"},`, true}, "cut in an item": {`{"schema":1,"endpoints":[{"id":`, true}, "another answer": {`{"schema":1}`, false},
		"no JSON": {`<html>`, false}, "an object for the list": {`{"endpoints":{}}`, false}, "a number": {`7`, false},
	} {
		_, err := adminapi.NewClient(serveText(t, c.answer)).Endpoints(t.Context())
		if err == nil || errors.Is(err, adminapi.ErrUnreachable) != c.broken {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, err := adminapi.NewClient(serveText(t, `{"later":{"a":[1]},"endpoints":[{"id":"a","later":1}],"more":2}`)).Endpoints(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("a later agent's answer: %v, %v", all, err)
	}
}

// serveText answers everything with a text.
func serveText(t *testing.T, text string) (path string) {
	t.Helper()
	return serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }))
}

// serveHTTP answers by a handler.
func serveHTTP(t *testing.T, h http.Handler) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return path
}

// TestListsAreJSON: programs read the lists of the socket as one value.
func TestListsAreJSON(t *testing.T) {
	for _, l := range []*lister{{}, {endpoints: 3}, {endpoints: 3, fails: 2}} {
		w := httptest.NewRecorder()
		adminapi.Handler(l).ServeHTTP(w, httptest.NewRequest("GET", "/v1/endpoints", nil))
		var got struct {
			Schema    int
			Endpoints []adminapi.Endpoint
			Error     string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Schema != adminapi.Schema || got.Endpoints == nil || (got.Error != "") != (l.fails != 0) {
			t.Errorf("%s: %v", strings.TrimSpace(w.Body.String()), err)
		}
	}
}
