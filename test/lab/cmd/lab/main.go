// Lab is the program behind `make demo`: it starts Docker hosts on this machine, shows containers of one SocketPlane
// network talking across them, and leaves the hosts running to be tried.
//
// It owns the lab named "demo". It may import test/lab; it must not know how hosts are made.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/socketplane/socketplane/test/lab"
)

const labName = "demo"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := dispatch(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: lab up|down|status|shell N|agent N|crash N|dump")
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab makes network namespaces and mounts, which needs root: run it with sudo")
	}
	switch args[0] {
	case "up":
		return up(ctx, args[1:])
	case "down":
		return down()
	}
	l, err := lab.Open(labName)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the demo does not run: start it with `make demo`")
	}
	if err != nil {
		return err
	}
	switch args[0] {
	case "status":
		return status(ctx, l)
	case "dump":
		fmt.Print(l.Dump(ctx))
		return nil
	}
	h, err := pick(l, args[1:])
	if err != nil {
		return err
	}
	switch args[0] {
	case "shell":
		return shell(h, args[2:])
	case "agent":
		if err := h.StartAgent(ctx); err != nil {
			return err
		}
		fmt.Printf("the agent of %s runs again\n", h.Name)
		return nil
	case "crash":
		if err := h.CrashAgent(ctx); err != nil {
			return err
		}
		fmt.Printf("the agent of %s is dead; start it again with `make agent HOST=%s`\n", h.Name, h.Name[1:])
		return nil
	}
	return fmt.Errorf("unknown command %q: there are up, down, status, shell, agent, crash and dump", args[0])
}

func pick(l *lab.Lab, args []string) (*lab.Host, error) {
	number := 1
	if len(args) > 0 {
		n, err := strconv.Atoi(strings.TrimPrefix(args[0], "h"))
		if err != nil || n < 1 || n > len(l.Hosts) {
			return nil, fmt.Errorf("host %q: there are 1 to %d", args[0], len(l.Hosts))
		}
		number = n
	}
	return l.Hosts[number-1], nil
}

func down() error {
	l, err := lab.Open(labName)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Println("the demo does not run")
		return nil
	}
	if err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	fmt.Println("the demo is gone, with its hosts and all that was in them")
	return nil
}

func status(ctx context.Context, l *lab.Lab) error {
	for _, h := range l.Hosts {
		names, err := h.Docker(ctx, "ps", "--format", "{{.Names}}")
		if err != nil {
			fmt.Printf("%s  %s  Docker does not answer: %v\n", h.Name, h.Addr, err)
			continue
		}
		agent := "no agent: start it with `make agent HOST=" + h.Name[1:] + "`"
		if h.Listening(lab.AdminSocket) {
			agent = "agent runs"
		}
		fmt.Printf("%s  %s  %s  containers: %s\n", h.Name, h.Addr, agent, strings.Join(strings.Fields(names), " "))
	}
	fmt.Printf("logs: %s/h1/log\n", l.Dir())
	return nil
}

// shell replaces this program by a shell, or by the given command, inside the host.
func shell(h *lab.Host, command []string) error {
	argv := h.EnterCommand()
	if len(command) == 0 {
		command = []string{"bash", "--norc", "-i"}
		fmt.Printf("a shell on %s (%s); `exit` leaves it\n", h.Name, h.Addr)
	}
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	env := without(os.Environ(), "PATH", "PS1", "DOCKER_HOST", "DOCKER_CONTEXT")
	env = append(env, "PS1="+h.Name+`:\w# `, "PATH="+filepath.Dir(h.AgentBinary())+":"+os.Getenv("PATH"))
	return syscall.Exec(program, append(argv, command...), env)
}

func without(env []string, names ...string) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		drop := false
		for _, n := range names {
			drop = drop || n == name
		}
		if !drop {
			kept = append(kept, e)
		}
	}
	return kept
}

func flags(args []string) (lab.Options, error) {
	fs := flag.NewFlagSet("up", flag.ContinueOnError)
	opts := lab.Options{Name: labName, Cluster: true, Detached: true}
	fs.IntVar(&opts.Hosts, "hosts", 3, "how many hosts")
	engine := fs.String("engine", string(lab.EngineDebian), "Docker Engine: debian or current")
	tunnel := fs.String("tunnel", string(lab.TunnelAuto), "tunnel: auto, kernel or ovs")
	fs.StringVar(&opts.Agent, "agent", "", "socketplane binary; built from the checkout by default")
	err := fs.Parse(args)
	opts.Engine, opts.Tunnel = lab.Engine(*engine), lab.Tunnel(*tunnel)
	return opts, err
}
