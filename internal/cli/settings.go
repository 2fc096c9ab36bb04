package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/config"
)

// bindSettings gives cmd the flags of the named settings, or of all.
func bindSettings(cmd *cobra.Command, names ...string) {
	cmd.Flags().SortFlags = false
	for _, s := range config.Settings() {
		if s.Flag == "" || (len(names) > 0 && !slices.Contains(names, s.Flag)) {
			continue
		}
		cmd.Flags().String(s.Flag, s.Default(), fmt.Sprintf("%s [%s]", s.Usage, strings.Join(s.Env, ", ")))
		if s.Switch {
			cmd.Flags().Lookup(s.Flag).NoOptDefVal = "true"
		}
	}
}

// loadSettings reads what bindSettings bound, and the environment.
func loadSettings(cmd *cobra.Command, d Deps, names ...string) (config.Config, error) {
	cfg, err := config.Load(config.Sources{
		Flag: func(name string) (string, bool) {
			f := cmd.Flags().Lookup(name)
			if f == nil || !f.Changed {
				return "", false
			}
			return f.Value.String(), true
		},
		Env: d.Env,
	}, names...)
	if err != nil {
		return config.Config{}, &usageError{err}
	}
	return cfg, nil
}

// environmentOnly lists the settings that have no flag, for help texts.
func environmentOnly() string {
	var b strings.Builder
	b.WriteString("Only in the environment:\n")
	for _, s := range config.Settings() {
		if s.Flag == "" {
			fmt.Fprintf(&b, "  %s: %s\n", strings.Join(s.Env, ", "), s.Usage)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}
