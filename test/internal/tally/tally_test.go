package tally_test

import (
	"encoding/binary"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/test/internal/tally"
)

// echo answers each connection with what it reads.
func echo(t *testing.T) (l net.Listener, to tally.Dial) {
	t.Helper()
	server := listen(t)
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	return listen(t), func() (net.Conn, error) { return net.Dial("unix", server.Addr().String()) }
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// pass sends parts through a proxy to an echo, and waits until all have come back.
func pass(t *testing.T, l net.Listener, parts ...string) {
	t.Helper()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all := strings.Join(parts, "")
	for _, p := range parts {
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
	back := make([]byte, len(all))
	if _, err := io.ReadFull(c, back); err != nil || string(back) != all {
		t.Fatalf("%v: the proxy changed %q to %q", err, all, back)
	}
}

func message(kind byte, body ...byte) string {
	b := binary.BigEndian.AppendUint16([]byte{5, kind}, uint16(8+len(body)))
	return string(append(append(b, 0, 0, 0, 1), body...))
}

func TestOpenFlow(t *testing.T) {
	l, to := echo(t)
	c := tally.OpenFlow(t, l, to)
	bundled := message(34, append(make([]byte, 8), message(14)...)...)
	whole := message(14) + bundled + message(15) + message(18, 0, 1) + message(18, 0, 2) + message(18, 0xff, 0xff) + message(19, 0, 1, 9) + message(20)
	pass(t, l, whole[:3], whole[3:30], whole[30:])
	want := tally.Counts{"flow-mods": 2, "group-mods": 1, "flow dumps": 1, "flow counts": 1, "flow monitors": 1, "barriers": 1, "flow dumps: bytes": 11}
	if got := c.Counts(); !maps.Equal(got, want) {
		t.Errorf("counted\n%swant\n%s", got, want)
	}
	pass(t, l, "\x00\x00\x00\x00 is no OpenFlow")
}

func TestOVSDB(t *testing.T) {
	l, to := echo(t)
	c := tally.OVSDB(t, l, to)
	update := `{"method":"update3","params":[1],"id":null}`
	pass(t, l, `{"id":1,"method":"transact","params":["Open_vSwitch",{"op":"wait"},{"op":"ins`, `ert"}]}`,
		`{"method":"monitor_cond","params":[]}`, update)
	pass(t, l, "no JSON")
	want := tally.Counts{"transactions": 1, "operations": 2, "writes": 1, "monitors": 1, "updates": 1, "update bytes": int64(len(update))}
	// The streams are read beside what is forwarded.
	for t.Context().Err() == nil && !maps.Equal(c.Counts(), want) {
		pass(t, l, " ")
	}
}

func TestConsul(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/txn":
			_, _ = io.WriteString(w, `{"Results":[{"KV":{}},{"KV":{}}]}`)
		case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/kv/"):
			_, _ = io.WriteString(w, `[{},{},{}]`)
		default:
			_, _ = io.WriteString(w, `true`)
		}
	}))
	defer server.Close()
	l := listen(t)
	c := tally.Consul(t, l, func() (net.Conn, error) { return net.Dial("tcp", server.Listener.Addr().String()) }, "root/")
	client := &http.Client{Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) { return net.Dial("unix", l.Addr().String()) }}}
	defer client.CloseIdleConnections()
	for _, r := range []struct{ method, path string }{
		{"GET", "/v1/kv/root/index/n?recurse="}, {"GET", "/v1/kv/root/endpoints/n/h"}, {"PUT", "/v1/txn"}, {"PUT", "/v1/session/renew/x"}, {"PUT", "/v1/kv/root/a"},
	} {
		req, err := http.NewRequest(r.method, "http://consul"+r.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	got := c.Counts()
	want := tally.Counts{"list index": 1, "list index: keys": 3, "list index: bytes": 10, "get endpoints": 1, "get endpoints: keys": 3, "get endpoints: bytes": 10,
		"transaction": 1, "transaction: keys": 2, "transaction: bytes": 33, "session": 1, "session: keys": 0, "session: bytes": 4, "write": 1, "write: keys": 0, "write: bytes": 4}
	if !maps.Equal(got, want) {
		t.Errorf("counted\n%swant\n%s", got, want)
	}
	if got := got.Sum("", ": keys"); got != 8 {
		t.Errorf("%d keys in all", got)
	}
}
