package testenv

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Consuls starts a cluster of n Consul servers, each ready for writes, and returns their HTTP addresses; they end with the test.
func Consuls(t testing.TB, n int) (addrs []string) {
	t.Helper()
	Real(t)
	binary, err := ConsulBinary()
	if err != nil {
		Missing(t, err.Error())
	}
	third, fourth := byte(1+rand.IntN(250)), byte(rand.IntN(256))
	var ips []string
	for i := range n {
		ips = append(ips, net.IPv4(127, third, fourth, byte(1+i)).String())
	}
	var procs []*Process
	for _, ip := range ips {
		dir, err := os.MkdirTemp("", "sp-consul-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		config := ConsulConfig{Dir: dir, IP: ip, HTTP: consulHTTP, Server: consulServer, Serf: consulSerf,
			Extra: map[string]any{"bootstrap_expect": n, "retry_join": ips, "retry_interval": "1s"}}
		if err := config.Write(); err != nil {
			t.Fatal(err)
		}
		p := NewProcess(filepath.Join(dir, "consul.log"), binary, "agent", "-config-file="+filepath.Join(dir, "consul.json"))
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Stop(5 * time.Second) })
		procs, addrs = append(procs, p), append(addrs, net.JoinHostPort(ip, strconv.Itoa(consulHTTP)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), consulReady)
	defer cancel()
	for i, addr := range addrs {
		if err := WaitConsul(ctx, http.DefaultClient, addr, procs[i]); err != nil {
			t.Fatal(err)
		}
	}
	return addrs
}
