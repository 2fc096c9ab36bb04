package cli

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func newAgent(d Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of this host",
		Long: "Run the agent of this host until it gets SIGINT or SIGTERM; a second one ends it at once.\n" +
			"Containers keep their networks while it is down.\n\n" +
			"A flag wins over its environment variable, in brackets.\n" + environmentOnly(),
		Args: noArgs,
	}
	bindSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadSettings(cmd, d)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		// The first signal drains. Then signals mean again what they mean by default, so the second kills.
		defer context.AfterFunc(ctx, stop)()
		return d.RunAgent(ctx, cfg)
	}
	return cmd
}
