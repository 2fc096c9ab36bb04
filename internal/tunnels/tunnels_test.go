package tunnels

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/notrack"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/underlay"
)

const port = 4789

var addr = netip.MustParseAddr("192.0.2.1")

// restless is a host whose network may have changed all the time, so that each round is followed by another one at once.
type restless struct{}

func (restless) Current() (underlay.Underlay, error) { return underlay.Underlay{Addr: addr}, nil }

func (restless) Subscribe(context.Context) <-chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}

// alone runs f on a thread with a network namespace of its own, which ends with it.
func alone(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// TestKeeper: the rules are there as soon as it runs and are mended; who takes the port is told of once; with --track-tunnels the rules go.
func TestKeeper(t *testing.T) {
	testenv.Root(t)
	var out bytes.Buffer
	run := func(track bool, rounds int, look func() error) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var failed error
		k := Keeper{Underlay: restless{}, VXLANPort: port, Track: track, Logger: slog.New(slog.NewTextHandler(&out, nil))}
		k.Port.Look = func(context.Context) doctor.Finding {
			failed = errors.Join(failed, look())
			if rounds--; rounds <= 0 {
				cancel()
			}
			return doctor.Error("another program has the port", "no tunnel", "end it")
		}
		return errors.Join(k.Run(ctx), failed)
	}
	err := alone(func() error {
		err := run(false, 2, func() error {
			there, err := notrack.Right(addr, port)
			if err == nil && !there {
				err = errors.New("the rules are not there")
			}
			return errors.Join(err, notrack.Remove()) // another program's flush
		})
		if errors.Is(err, notrack.ErrUnsupported) {
			return err
		}
		return errors.Join(err, notrack.Ensure(addr, port), run(true, 1, func() error {
			there, err := notrack.Present()
			if there {
				err = errors.New("the rules are there though the tunnels are to be tracked")
			}
			return err
		}))
	})
	if errors.Is(err, notrack.ErrUnsupported) {
		testenv.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	if said := fmt.Sprint(strings.Count(out.String(), "another program has the port: no tunnel: end it")); said != "2" { // each run once
		t.Errorf("it was said %s times:\n%s", said, out.String())
	}
}
