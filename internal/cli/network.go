package cli

import (
	"context"
	"fmt"
	"slices"
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
		all, err := c.Networks(ctx)
		if err == nil {
			var found *adminapi.NetworkDetail
			if i := slices.IndexFunc(all, func(n adminapi.NetworkDetail) bool { return n.ID == id }); i >= 0 {
				found = &all[i]
			}
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
