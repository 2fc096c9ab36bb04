package tally

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// Consul counts requests of its HTTP API by kind, such as "list index" or "transaction": their number under that name, and the answers'
// "KIND: keys" and "KIND: bytes". A kind names the first part of the key after root, such as "socketplane/v1/".
func Consul(t testing.TB, l net.Listener, to Dial, root string) *Counter {
	return serve(t, l, to, func(r *http.Request) string { return consulKind(r, root) }, consulKeys)
}

// HTTP counts requests by method and path, with "KIND: bytes" of their answers; a version before the path ("/v1.41") is left out. Answers
// without an end, such as Docker's events, are counted when they end.
func HTTP(t testing.TB, l net.Listener, to Dial) *Counter {
	return serve(t, l, to, func(r *http.Request) string {
		path := r.URL.Path
		if rest, versioned := strings.CutPrefix(path, "/v1."); versioned {
			_, path, _ = strings.Cut(rest, "/")
			path = "/" + path
		}
		return r.Method + " " + path
	}, nil)
}

func serve(t testing.TB, l net.Listener, to Dial, kind func(*http.Request) string, keys func(*http.Request, []byte) int64) *Counter {
	c := &Counter{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "server"})
	// Bytes are those of the answers' text, as it would be without compression: less depends on what is in it.
	direct := proxy.Director
	proxy.Director = func(r *http.Request) { direct(r); r.Header.Set("Accept-Encoding", "identity") }
	proxy.Transport = &http.Transport{
		MaxIdleConnsPerHost: 64,
		DisableCompression:  true,
		DialContext:         func(context.Context, string, string) (net.Conn, error) { return to() },
	}
	proxy.ErrorLog = log.New(io.Discard, "", 0) // clients that go in the middle of a blocking query
	proxy.FlushInterval = -1
	proxy.ModifyResponse = func(resp *http.Response) error {
		name := kind(resp.Request)
		c.add(name, 1)
		if keys == nil {
			resp.Body = &sized{resp.Body, func(n int64) { c.add(name+": bytes", n) }}
			return nil
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		c.add(name+": bytes", int64(len(body)))
		c.add(name+": keys", keys(resp.Request, body))
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return nil
	}
	server := &http.Server{Handler: proxy, ErrorLog: proxy.ErrorLog}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // its end is the test's
	t.Cleanup(func() { _ = server.Close(); <-done })
	return c
}

// sized counts what is read of a body.
type sized struct {
	io.ReadCloser
	add func(n int64)
}

// Read implements io.Reader.
func (s *sized) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	s.add(int64(n))
	return n, err
}

func consulKind(r *http.Request, root string) string {
	const kv = "/v1/kv/"
	path, query := r.URL.Path, r.URL.Query()
	switch {
	case path == "/v1/txn":
		return "transaction"
	case !strings.HasPrefix(path, kv):
		first, _, _ := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/")
		return first
	case r.Method != http.MethodGet:
		return "write"
	}
	where, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(path, kv), root), "/")
	verb := "get "
	if query.Has("recurse") || query.Has("keys") {
		verb = "list "
	}
	return verb + where
}

// consulKeys counts the entries of an answer: reads of keys are lists, transactions have a list of results.
func consulKeys(r *http.Request, body []byte) int64 {
	switch {
	case r.URL.Path == "/v1/txn":
		var answer struct {
			Results []struct{ KV json.RawMessage }
		}
		_ = json.Unmarshal(body, &answer) // what is no such answer has no keys
		return int64(len(answer.Results))
	case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/kv/"):
		var entries []json.RawMessage
		_ = json.Unmarshal(body, &entries)
		return int64(len(entries))
	}
	return 0
}
