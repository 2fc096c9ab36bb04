// Labprobe is the small static program of the lab: the first process of each lab host, and, inside the test
// image, the tool with which tests send and see frames, so that they depend on no other program.
//
// It owns nothing but its own sockets, and must know nothing of SocketPlane. Each subcommand prints JSON lines
// on its standard output, ends by itself after its deadline, and exits with 1 and a reason when it fails.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// command is one subcommand; its flags are registered on fs before parsing, and run does the work.
type command func(fs *flag.FlagSet) (run func(out io.Writer) error)

func main() {
	commands := map[string]command{
		"send": send, "sniff": sniff, "serve": serve, "fetch": fetch,
		"udp-echo": udpEcho, "udp-ping": udpPing, "join-mcast": joinMcast,
		"rr-serve": rrServe, "rr": rr,
	}
	if len(os.Args) > 1 && os.Args[1] == "init" {
		reap()
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: labprobe init|send|sniff|serve|fetch|udp-echo|udp-ping|join-mcast|rr-serve|rr [-h] [flags]")
		os.Exit(2)
	}
	fs := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	run := commands[os.Args[1]](fs)
	_ = fs.Parse(os.Args[2:]) // It exits by itself.
	if err := run(os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "labprobe %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// reap is the first process of a PID namespace: it collects orphans until it is killed, which kills all.
func reap() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for range ended {
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

func printJSON(out io.Writer, v any) error { return json.NewEncoder(out).Encode(v) }

// deadlineFlag is how long a subcommand may take altogether.
func deadlineFlag(fs *flag.FlagSet, def time.Duration) *time.Duration {
	return fs.Duration("for", def, "end after this time")
}
