// Command socketplane is the agent of a Docker host and the command line that talks to it. It only wires: whatever can
// go wrong or be tested is in internal/cli and below.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/socketplane/socketplane/internal/cli"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/version"
)

func main() {
	os.Exit(cli.Run(context.Background(), cli.Deps{
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Env:     os.LookupEnv,
		Version: version.Get(),
		RunAgent: func(context.Context, config.Config) error {
			return errors.New("this build has no agent yet")
		},
	}, os.Args[1:]))
}
