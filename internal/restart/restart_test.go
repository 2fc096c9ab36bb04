package restart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

const notReady = "not ready on this host"

// engine is a Docker Engine with containers that could not be started, by name, with the error that it keeps.
type engine struct {
	mu      sync.Mutex // guards what follows
	down    error
	kept    map[string]string
	broken  string // can't be started
	started []string
}

func (e *engine) Ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.down
}

// change changes the world under the starter, or looks at it.
func (e *engine) change(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *engine) Refused(_ context.Context, texts ...string) (found []dockerwatch.Refused, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, kept := range e.kept {
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(kept, text) }) {
			found = append(found, dockerwatch.Refused{ID: name, Name: name})
		}
	}
	return found, nil
}

func (e *engine) Start(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.down != nil:
		return fmt.Errorf("%w: %w", dockerwatch.ErrUnavailable, e.down)
	case id == e.broken:
		return errors.New("its image is gone")
	}
	delete(e.kept, id)
	e.started = append(e.started, id)
	slices.Sort(e.started)
	return nil
}

// TestStarter: containers that Docker was refused are started as soon as what was missing is there, those that wait for the store not before that answers, and
// those with another error never.
func TestStarter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{kept: map[string]string{
			"agent": notReady + ": no address", "switch": "x: " + ovs.ErrNotReady.Error(), "store": "x: " + store.ErrUnavailable.Error(), "user": "no such file",
		}}
		var away, unready error = store.ErrUnavailable, ovs.ErrNotReady
		var refused, starved atomic.Bool
		refused.Store(true)
		starved.Store(true)
		told := func(what *error) (err error) { e.change(func() { err = *what }); return err }
		s := &Starter{Docker: e, Ready: func() error { return told(&unready) }, Answers: func(context.Context) error { return told(&away) }, Refused: &refused, Starved: &starved,
			NotReady: notReady, Logger: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		after := func(what, want string) {
			t.Helper()
			retry.Sleep(ctx, 5*time.Second)
			synctest.Wait()
			e.change(func() {
				if got := strings.Join(e.started, " "); got != want {
					t.Errorf("%s: started are %q, want %q", what, got, want)
				}
			})
		}
		after("nothing is ready", "")
		e.change(func() { unready = nil })
		after("packets can be forwarded", "agent switch")
		e.change(func() { away = nil })
		after("the store answers", "agent store switch")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if refused.Load() || starved.Load() || e.kept["user"] == "" {
			t.Errorf("refused %v, starved %v, left are %v", refused.Load(), starved.Load(), e.kept)
		}
	})
}

// TestStarterTriesAgain: Docker that is away while containers are started is asked again; a container that can't be started for another reason is told of, once.
func TestStarterTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		e := &engine{kept: map[string]string{"a": notReady, "b": notReady}, broken: "b"}
		var refused, starved atomic.Bool
		refused.Store(true)
		s := &Starter{Docker: away{e}, Ready: func() error { return nil }, Refused: &refused, Starved: &starved, NotReady: notReady, Logger: slog.New(slog.NewTextHandler(&out, nil))}
		e.down = errors.New("restarting")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		retry.Sleep(ctx, 10*time.Second)
		synctest.Wait()
		e.change(func() {
			if len(e.started) > 0 || !refused.Load() {
				t.Errorf("while Docker is away: started %q, refused %v", e.started, refused.Load())
			}
			e.down = nil
		})
		retry.Sleep(ctx, time.Minute)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if !slices.Equal(e.started, []string{"a"}) || strings.Count(out.String(), "can't be started") != 1 || refused.Load() {
			t.Errorf("started %q, refused %v:\n%s", e.started, refused.Load(), out.String())
		}
	})
}

// away is a Docker that says that it is there, and then is not.
type away struct{ *engine }

func (away) Ready() error { return nil }
