package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/doctor"
)

// doctorTimeout is above the time that an agent takes to probe all hosts.
const doctorTimeout = 40 * time.Second

// doctorSettings name what is looked at when the agent does not answer.
func doctorSettings() []string {
	return []string{adminSocketFlag, "plugin-socket", "ovsdb", "docker-host", "state-dir"}
}

func newDoctor(d Deps) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong with this host",
		Long: "Look for what is wrong with this host, and say what mends it. When the agent does not run or does not answer, it looks at\n" +
			"what can be looked at without it; the settings are for that.\n\n" +
			"Exit codes: 0 all is well, 1 something is an error, 5 something is a warning or could not be looked at,\n" +
			"3 the agent cannot be reached.",
		Example: "  socketplane doctor\n  socketplane doctor --quiet || echo 'something is wrong'",
		Args:    noArgs,
	}
	bindQuiet(cmd, &quiet, "show only what is not well")
	format := bindFormat(cmd)
	bindSettings(cmd, doctorSettings()...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadSettings(cmd, d, adminSocketFlag)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), doctorTimeout)
		defer cancel()
		line := newProgress(d, quiet)
		line.show("looking at this host and the ways to the others")
		checks, unreachable, err := diagnose(ctx, cfg.AdminSocket, func() (config.Config, error) { return loadSettings(cmd, d, doctorSettings()...) })
		line.end()
		if err != nil {
			return err
		}
		var shown []adminapi.Check
		for _, check := range checks {
			if !quiet || check.State != adminapi.CheckOK {
				shown = append(shown, check)
			}
		}
		err = format.write(d.Stdout, listed("checks", shown), func(w io.Writer) error {
			checksShown(w, shown, paletteFor(d.Stdout, d.Env))
			return nil
		})
		return errors.Join(err, doctorVerdict(checks, unreachable))
	}
	return cmd
}

// diagnose asks the agent, or looks itself, with these settings, when no agent answers; unreachable says why it does not.
func diagnose(ctx context.Context, socket string, settings func() (config.Config, error)) (checks []adminapi.Check, unreachable, err error) {
	if doctor.Answers(ctx, socket) { // in a moment, so that a hanging agent is not waited for
		if checks, err = adminapi.NewClient(socket).Doctor(ctx); err == nil {
			return lookedHere(ctx, checks, settings), nil, nil
		}
		if !errors.Is(err, adminapi.ErrUnreachable) {
			return nil, nil, err
		}
	}
	silent, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	if unreachable = adminapi.NewClient(socket).Ready(silent); !errors.Is(unreachable, adminapi.ErrUnreachable) {
		unreachable = err // it answers again, or not as it should; what was seen is told all the same
	}
	cfg, err := settings()
	if err != nil {
		return nil, nil, err
	}
	local := doctor.Local{
		Links: doctor.HostLinks, AdminSocket: cfg.AdminSocket, PluginSocket: cfg.PluginSocket, OVSDB: cfg.OVSDB, Bridge: config.Bridge,
		DockerHost: cfg.DockerHost, StateDir: cfg.StateDir, Unit: doctor.Unit,
	}
	return doctor.Run(ctx, local.Checks()), unreachable, nil
}

// lookedHere looks itself at what the agent could not: its unit keeps other processes from it, this command may be root's.
func lookedHere(ctx context.Context, checks []adminapi.Check, settings func() (config.Config, error)) []adminapi.Check {
	cfg, err := settings()
	if err != nil {
		return checks
	}
	sight := doctor.Sight{DockerHost: cfg.DockerHost, PluginSocket: cfg.PluginSocket}.Check()
	for i, c := range checks {
		if c.Name == sight.Name && c.State == adminapi.CheckUnknown {
			checks[i] = doctor.Run(ctx, []doctor.Check{sight})[0]
		}
	}
	return checks
}

// healthTimeout is how long an agent may take to say that it lives.
const healthTimeout = 2 * time.Second

// errWarned says that nothing is an error, but not all is well.
var errWarned = errors.New("not all is well with this host")

// doctorVerdict is the command's error: nil if all is well.
func doctorVerdict(checks []adminapi.Check, unreachable error) error {
	count := map[string]int{}
	for _, c := range checks {
		count[c.State]++
	}
	switch {
	case unreachable != nil:
		return unreachedError{unreachable}
	case count[adminapi.CheckBad] > 0:
		return errors.New(plural(count[adminapi.CheckBad], "thing is", "things are") + " wrong with this host")
	case count[adminapi.CheckOK] < len(checks):
		return fmt.Errorf("%w: %s, %s", errWarned, plural(count[adminapi.CheckWarn], "warning", "warnings"),
			plural(count[adminapi.CheckUnknown], "thing", "things")+" could not be looked at")
	}
	return nil
}

// unreachedError is for an agent that does not answer: the checks say why, which its text leaves to them.
type unreachedError struct{ cause error }

func (unreachedError) Error() string {
	return "the agent can't be reached: the check 'agent' says why and what mends it"
}

func (e unreachedError) Unwrap() error { return e.cause }

func checksShown(w io.Writer, checks []adminapi.Check, p palette) {
	const indent = 9 // "warning" and two spaces
	for _, c := range checks {
		word := map[string]string{
			adminapi.CheckOK: "OK", adminapi.CheckWarn: "warning", adminapi.CheckBad: "ERROR", adminapi.CheckUnknown: "unknown",
		}[c.State]
		if c.NotApplicable {
			word = "-"
		}
		state := fmt.Sprintf("%-*s", indent, word)
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
