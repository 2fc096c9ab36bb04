package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/setup"
)

func newInstall(d Deps) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "install", Short: "Set the agent up as a service of this host",
		Long: "Set the agent up as a service of this host that starts before Docker: look for what is missing, tell what is going to be\n" +
			"done, ask, and do it. Settings are in /etc/default/socketplane. Where a package brought the service, it is started.",
		Example: "  sudo ./socketplane install",
		Args:    noArgs,
	}
	bindYes(cmd, &yes)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		service, err := setup.Look()
		if err != nil {
			return err
		}
		if err := prerequisites(cmd.Context(), d); err != nil {
			return err
		}
		if service.Origin == setup.FromPackage {
			fmt.Fprintln(d.Stdout, "A package has brought the service: it is (re)started.")
			return setup.Start(cmd.Context())
		}
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("this program does not know its own path: %w", err)
		}
		steps, err := setup.Plan(self)
		if err != nil {
			return err
		}
		if err := agreed(cmd, d, yes, "This is going to be done:", steps); err != nil {
			return err
		}
		if err := setup.Install(cmd.Context(), self); err != nil {
			return fmt.Errorf("%w\n'socketplane uninstall' undoes what was done", err)
		}
		fmt.Fprintln(d.Stdout, "Done. 'socketplane doctor' tells how this host does, 'socketplane uninstall' undoes it.")
		return nil
	}
	return cmd
}

// prerequisites tells what was found; without what nothing can be done it fails.
func prerequisites(ctx context.Context, d Deps) error {
	var errs []error
	for _, f := range append(setup.Check(ctx), sight(ctx)...) {
		fmt.Fprintf(d.Stdout, "%-8s %s: %s\n", f.State, f.Name, f.Text)
		switch {
		case f.State == setup.Error:
			errs = append(errs, fmt.Errorf("%s: %s: %s", f.Name, f.Text, f.Cure))
		case f.Cure != "":
			fmt.Fprintf(d.Stdout, "         mend it: %s\n", f.Cure)
		}
	}
	return errors.Join(errs...)
}

// sight says whether Docker will find the agent's socket; nothing without a dockerd that can be looked at.
func sight(ctx context.Context) []setup.Finding {
	f := doctor.Sight{DockerHost: config.Defaults().DockerHost}.Ahead(ctx)
	state, known := map[string]string{adminapi.CheckOK: setup.OK, adminapi.CheckWarn: setup.Warning, adminapi.CheckBad: setup.Error}[f.State]
	if !known || f.Away {
		return nil
	}
	text := f.Saw
	if f.Follows != "" {
		text += ": " + f.Follows
	}
	return []setup.Finding{{Name: "plugin socket", Text: text, State: state, Cure: f.Cure}}
}

func newUninstall(d Deps) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "uninstall", Short: "Stop the agent and remove what 'install' set up",
		Long: "Stop the agent and remove what 'socketplane install' set up. Containers keep talking: bridge, links, state and settings stay until\n" +
			"'socketplane clean'. A service that a package brought goes with the package.",
		Example: "  sudo socketplane uninstall",
		Args:    noArgs,
	}
	bindYes(cmd, &yes)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		service, err := setup.Look()
		switch {
		case err != nil:
			return err
		case service.Origin == setup.FromPackage:
			return errors.New("a package has brought the service: remove that, for example with 'apt-get remove socketplane'")
		case service.Origin == setup.None:
			return fmt.Errorf("%w: 'socketplane install' has set nothing up here", errNoSuch)
		}
		steps := []string{"stop and disable the agent and its sockets", "remove their units"}
		if service.Copied != "" {
			steps = append(steps, "remove "+service.Copied)
		}
		if err := agreed(cmd, d, yes, "This is going to be done:", steps); err != nil {
			return err
		}
		if err := setup.Uninstall(cmd.Context(), service); err != nil {
			return err
		}
		fmt.Fprintln(d.Stdout, "Done. Bridge, links, state and settings are still there: 'socketplane clean' removes them.")
		return nil
	}
	return cmd
}

func newClean(d Deps) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "clean", Short: "Remove all that agents left on this host",
		Long: "Remove all that agents left on this host: the bridge, links and the state, and settings once the service is uninstalled. The agent must\n" +
			"be stopped. Only files that agents make are removed from the state directory. Networks in Docker and in the cluster are not touched: remove them before, and 'socketplane host rm' on\n" +
			"another host afterwards.",
		Example: "  sudo socketplane clean\n  sudo socketplane clean --yes",
		Args:    noArgs,
	}
	bindYes(cmd, &yes)
	bindSettings(cmd, cleanFlags()...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := loadSettings(cmd, d, cleanFlags()...)
		if err != nil {
			return err
		}
		err = d.Clean(cmd.Context(), cfg, func(found []string) error {
			if len(found) == 0 {
				fmt.Fprintln(d.Stdout, "Agents have left nothing here.")
				return nil
			}
			return agreed(cmd, d, yes, "This is going to be removed:", found)
		})
		if err != nil {
			return err
		}
		return setup.Forget(cmd.Context())
	}
	return cmd
}

func cleanFlags() []string { return []string{"state-dir", "ovsdb"} }

func bindYes(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
}

// agreed tells what is going to happen and asks, unless yes was given.
func agreed(cmd *cobra.Command, d Deps, yes bool, intro string, list []string) error {
	fmt.Fprintln(d.Stdout, intro)
	for _, line := range list {
		fmt.Fprintf(d.Stdout, "  - %s\n", plain(line))
	}
	if yes {
		return nil
	}
	fmt.Fprint(d.Stdout, "Go on? [y/N] ")
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer == "y" || answer == "yes" {
		return nil
	}
	fmt.Fprintln(d.Stdout)
	if err != nil && answer == "" {
		return errors.New("nothing was done: there is nobody to ask; --yes answers in advance")
	}
	return errors.New("nothing was done")
}
