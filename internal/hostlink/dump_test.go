package hostlink

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestRetry(t *testing.T) {
	stop := errors.New("stop")
	for _, c := range []struct {
		name  string
		fails int
		err   error
		want  error
		calls int
	}{
		{"at-once", 0, nil, nil, 1},
		{"interrupted-dump", 3, netlink.ErrDumpInterrupted, nil, 4},
		{"interrupted-call", 2, fmt.Errorf("receive: %w", unix.EINTR), nil, 3},
		{"for-ever", 1000, netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, dumpAttempts},
		{"other-error", 1000, stop, stop, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			got, err := retry(t.Context(), "list", func() (string, error) {
				if calls++; calls <= c.fails {
					return "half", c.err
				}
				return "whole", nil
			})
			if !errors.Is(err, c.want) || calls != c.calls || (got == "whole") != (c.want == nil) || got == "half" {
				t.Errorf("got %q, %v after %d calls", got, err, calls)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := retry(ctx, "list", func() (int, error) { return 1, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
