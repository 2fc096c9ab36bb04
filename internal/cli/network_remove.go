package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

func newNetworkRemove(d Deps) *cobra.Command {
	var quiet bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "rm NETWORK...", Aliases: []string{"delete", "remove"}, Short: "Remove networks from all hosts",
		Long:    "Remove networks from all hosts, and wait until they are gone. A network that containers use is not removed.",
		Example: "  socketplane network rm web\n  socketplane network rm --wait 1m web db",
		Args:    someArgs(1, -1, "the network's name or id"),
	}
	bindQuiet(cmd, &quiet, "print nothing")
	bindWait(cmd, &wait)
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := ask(cmd)
		if err != nil {
			return err
		}
		return removeEach(d, format, quiet, args, func(name string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			defer cancel()
			n, err := c.Network(ctx, name)
			if err != nil {
				return err
			}
			if err := c.RemoveNetwork(ctx, n.ID); err != nil {
				return err
			}
			return settle(cmd.Context(), d, c, wait, quiet, nowhere, n.ID)
		})
	}
	return cmd
}

// nowhere says whether no host that is up has the network any more, and if not, which have.
func nowhere(n *adminapi.NetworkDetail) (bool, string) {
	if n == nil {
		return true, ""
	}
	var with []string
	for _, h := range n.Hosts {
		if h.Alive && h.State == "present" {
			with = append(with, h.Name)
		}
	}
	return len(with) == 0, "still on " + strings.Join(with, ", ")
}

func newNetworkAttach(d Deps) *cobra.Command {
	var quiet bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "attach NETWORK", Short: "Have a network on this host again that was removed here only",
		Long: "Have a network on this host again. A network that other hosts used when 'docker network rm' removed it here stays away\n" +
			"from this host until then.",
		Example: "  socketplane network attach web",
		Args:    someArgs(1, 1, "the network's name or id"),
	}
	bindQuiet(cmd, &quiet, "print nothing")
	bindWait(cmd, &wait)
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := ask(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		n, err := c.Network(ctx, args[0])
		if err != nil {
			return err
		}
		if err := c.AttachNetwork(ctx, n.ID); err != nil {
			return err
		}
		info, err := c.Info(ctx)
		if err != nil {
			return err
		}
		here := func(n *adminapi.NetworkDetail) (bool, string) {
			if n == nil {
				return false, "it was removed meanwhile"
			}
			ok := slices.ContainsFunc(n.Hosts, func(h adminapi.NetworkHost) bool { return h.ID == info.Host.ID && h.State == "present" })
			return ok, "not yet here"
		}
		if err := settle(cmd.Context(), d, c, wait, quiet, here, n.ID); err != nil || quiet {
			return err
		}
		return networkDone(cmd, d, ask, format, n.ID)
	}
	return cmd
}
