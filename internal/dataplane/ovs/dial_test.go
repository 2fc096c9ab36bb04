package ovs_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSwitchThatDropsItsClients: a switch that takes OpenFlow connections and drops them a moment later is dialled seldom, and used as soon as
// a connection lasts.
func TestSwitchThatDropsItsClients(t *testing.T) {
	h := newHost(t)
	h.start()
	h.set(network("a", 1))
	path := filepath.Join(h.ovs.RunDir, bridge+".mgmt")
	behind := path + ".behind"
	h.agent.stop()
	if err := os.Rename(path, behind); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var dialled atomic.Int64
	var slam atomic.Bool
	slam.Store(true)
	var visitors sync.WaitGroup
	defer visitors.Wait()
	defer l.Close()
	visitors.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", behind)
			if err != nil {
				t.Error(err)
				return
			}
			end := sync.OnceFunc(func() {
				in.Close()
				out.Close()
			})
			dialled.Add(1)
			if slam.Load() {
				time.AfterFunc(100*time.Millisecond, end)
			}
			visitors.Go(func() { _, _ = io.Copy(out, in); end() })
			visitors.Go(func() { _, _ = io.Copy(in, out); end() })
		}
	})
	h.begin(network("a", 1))
	dialled.Store(0)
	const watched = 6 * time.Second
	<-time.After(watched)
	if n := dialled.Load(); n < 2 || n > 20 {
		t.Errorf("%d connections in %v", n, watched)
	}
	slam.Store(false)
	eventually(t, "it is used when a connection lasts", h.agent.Ready)
	h.agent.stop()
}
