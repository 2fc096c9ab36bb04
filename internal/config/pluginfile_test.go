package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/internal/config"
)

var update = flag.Bool("update", false, "write config.json from the table of settings")

// consulsOwn are variables that Consul's client reads by itself.
var consulsOwn = []string{"CONSUL_HTTP_SSL", "CONSUL_HTTP_SSL_VERIFY", "CONSUL_CACERT", "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY",
	"CONSUL_TLS_SERVER_NAME", "CONSUL_NAMESPACE"}

// TestManagedPluginHasEverySetting: each variable of each setting can be set with `docker plugin set`, none has a value that an
// upgrade would keep, and there is no other.
func TestManagedPluginHasEverySetting(t *testing.T) {
	const file = "../../config.json"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var plugin map[string]any
	if err := json.Unmarshal(text, &plugin); err != nil {
		t.Fatal(err)
	}
	var env []any
	add := func(name, usage string) {
		env = append(env, map[string]any{"name": name, "description": usage, "settable": []any{"value"}})
	}
	for _, s := range config.Settings() {
		for _, name := range s.Env {
			add(name, s.Usage)
		}
	}
	for _, name := range consulsOwn {
		add(name, "as Consul's own programs have it")
	}
	plugin["env"] = env
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(plugin); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(text, want.Bytes()) {
		t.Errorf("config.json does not have the settings of this package: run go test ./internal/config -run %s -update", t.Name())
	}
}

func TestManagedDefaults(t *testing.T) {
	env := map[string]string{"SOCKETPLANE_NAME": "a", "SOCKETPLANE_ADMIN_SOCKET": "", "SCOPE": "global"}
	lookup := config.Managed(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	cfg, err := config.Load(config.Sources{Env: lookup})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{cfg.Name, string(cfg.Scope), cfg.OVSDB, cfg.AdminSocket, cfg.DockerHost, cfg.PluginSocket}
	want := []string{"a", "global", "unix:/host/run/openvswitch/db.sock", "/host/run/socketplane/agent.sock", "unix:///host/run/docker.sock",
		"/run/docker/plugins/socketplane.sock"}
	if !slices.Equal(got, want) {
		t.Errorf("settings %q, want %q", got, want)
	}
	env["SOCKETPLANE_OVSDB"] = config.OwnOVSDB
	if cfg, err = config.Load(config.Sources{Env: lookup}); err != nil || cfg.OVSDB != config.OwnOVSDB {
		t.Errorf("a given address is not kept: %q, %v", cfg.OVSDB, err)
	}
}
