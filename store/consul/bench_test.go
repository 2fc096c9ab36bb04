package consul_test

import (
	"testing"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
	"github.com/socketplane/socketplane/store/storetest"
)

func BenchmarkStore(b *testing.B) {
	server := testenv.Consul(b)
	storetest.Benchmark(b, func(b *testing.B) store.KV {
		return open(b, consul.Options{Address: server.Addr})
	})
}
