package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// supportTimeout is above the time that an agent takes to ask everything.
const supportTimeout = 3 * time.Minute

func newSupport(d Deps) *cobra.Command {
	var out string
	var quiet bool
	cmd := &cobra.Command{
		Use: "support", Short: "Write what a bug report needs to a file",
		Long: "Write what a bug report needs to a file (tar.gz): how the agent does, what the doctor finds, settings,\n" +
			"the last lines of the log, metrics, goroutines, ports and flows of Open vSwitch, links and records.\n\n" +
			"Secrets and the values of labels are blanked. Names, ids and addresses of hosts, networks and containers\n" +
			"are in it: look through it before you pass it on.",
		Example: "  socketplane support\n  socketplane support -o - | tar tz",
		Args:    noArgs,
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", `file to write, "-" for standard output (default socketplane-support-TIME.tar.gz)`)
	bindQuiet(cmd, &quiet, "print nothing but errors")
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := ask(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), supportTimeout)
		defer cancel()
		if out == "-" {
			return c.Support(ctx, d.Stdout)
		}
		if out == "" {
			out = "socketplane-support-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
		}
		line := newProgress(d, quiet)
		line.show("asking the agent for everything")
		err = newFile(out, func(w io.Writer) error { return c.Support(ctx, w) })
		line.end()
		if err == nil && !quiet {
			_, err = fmt.Fprintf(d.Stdout, "%s\nLook through it before you pass it on: it has names and addresses.\n", out)
		}
		return err
	}
	return cmd
}

// newFile makes a file that only its owner reads; nothing is left of it when write fails.
func newFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("the bundle can't be written: %w: give another file with --output", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
