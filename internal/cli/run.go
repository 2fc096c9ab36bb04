package cli

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/config"
)

const defaultNetworkFlag = "default-network"

func newRun(d Deps) *cobra.Command {
	return &cobra.Command{
		Use:   "run [-n NETWORK] DOCKER-RUN-ARGUMENTS...",
		Short: "Run a container on a network",
		Long: "Run a container on a network: 'docker run --network NETWORK' with everything that follows. Without -n it is the first network,\n" +
			"named socketplane or as SOCKETPLANE_DEFAULT_NETWORK says.",
		Example: "  socketplane run -n web -itd ubuntu\n  socketplane run --rm alpine ip address",
		// Everything but a leading -n is Docker's.
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return cmd.Help()
			}
			network, rest, err := runNetwork(args)
			if err != nil {
				return &usageError{err}
			}
			if network == "" {
				cfg, err := loadSettings(cmd, d, defaultNetworkFlag)
				if err != nil {
					return err
				}
				if network = cfg.DefaultNetwork; network == config.NetworkNone {
					return &usageError{fmt.Errorf("there is no first network: name one with -n")}
				}
			}
			if len(rest) == 0 {
				return &usageError{fmt.Errorf("the image is missing")}
			}
			return d.Exec(append([]string{"docker", "run", "--network", network}, rest...))
		},
	}
}

// runNetwork takes -n NETWORK from the front of the arguments.
func runNetwork(args []string) (network string, rest []string, err error) {
	if len(args) == 0 {
		return "", nil, nil
	}
	for _, flag := range []string{"-n", "--network"} {
		if args[0] == flag {
			if len(args) == 1 || args[1] == "" {
				return "", nil, fmt.Errorf("%s needs a network's name", flag)
			}
			return args[1], args[2:], nil
		}
		if value, ok := strings.CutPrefix(args[0], flag+"="); ok && value != "" {
			return value, args[1:], nil
		}
	}
	return "", args, nil
}

// Exec is Deps.Exec of a real process.
func Exec(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("%s is not installed on this host: %w", argv[0], err)
	}
	return fmt.Errorf("run %s: %w", path, syscall.Exec(path, argv, os.Environ()))
}
