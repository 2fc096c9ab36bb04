package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// errNoSuch says that what a command was asked about does not exist.
var errNoSuch = adminapi.ErrNotFound

// group is a command that only has subcommands.
func group(use, short string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return &usageError{unknownCommand(cmd, args[0])}
		}}
}

// someArgs demands from least to most arguments (-1: any number).
func someArgs(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return &usageError{fmt.Errorf("%s is missing", what)}
		case most >= 0 && len(args) > most:
			return &usageError{fmt.Errorf("unexpected argument %q", args[most])}
		}
		return nil
	}
}

// asker gives the client of the agent that a command's flags name.
type asker func(*cobra.Command) (*adminapi.Client, error)

func bindAsk(cmd *cobra.Command, d Deps) asker {
	bindSettings(cmd, adminSocketFlag)
	return func(cmd *cobra.Command) (*adminapi.Client, error) {
		cfg, err := loadSettings(cmd, d, adminSocketFlag)
		if err != nil {
			return nil, err
		}
		return adminapi.NewClient(cfg.AdminSocket), nil
	}
}

// asked asks one question.
func asked[T any](cmd *cobra.Command, ask asker, question func(*adminapi.Client, context.Context) (T, error)) (T, error) {
	return askedFor(cmd, ask, askTimeout, question)
}

// listTimeout is askTimeout for lists, which an agent may give for longer.
const listTimeout = 25 * time.Second

// askedFor is asked with a limit of its own.
func askedFor[T any](cmd *cobra.Command, ask asker, limit time.Duration, question func(*adminapi.Client, context.Context) (T, error)) (T, error) {
	var none T
	c, err := ask(cmd)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), limit)
	defer cancel()
	return question(c, ctx)
}

func bindQuiet(cmd *cobra.Command, quiet *bool, usage string) {
	cmd.Flags().BoolVarP(quiet, "quiet", "q", false, usage)
}

func bindWait(cmd *cobra.Command, wait *time.Duration) {
	cmd.Flags().DurationVar(wait, "wait", waitDefault, "wait so long for the hosts; 0 does not wait")
}

// removeEach removes what the arguments name, also after one could not be, and tells what is gone: a name a line as it goes, or JSON.
func removeEach(d Deps, f *format, quiet bool, args []string, remove func(string) error) error {
	removed := []string{}
	err := eachArg(args, func(name string) error {
		if err := remove(name); err != nil {
			return err
		}
		removed = append(removed, name)
		if quiet || *f == formatJSON {
			return nil
		}
		_, err := fmt.Fprintln(d.Stdout, name)
		return err
	})
	if quiet || *f != formatJSON {
		return err
	}
	return errors.Join(err, f.write(d.Stdout, listed("removed", removed), nil))
}

// eachArg does something for each argument, also after one failed.
func eachArg(args []string, do func(string) error) error {
	var errs []error
	for _, a := range args {
		errs = append(errs, do(a))
	}
	return errors.Join(errs...)
}

// listed is the JSON form of a list.
func listed[T any](name string, all []T) map[string]any {
	return map[string]any{"schema": adminapi.Schema, name: orEmpty(all)}
}

func orEmpty[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

func lines[T any](w io.Writer, all []T, text func(T) string) error {
	var b strings.Builder
	for _, v := range all {
		b.WriteString(plain(text(v)))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String()) // one call, however long the list is
	return err
}

func joined(m map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, k+"="+m[k])
	}
	return strings.Join(all, " ")
}

func upDown(alive bool) string {
	if alive {
		return "up"
	}
	return "down"
}

func hostName(name, id string) string {
	if name == "" {
		return short(id)
	}
	return name
}

// progress is one line on a terminal that tells what is waited for; elsewhere it says nothing.
type progress struct {
	w     io.Writer
	shown bool
}

func newProgress(d Deps, quiet bool) *progress {
	if quiet || !terminal(d.Stderr, d.Env) {
		return &progress{}
	}
	return &progress{w: d.Stderr}
}

func (p *progress) show(text string) {
	if p.w != nil {
		fmt.Fprintf(p.w, "\r\x1b[K%s", clip(plain(text), lineWidth-1))
		p.shown = true
	}
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
