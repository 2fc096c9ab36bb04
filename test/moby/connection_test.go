package moby

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/pkg/plugins"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/plugin"
)

// TestRestart: a dockerd that runs on finds the restarted plugin by its next call, without losing one.
func TestRestart(t *testing.T) {
	d := newDrivers()
	path := filepath.Join(t.TempDir(), "socketplane.sock")
	stop := serve(t, d, path, plugin.Options{})
	e := connect(t, path)
	stop()
	defer serve(t, d, path, plugin.Options{})()
	if err := e.network.DeleteNetwork("n1"); err != nil {
		t.Fatal(err)
	}
	if r := request[network.DeleteNetworkRequest](d, "DeleteNetwork"); r == nil || r.NetworkID != "n1" {
		t.Errorf("DeleteNetwork: %+v", r)
	}
}

// TestRetryWithoutBody: when its connection breaks, Docker's client repeats the call with the body gone. The driver must
// never see that, and the user gets to know what to do.
func TestRetryWithoutBody(t *testing.T) {
	d := newDrivers()
	dir := t.TempDir()
	defer serve(t, d, dir+"/socketplane.sock", plugin.Options{})()

	// Stands for a plugin that dies while it handles its first request, and is replaced by ours.
	dying, err := net.Listen("unix", dir+"/dying.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer dying.Close()
	bodies := make(chan int64, 1)
	go func() {
		conn, err := dying.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		defer close(bodies)
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		_, _ = req.Body.Read(make([]byte, 4096))
		_ = dying.Close() // removes its socket
		if err := os.Symlink(dir+"/socketplane.sock", dir+"/dying.sock"); err == nil {
			bodies <- req.ContentLength
		}
	}()
	client, err := plugins.NewClient("unix://"+dir+"/dying.sock", nil)
	if err != nil {
		t.Fatal(err)
	}
	err = client.Call("NetworkDriver.CreateNetwork", network.CreateNetworkRequest{NetworkID: "n1"}, nil)
	if err == nil || !strings.Contains(err.Error(), "repeat the docker command") {
		t.Errorf("got %v", err)
	}
	if n := <-bodies; n <= 0 {
		t.Errorf("the first request had %d bytes", n)
	}
	if r := request[network.CreateNetworkRequest](d, "CreateNetwork"); r != nil {
		t.Errorf("the driver saw %+v", r)
	}
}
