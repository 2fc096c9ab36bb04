package consul_test

import (
	"testing"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
	"github.com/socketplane/socketplane/store/storetest"
)

func TestMain(m *testing.M) {
	leaks.Main(m)
}

func open(t testing.TB, opts consul.Options) *consul.Store {
	t.Helper()
	s, err := consul.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	server := testenv.Consul(t)
	storetest.Run(t, func(t *testing.T) store.KV {
		return open(t, consul.Options{Address: server.Addr})
	})
}
