package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// doctorTimeout is above the time that an agent takes to probe all hosts.
const doctorTimeout = 40 * time.Second

func newDoctor(d Deps) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong with this host",
		Long:    "Look for what is wrong with this host, and say what mends it. The exit code is 1 if anything is an error.",
		Example: "  socketplane doctor\n  socketplane doctor --quiet || echo 'something is wrong'",
		Args:    noArgs,
	}
	bindQuiet(cmd, &quiet, "show only what is not well")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := ask(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), doctorTimeout)
		defer cancel()
		line := newProgress(d, quiet)
		line.show("looking at this host and the ways to the others")
		checks, err := c.Doctor(ctx)
		line.end()
		if err != nil {
			return err
		}
		bad := 0
		var shown []adminapi.Check
		for _, check := range checks {
			if check.State == adminapi.CheckBad {
				bad++
			}
			if !quiet || check.State != adminapi.CheckOK {
				shown = append(shown, check)
			}
		}
		err = format.write(d.Stdout, listed("checks", shown), func(w io.Writer) error {
			checksShown(w, shown, paletteFor(d.Stdout, d.Env))
			return nil
		})
		if err == nil && bad > 0 {
			err = errors.New(plural(bad, "thing is", "things are") + " wrong with this host")
		}
		return err
	}
	return cmd
}

func checksShown(w io.Writer, checks []adminapi.Check, p palette) {
	const indent = 9 // "warning" and two spaces
	for _, c := range checks {
		state := fmt.Sprintf("%-*s", indent, map[string]string{
			adminapi.CheckOK: "OK", adminapi.CheckWarn: "warning", adminapi.CheckBad: "ERROR",
		}[c.State])
		if c.State == adminapi.CheckBad {
			state = p.bad(state)
		}
		for _, line := range wrap(plain(c.Name+": "+c.Text), lineWidth-indent) {
			fmt.Fprintf(w, "%s%s\n", state, line)
			state = fmt.Sprintf("%*s", indent, "")
		}
		if c.Cure == "" {
			continue
		}
		for _, line := range wrap(plain("mend it: "+c.Cure), lineWidth-indent) {
			fmt.Fprintf(w, "%*s%s\n", indent, "", line)
		}
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
