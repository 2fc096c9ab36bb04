package meter_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/meter"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
	"github.com/socketplane/socketplane/store/storetest"
)

// TestContract: who is measured does the same as before.
func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.KV {
		return meter.New(open(t), func(_ string, took time.Duration, _ bool) {
			if took < 0 {
				t.Errorf("took %v", took)
			}
		})
	})
}

func open(t *testing.T) store.KV {
	t.Helper()
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "kv.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

// broken is a store that does not answer.
type broken struct {
	store.KV
	err error
}

func (b broken) Get(context.Context, string) (store.Entry, error)              { return store.Entry{}, b.err }
func (b broken) List(context.Context, string) ([]store.Entry, error)           { return nil, b.err }
func (b broken) Apply(context.Context, ...store.Op) error                      { return b.err }
func (b broken) Announce(context.Context, string, []byte, time.Duration) error { return b.err }
func (b broken) Watch(context.Context, string, uint64) ([]store.Entry, uint64, error) {
	return nil, 0, b.err
}

func TestWhatCountsAsFailure(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"success":         {nil, false},
		"not_found":       {store.ErrNotFound, false},
		"conflict":        {store.ErrConflict, false},
		"closed":          {errors.Join(store.ErrUnavailable, store.ErrClosed), false},
		"nobody_waits":    {errors.Join(store.ErrUnavailable, context.Canceled), false},
		"too_late":        {errors.Join(store.ErrUnavailable, context.DeadlineExceeded), true},
		"does_not_answer": {store.ErrUnavailable, true},
		"invalid":         {store.ErrInvalid, true},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]bool{}
			kv := meter.New(broken{err: c.err}, func(op string, _ time.Duration, failed bool) { got[op] = failed })
			_, errGet := kv.Get(t.Context(), "k")
			_, errList := kv.List(t.Context(), "k")
			errApply := kv.Apply(t.Context())
			_, _, errWatch := kv.Watch(t.Context(), "k", 0)
			errAnnounce := kv.Announce(t.Context(), "k", nil, 0)
			for op, err := range map[string]error{meter.Get: errGet, meter.List: errList, meter.Apply: errApply,
				meter.Watch: errWatch, meter.Announce: errAnnounce} {
				failed, seen := got[op]
				if err != c.err || !seen || failed != c.want {
					t.Errorf("%s: error %v, seen %t, failed %t", op, err, seen, failed)
				}
			}
			if len(got) != len(meter.Operations()) {
				t.Errorf("observed %v, want %v", got, meter.Operations())
			}
		})
	}
}
