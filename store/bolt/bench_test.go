package bolt_test

import (
	"path/filepath"
	"testing"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
	"github.com/socketplane/socketplane/store/storetest"
)

func BenchmarkStore(b *testing.B) {
	for name, opts := range map[string]bolt.Options{"sync": {}, "no-sync": {NoSync: true}} {
		b.Run(name, func(b *testing.B) {
			storetest.Benchmark(b, func(b *testing.B) store.KV {
				return open(b, filepath.Join(b.TempDir(), "bench.db"), opts)
			})
		})
	}
}
