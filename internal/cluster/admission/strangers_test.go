package admission_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
)

// TestScan: connections that say nothing, garbage or half of something have no effect, take bounded time, and hosts that
// ask meanwhile from elsewhere are served.
func TestScan(t *testing.T) {
	d := newDoor(t, false)
	before := d.members()
	hello := []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	var conns []net.Conn
	for i := range 120 {
		conn, err := net.Dial("tcp", d.addr.String())
		d.must(err)
		conns = append(conns, conn)
		switch i % 4 {
		case 1:
			_, _ = conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		case 2:
			_, _ = conn.Write(hello)
		case 3:
			_ = conn.Close()
		}
	}
	// Another host, from another address.
	k := newKeeper(t)
	elsewhere := dialedFrom(t, "127.0.0.2", d.addr)
	_, err := admission.Ask(d.ctx, k, elsewhere, admission.Question{Host: host(1), Trust: store.TrustLeaf})
	d.must(err)
	// Every connection is ended by the server.
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a silent connection stays: %v", err)
		}
		_ = conn.Close()
	}
	if got := d.members(); len(got) != len(before)+1 {
		t.Errorf("members %v", got)
	}
	if lines := strings.Count(d.log.String(), "\n"); lines > 20 {
		t.Errorf("120 connections wrote %d lines into the log", lines)
	}
	if !strings.Contains(d.log.String(), "peer=127.0.0.1") {
		t.Errorf("the log does not name the peer: %s", d.log.String())
	}
}

// TestNonsense: who has finished the handshake and then says nonsense is told so and has no effect.
func TestNonsense(t *testing.T) {
	d := newDoor(t, false)
	before := d.members()
	cert := newKeeper(t).Identity().Certificate()
	for _, body := range []string{"GET / HTTP/1.1\r\n\r\n", "[]\n", `{"version":1}` + "\n", `{"version":9,"host":{"id":"0123456789abcdef","name":"a","addr":"192.0.2.1","port":1}}` + "\n", strings.Repeat("[", 100000)} {
		conn, err := tls.Dial("tcp", d.addr.String(), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
		d.must(err)
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(conn, body)
		answer, _ := io.ReadAll(conn)
		_ = conn.Close()
		if len(body) < 1000 && !strings.Contains(string(answer), string(admission.CodeBadRequest)) || strings.Contains(string(answer), "gossip") {
			t.Errorf("%.40q is answered with %q", body, answer)
		}
	}
	// Without a certificate nobody is heard, with another kind of key neither.
	conn, err := tls.Dial("tcp", d.addr.String(), &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil {
		t.Error("a host without a key is heard")
	}
	if got := d.members(); len(got) != len(before) {
		t.Errorf("members %v", got)
	}
}

// tired is a listener that accepts nothing until it is closed.
type tired struct {
	net.Listener
	tries atomic.Int32
	ended chan struct{}
}

func (l *tired) Accept() (net.Conn, error) {
	select {
	case <-l.ended:
		return nil, net.ErrClosed
	default:
	}
	l.tries.Add(1)
	return nil, syscall.EMFILE
}

func (l *tired) Close() error {
	close(l.ended)
	return nil
}

// TestAcceptFailsAndFails: a failure that lasts is logged once.
func TestAcceptFailsAndFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l, log := &tired{ended: make(chan struct{})}, &safeBuffer{}
	done := make(chan error, 1)
	go func() {
		done <- admission.Serve(ctx, l, newKeeper(t), nil, admission.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	}()
	if err := testenv.Poll(ctx, time.Millisecond, func() bool { return l.tries.Load() > 4 }); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log)
	}
}
