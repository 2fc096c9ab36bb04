package consul_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
)

// TestRedial: what waits on a connection from an address that the host has lost ends at once, and other connections stay.
func TestRedial(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "ip")
	const addr = "198.51.100.77"
	ip := func(what string) error {
		out, err := exec.Command("ip", "addr", what, addr+"/32", "dev", "lo").CombinedOutput()
		if err != nil {
			t.Logf("ip addr %s: %s", what, out)
		}
		return err
	}
	if err := ip("add"); err != nil {
		t.Fatal(err)
	}
	gone := false
	defer func() {
		if !gone {
			_ = ip("del")
		}
	}()
	lost, kept := silent(t, addr+":0"), silent(t, "127.0.0.1:0")
	stale, fine := watch(t, lost), watch(t, kept)
	if n, err := stale.store.Redial(); n != 0 || err != nil {
		t.Fatalf("with the address %d connections were closed, %v", n, err)
	}
	if err := ip("del"); err != nil {
		t.Fatal(err)
	}
	gone = true
	if n, err := stale.store.Redial(); n != 1 || err != nil {
		t.Fatalf("without the address %d connections were closed, %v", n, err)
	}
	if n, err := fine.store.Redial(); n != 0 || err != nil {
		t.Fatalf("of the loopback %d connections were closed, %v", n, err)
	}
	select {
	case err := <-stale.ended:
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("the watch ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("the watch still waits")
	}
	select {
	case err := <-fine.ended:
		t.Errorf("the other watch ended with %v", err)
	default:
	}
}

// watching is a store that waits for a server's answer.
type watching struct {
	store *consul.Store
	ended chan error
}

// silent serves HTTP and answers nothing; asked is signalled for each request.
type server struct {
	addr  string
	asked chan struct{}
}

func silent(t *testing.T, addr string) server {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := server{l.Addr().String(), make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	hs := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		s.asked <- struct{}{}
		<-ctx.Done()
	})}
	go func() { _ = hs.Serve(l) }()
	t.Cleanup(func() { cancel(); _ = hs.Close() })
	return s
}

func watch(t *testing.T, s server) watching {
	t.Helper()
	kv, err := consul.Open(consul.Options{Address: s.addr})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := watching{kv, make(chan error, 1)}
	go func() {
		_, _, err := kv.Watch(ctx, "a", 1)
		w.ended <- err
	}()
	t.Cleanup(func() { cancel(); _ = kv.Close() })
	select {
	case <-s.asked:
	case <-time.After(patience):
		t.Fatal("the server is not asked")
	}
	return w
}
