package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/version"
)

// The exit codes; part of what scripts may rely on.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitUnreachable = 3
	ExitNotFound    = 4
	ExitWarned      = 5
)

// Deps is what the command line needs from outside; every field must be set.
type Deps struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Env is shaped like [os.LookupEnv].
	Env     func(name string) (string, bool)
	Version version.Info
	// RunAgent runs the agent until ctx is done; nil after such an end.
	RunAgent func(ctx context.Context, cfg config.Config) error
	// RunManaged is RunAgent as Docker's managed plugin.
	RunManaged func(ctx context.Context, cfg config.Config) error
	// Clean removes what agents left on this host, once confirm agrees to the list of it.
	Clean func(ctx context.Context, cfg config.Config, confirm func(found []string) error) error
	// Exec runs another program in this one's place; it returns only when that fails.
	Exec func(argv []string) error
}

// Run runs the command line args (without the program's name) and returns the exit code. Errors are told on Stderr.
func Run(ctx context.Context, d Deps, args []string) int {
	root := newRoot(d)
	root.SetArgs(args)
	root.SetIn(d.Stdin)
	root.SetOut(d.Stdout)
	root.SetErr(d.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		// The rest of the sentence says so.
		line = strings.TrimPrefix(line, adminapi.ErrNotFound.Error()+": ")
		fmt.Fprintf(d.Stderr, "socketplane: %s\n", plain(line))
	}
	switch usage := (*usageError)(nil); {
	case errors.As(err, &usage):
		fmt.Fprintf(d.Stderr, "See '%s --help'.\n", cmd.CommandPath())
		return ExitUsage
	case errors.Is(err, adminapi.ErrUnreachable):
		return ExitUnreachable
	case errors.Is(err, adminapi.ErrNotFound):
		return ExitNotFound
	case errors.Is(err, errWarned):
		return ExitWarned
	}
	return ExitFailed
}

// Command is the whole command line, for what is made from it: man pages and completions.
func Command(d Deps) *cobra.Command { return newRoot(d) }

// usageError is a mistake in the command line or the environment.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func newRoot(d Deps) *cobra.Command {
	root := &cobra.Command{
		Use:   "socketplane",
		Short: "Multi-host networks for plain Docker Engine",
		Long: "Multi-host networks for plain Docker Engine.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the agent cannot be reached,\n" +
			"4 there is no such network, host, container or token, 5 doctor has a warning.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs, // so that an unknown command is a usage error of ours

		SuggestionsMinimumDistance: 2, // cobra's default, which it only fills in on its own path
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return &usageError{unknownCommand(cmd, args[0])}
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(newAgent(d), newManaged(d), newInfo(d), newVersion(d), newNetwork(d), newHost(d), newCluster(d), newEndpoint(d), newRun(d), newDoctor(d),
		newInstall(d), newUninstall(d), newClean(d))
	root.AddCommand(newSupport(d))
	return root
}

func unknownCommand(cmd *cobra.Command, name string) error {
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return fmt.Errorf("there is no command %q: did you mean %q?", name, near[0])
	}
	return fmt.Errorf("there is no command %q", name)
}

// noArgs refuses arguments as a usage error.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}
