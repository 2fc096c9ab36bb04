package cli

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/config"
)

func newAgent(d Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of this host",
		Long: "Run the agent of this host until it gets SIGINT or SIGTERM; a second one ends it at once.\n" +
			"Containers keep their networks while it is down.\n\n" +
			"A flag wins over its environment variable, in brackets.\n" + environmentOnly(),
		Example: "  socketplane agent --consul-addr 192.0.2.10:8500\n" +
			"  SOCKETPLANE_STORE=bolt socketplane agent --log-level debug",
		Args: noArgs,
	}
	bindSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadSettings(cmd, d)
		if err != nil {
			return err
		}
		return untilSignal(cmd.Context(), func(ctx context.Context) error { return d.RunAgent(ctx, cfg) })
	}
	return cmd
}

// newManaged is the entry point of the managed plugin; people have no use for it.
func newManaged(d Deps) *cobra.Command {
	d.Env = config.Managed(d.Env)
	cmd := &cobra.Command{
		Use:    "managed",
		Short:  "Run the agent as Docker's managed plugin",
		Hidden: true,
		Args:   noArgs,
	}
	bindSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadSettings(cmd, d)
		if err != nil {
			return err
		}
		return untilSignal(cmd.Context(), func(ctx context.Context) error { return d.RunManaged(ctx, cfg) })
	}
	return cmd
}

// untilSignal runs a daemon. The first signal drains. Then signals mean again what they mean by default, so the second kills.
func untilSignal(ctx context.Context, run func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	return run(ctx)
}
