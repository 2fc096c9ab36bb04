package support

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/bundle"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// unpacked are the files of a bundle, by name, and their order.
func unpacked(t *testing.T, raw io.Reader) (files map[string]string, order []string) {
	t.Helper()
	zip, err := gzip.NewReader(raw)
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for archive := tar.NewReader(zip); ; {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, order
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(head.Name, bundle.Dir)
		files[name], order = string(content), append(order, name)
	}
}

// TestWithoutAgent: while no agent runs the bundle has what the process knows, without the secrets of settings, of the environment and of the token's file, and what
// can't be had says so.
func TestWithoutAgent(t *testing.T) {
	const secret = "planted-secret"
	cfg := config.Defaults()
	cfg.JoinTokenFile = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(cfg.JoinTokenFile, []byte(secret+"-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(consulAuth, secret+"-user")
	w := New(Sources{
		Config: cfg, Recent: func() []byte { return []byte("a line with " + secret + "-file and " + secret + "-user\n") },
		Metrics: func() prometheus.Gatherer { return prometheus.NewRegistry() },
		Info:    func(context.Context) (adminapi.Info, error) { return adminapi.Info{Trouble: "no address"}, nil },
		Doctor:  func(context.Context) ([]adminapi.Check, error) { return nil, errors.New("the doctor is away") },
	})
	var out bytes.Buffer
	if err := w.Support(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	files, order := unpacked(t, &out)
	if want := []string{"settings.txt", "info.json", "doctor.json", "log.txt", "metrics.txt", "goroutines.txt"}; !slices.Equal(order, want) {
		t.Errorf("the files are %q, want %q", order, want)
	}
	for name, content := range files {
		if strings.Contains(content, secret) {
			t.Errorf("%s tells a secret:\n%s", name, content)
		}
	}
	for name, want := range map[string]string{
		"settings.txt": "SOCKETPLANE_STATE_DIR=", "info.json": "no address", "doctor.json": "the doctor is away", "log.txt": "a line with ***", "goroutines.txt": "TestWithoutAgent",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s lacks %q:\n%s", name, want, files[name])
		}
	}
}

// TestRecords: the bundle has this host's records and what the cluster has of its networks, and neither other hosts' containers nor keys and tokens.
func TestRecords(t *testing.T) {
	open := func(name string) store.KV {
		kv, err := bolt.Open(filepath.Join(t.TempDir(), name), bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = kv.Close() })
		return kv
	}
	local, kv := open("local.db"), open("cluster.db")
	cluster := store.NewCluster(kv, "me")
	n, err := cluster.Bind(t.Context(), store.Binding{DockerID: "d", Name: "web", Pools: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}})
	if err == nil {
		err = cluster.PutEndpoints(t.Context(), n.ID, []store.Endpoint{{ID: "container-here"}})
	}
	if err == nil {
		err = store.NewCluster(kv, "other").PutHost(t.Context(), store.Host{Name: "elsewhere"})
	}
	put := func(kv store.KV, key, value string) {
		if err == nil {
			err = kv.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: key, Value: []byte(value)})
		}
	}
	put(local, store.LocalHostKey, `{"id":"me"}`)
	put(local, "kept/later", `{"key":"local-secret"}`)
	put(kv, store.EndpointsKey("other-net", "other"), `{"id":"container-elsewhere"}`)
	put(kv, "kept/keys", `{"key":"cluster-secret"}`)
	if err != nil {
		t.Fatal(err)
	}
	p := &Parts{Here: func() []netview.Network { return []netview.Network{{ID: n.ID}} }, Local: local, Journal: open("journal"), Cluster: cluster}
	here, err := p.tellLocalRecords(t.Context())
	if err != nil || !strings.Contains(string(here), `"me"`) || strings.Contains(string(here), "local-secret") {
		t.Errorf("%v: %s", err, here)
	}
	all, err := p.tellClusterRecords(t.Context())
	for _, want := range []string{"web", "container-here", "elsewhere"} {
		if err != nil || !strings.Contains(string(all), want) {
			t.Errorf("%q is not in the cluster's records: %v\n%s", want, err, all)
		}
	}
	for _, none := range []string{"container-elsewhere", "cluster-secret"} {
		if strings.Contains(string(all), none) {
			t.Errorf("%q is in the cluster's records:\n%s", none, all)
		}
	}
}
