package consul_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store/consul"
)

// A Consul that this program runs is asked without what the environment says of another one.
func TestOwnConsulIsAskedWithoutTheEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"CONSUL_NAMESPACE": "team", "CONSUL_PARTITION": "part", "CONSUL_HTTP_TOKEN": "theirs", "CONSUL_HTTP_AUTH": "user:password",
		"CONSUL_HTTP_ADDR": "192.0.2.1:8500", "CONSUL_TLS_SERVER_NAME": "theirs",
	} {
		t.Setenv(name, value)
	}
	asked := make(chan *http.Request, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		_, _ = w.Write([]byte("[]"))
	}))
	defer server.Close()
	kv, err := consul.Open(consul.Options{
		Address: strings.TrimPrefix(server.URL, "https://"), Token: "ours",
		TLS: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the test's own server
	})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	if _, err := kv.List(t.Context(), "socketplane/v1/hosts/"); err != nil {
		t.Fatal(err)
	}
	r := <-asked
	if q := r.URL.Query(); q.Has("ns") || q.Has("partition") || !q.Has("recurse") {
		t.Errorf("asked for %s", r.URL)
	}
	if got := r.Header.Get("X-Consul-Token"); got != "ours" {
		t.Errorf("token %q", got)
	}
	if got := r.Header.Get("Authorization"); got != "" {
		t.Errorf("authorization %q", got)
	}
}
