package onehost

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/test/internal/bare"
)

// planted begins every secret of the test.
const planted = "planted-secret"

// TestSupport: the bundle has what a bug report needs, and no secret: neither of a setting, nor a label's value.
func TestSupport(t *testing.T) {
	h := newHost(t)
	tokens := filepath.Join(h.Dir, "token")
	if err := os.WriteFile(tokens, []byte(planted+"-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.env = append(h.env, "CONSUL_HTTP_AUTH="+planted+"-user:"+planted+"-password")
	secret := 0
	for _, s := range config.Settings() {
		if s.Value(config.Defaults()) != "***" {
			continue
		}
		secret++
		for _, name := range s.Env {
			h.env = append(h.env, name+"="+planted+"-"+name)
		}
	}
	if secret == 0 {
		t.Fatal("no setting is a secret, so this test proves nothing")
	}
	h.start()
	ctx := h.Deadline(patience)
	n, err := h.Docker().Network(ctx, id("net", 1), "10.1.0.0/24", "")
	if err != nil {
		t.Fatal(err)
	}
	e, err := n.Join(ctx, id("ep", 1), mac(1))
	if err != nil {
		t.Fatal(err)
	}
	// What an operator types by mistake ends in the log.
	_, _ = h.Docker().Call(ctx, "NetworkDriver.Join", object{"NetworkID": planted + "-SOCKETPLANE_CONSUL_TOKEN", "EndpointID": "x"})
	binary, err := bare.Binary()
	if err != nil {
		t.Fatal(err)
	}
	out := h.Path("bundle.tar.gz")
	told := h.Run(binary, "support", "--admin-socket", h.Path("admin.sock"), "-o", out)
	if !strings.HasPrefix(told, out+"\n") {
		t.Errorf("the command says %q", told)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v %v", info, err)
	}
	files := unpack(t, out)
	for name, part := range map[string]string{
		"versions.txt": "Open vSwitch", "settings.txt": "SOCKETPLANE_CONSUL_TOKEN=***", "info.json": `"name": "one"`,
		"doctor.json": `"name": "Open vSwitch"`, "networks.json": "10.1.0.0/24", "log.txt": "agent is up", "metrics.txt": "socketplane_ready 1",
		"goroutines.txt": "internal/agent", "ovs-bridge.json": bare.Bridge, "ovs-ports.json": e.ID, "ovs-flows.txt": "table=",
		"links.json": e.ID, "forwarding.json": "{}", "records-local.txt": e.ID, "records-cluster.txt": "10.1.0.0/24",
	} {
		if !strings.Contains(files[name], part) || strings.Contains(files[name], "can't be told") {
			t.Errorf("%s does not have %q: %.300s", name, part, files[name])
		}
		delete(files, name)
	}
	for name := range files {
		t.Errorf("there is %s too, of which this test knows nothing", name)
	}
	for name, text := range unpack(t, out) {
		if i := strings.Index(text, planted); i >= 0 {
			t.Errorf("%s has a secret: %.60q", name, text[i:])
		}
	}
}

func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zip); ; {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(head.Name, "socketplane-support/")] = string(text)
	}
}
