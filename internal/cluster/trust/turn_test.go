package trust_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// TestFollowerWaitsForNobodyForLong: servers that don't answer hold a renewal up for a bounded time, and others that want the
// credentials to change only as long as they want to wait.
func TestFollowerWaitsForNobodyForLong(t *testing.T) {
	f := follow(t, trust.Lifetimes{})
	synctest.Test(t, func(t *testing.T) {
		ways := f.ways()
		ways.Host = func() trust.Subject { return trust.Subject{ID: here.ID, Addr: here.Addr, Client: true} }
		ways.Ask = func(ctx context.Context) (trust.Credentials, error) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Hour): // bounds the test
			}
			return trust.Credentials{}, errors.New("no server answers")
		}
		follower := f.keeper.NewFollower(f.cluster, ways, slog.New(slog.DiscardHandler))
		renewed := make(chan time.Duration, 1)
		began := time.Now()
		go func() {
			if err := follower.Renew(t.Context()); err == nil {
				t.Error("the credentials were renewed without an answer")
			}
			renewed <- time.Since(began)
		}()
		synctest.Wait()
		for name, change := range map[string]func(context.Context) error{"renew": follower.Renew, "release": follower.Release} {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := change(ctx)
			cancel()
			if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, store.ErrUnavailable) || took != time.Second {
				t.Errorf("%s, while another renewal waits for servers: %v after %s", name, err, took)
			}
		}
		if took := <-renewed; took > time.Minute {
			t.Errorf("a renewal waits for servers for %s", took)
		}
		if err := follower.Release(t.Context()); err != nil {
			t.Errorf("release after the renewal: %v", err)
		}
	})
}
