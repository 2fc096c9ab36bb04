// Command socketplane is the agent of a Docker host and the command line that talks to it. It only wires: whatever can
// go wrong or be tested is in internal/cli and below.
package main

import (
	"context"
	"os"

	"github.com/socketplane/socketplane/internal/agent"
	"github.com/socketplane/socketplane/internal/clean"
	"github.com/socketplane/socketplane/internal/cli"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/logging"
	"github.com/socketplane/socketplane/internal/version"
)

func main() {
	os.Exit(cli.Run(context.Background(), cli.Deps{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.LookupEnv, Version: version.Get(), Exec: cli.Exec,
		RunAgent: daemon(agent.Run), RunManaged: daemon(agent.RunManaged), Clean: clean.Host,
	}, os.Args[1:]))
}

func daemon(run func(context.Context, config.Config, agent.Options) error) func(context.Context, config.Config) error {
	return func(ctx context.Context, cfg config.Config) error {
		defer cli.CollectGarbage()()
		log, recent := logging.Recording(os.Stderr, cfg.LogLevel, cfg.LogFormat)
		return run(ctx, cfg, agent.Options{Version: version.Get(), Logger: log, Recent: recent.Bytes})
	}
}
