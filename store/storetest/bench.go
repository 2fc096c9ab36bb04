package storetest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// valueSize is that of a record: an endpoint has about 200 bytes.
const valueSize = 256

// callers is how many goroutines a parallel benchmark has for each processor.
const callers = 32

// Benchmark measures an implementation; open is as for Run.
func Benchmark(b *testing.B, open func(b *testing.B) store.KV) {
	for _, n := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("apply-%d", n), func(b *testing.B) { benchApply(b, open(b), n) })
	}
	b.Run("apply-1-parallel", func(b *testing.B) { benchParallel(b, open(b)) })
	b.Run("get", func(b *testing.B) { benchGet(b, open(b)) })
	b.Run("list-1000", func(b *testing.B) { benchList(b, open(b)) })
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprintf("watch-%d", n), func(b *testing.B) { benchWatch(b, open(b), n) })
	}
}

// record is a value that differs for each i.
func record(i int64) []byte {
	return []byte(fmt.Sprintf("%d%s", i, strings.Repeat("x", valueSize)))[:valueSize]
}

func benchOps(root string, n int, round int64) []store.Op {
	ops := make([]store.Op, n)
	for i := range ops {
		ops[i] = store.Op{Kind: store.OpPut, Key: fmt.Sprintf("%s%04d", root, i), Value: record(round)}
	}
	return ops
}

func benchApply(b *testing.B, kv store.KV, n int) {
	ctx, root := context.Background(), Root(b)
	for i := int64(0); b.Loop(); i++ {
		if err := kv.Apply(ctx, benchOps(root, n, i)...); err != nil {
			b.Fatal(err)
		}
	}
}

func benchParallel(b *testing.B, kv store.KV) {
	root := Root(b)
	var caller atomic.Int64
	b.SetParallelism(callers)
	b.RunParallel(func(pb *testing.PB) {
		mine := fmt.Sprintf("%s%d/", root, caller.Add(1))
		for i := int64(0); pb.Next(); i++ {
			if err := kv.Apply(context.Background(), benchOps(mine, 1, i)...); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func benchGet(b *testing.B, kv store.KV) {
	ctx, root := context.Background(), Root(b)
	if err := kv.Apply(ctx, benchOps(root, 1, 0)...); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := kv.Get(ctx, root+"0000"); err != nil {
			b.Fatal(err)
		}
	}
}

func benchList(b *testing.B, kv store.KV) {
	ctx, root := context.Background(), Root(b)
	for i := range 10 {
		if err := kv.Apply(ctx, benchOps(fmt.Sprintf("%s%d/", root, i), 100, 0)...); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if entries, err := kv.List(ctx, root); err != nil || len(entries) != 1000 {
			b.Fatal(len(entries), err)
		}
	}
}

// benchWatch measures a write of one key until all watchers have seen it.
func benchWatch(b *testing.B, kv store.KV, watchers int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	root, seen := Root(b), make(chan string, watchers)
	for range watchers {
		go func() {
			for index, last := uint64(0), ""; ; {
				entries, next, err := kv.Watch(ctx, root, index)
				if err != nil {
					return
				}
				if index = next; len(entries) == 1 && string(entries[0].Value) != last {
					last = string(entries[0].Value)
					seen <- last
				}
			}
		}()
	}
	for i := int64(0); b.Loop(); i++ {
		if err := kv.Apply(ctx, benchOps(root, 1, i)...); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < watchers; {
			if <-seen == string(record(i)) {
				n++
			}
		}
	}
}
