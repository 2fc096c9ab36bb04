package plugin

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/fences"
	"github.com/socketplane/socketplane/test/lab"
)

// manager is the token of the Consul that TestDocumentedPolicy starts.
const manager = "5f0e1c3a-8a55-4c51-9df4-3c6a1b0f6d11"

// TestDocumentedPolicy: on a Consul whose ACLs deny by default, a token that was made as docs/operations.md tells is enough for an agent, and for
// nothing beside it.
func TestDocumentedPolicy(t *testing.T) {
	if engineShows(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	consul, err := testenv.ConsulBinary()
	if err != nil {
		testenv.Missing(t, err.Error())
	}
	w := prepare(ctx, t, lab.Options{Hosts: 1, NoOVS: true})
	h := w.Hosts[0]
	dir := t.TempDir()
	server := testenv.NewProcess(filepath.Join(dir, "consul.log"), append(h.EnterCommand(), consul, "agent", "-dev",
		"-hcl", `acl { enabled = true default_policy = "deny" tokens { initial_management = "`+manager+`" } }`)...)
	server.Forks = true
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	// in runs a line on the host, where consul is a command and the file of the document is at hand.
	in := func(token, line string) (string, error) {
		return h.Exec(ctx, "env", "PATH="+filepath.Dir(consul)+":"+os.Getenv("PATH"), "CONSUL_HTTP_TOKEN="+token, "sh", "-ec", "cd "+dir+"; "+line)
	}
	w.until(ctx, t, "Consul has its tokens", func() error { _, err := in(manager, "consul acl policy list"); return err })

	blocks, err := fences.Read("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if b.Where == "policy" {
			if err := os.WriteFile(filepath.Join(dir, "socketplane.hcl"), []byte(strings.Join(b.Lines, "\n")), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	commands, err := fences.Commands("../../docs/operations.md", "policy-commands")
	if err != nil {
		t.Fatal(err)
	}
	var told string
	for _, line := range commands {
		if told, err = in(manager, line); err != nil {
			t.Fatal(err)
		}
	}
	_, rest, _ := strings.Cut(told, "SecretID:")
	token, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	if token == "" {
		t.Fatalf("no token in %q", told)
	}

	if err := h.CreatePlugin(ctx, w.dir); err != nil {
		t.Fatal(err)
	}
	set(ctx, t, h, []string{"SOCKETPLANE_CONSUL_ADDR=127.0.0.1:8500", "SOCKETPLANE_CONSUL_TOKEN=" + token})
	if err := h.EnablePlugin(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.WaitPluginReady(ctx); err != nil {
		t.Fatal(err)
	}
	docker(ctx, t, h, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "10.61.0.0/24", "web")
	docker(ctx, t, h, "run", "--rm", "--network", "web", lab.ImageName, "true")
	if out, err := in(manager, "consul kv get -keys socketplane/v1/networks/"); err != nil || strings.TrimSpace(out) == "" {
		t.Errorf("the network is not in that Consul: %q, %v", out, err)
	}
	for _, line := range []string{"consul kv put other/key value", "consul kv get other/key", "consul acl token list", "consul services register -name=x"} {
		if out, err := in(token, line); err == nil || !strings.Contains(err.Error(), "Permission denied") {
			t.Errorf("the token is good for %s: %s, %v", line, out, err)
		}
	}
	if _, err := in(token, "consul kv put socketplane/key value"); err != nil {
		t.Errorf("the token is not good for our own: %v", err)
	}
}
