package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// Pauses and bound of commands that wait until hosts have done what was asked.
const (
	waitEvery   = 100 * time.Millisecond
	waitDefault = 15 * time.Second
)

func newNetwork(d Deps) *cobra.Command {
	cmd := group("network", "Create, list, show and remove networks")
	cmd.AddCommand(newNetworkCreate(d), newNetworkList(d), newNetworkInspect(d), newNetworkRemove(d), newNetworkAttach(d))
	return cmd
}

// settle waits until done says so of the network with this id (nil when it is gone), and shows what it waits for.
func settle(ctx context.Context, d Deps, c *adminapi.Client, wait time.Duration, quiet bool,
	done func(*adminapi.NetworkDetail) (bool, string), id string) error {
	if wait == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	line := newProgress(d, quiet)
	defer line.end()
	last := ""
	for {
		n, err := c.Network(ctx, id)
		found := &n
		if errors.Is(err, adminapi.ErrNotFound) {
			found, err = nil, nil
		}
		if err == nil {
			ok, why := done(found)
			if ok {
				return nil
			}
			last = why
			line.show(why)
		} else if ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %s: 'socketplane network inspect' and 'socketplane doctor' on that host say why", wait, last)
		case <-time.After(waitEvery):
		}
	}
}
