// VM runs one command on Debian's own kernel; its output and exit status are this program's (125: the VM itself failed).
//
//	go run ./test/vm/cmd/vm [flags] COMMAND [ARG…]
//
// It owns nothing: package test/vm does all, and says what the command finds inside.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/socketplane/socketplane/test/vm"
)

func main() {
	var o vm.Options
	flag.IntVar(&o.Memory, "memory", 0, "memory of the VM in MiB; files written inside count, too (default 3072)")
	flag.IntVar(&o.CPUs, "cpus", 0, "processors of the VM (default 2)")
	flag.DurationVar(&o.Timeout, "timeout", 0, "the VM is ended after this time (default 15m)")
	flag.StringVar(&o.Out, "out", "", "directory of this machine that the command can write to as /out")
	verbose := flag.Bool("v", false, "say how long it took")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: vm [flags] COMMAND [ARG…]")
		flag.PrintDefaults()
		os.Exit(2)
	}
	if *verbose {
		o.Log = func(format string, args ...any) { fmt.Fprintf(os.Stderr, "vm: "+format+"\n", args...) }
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := vm.Run(ctx, o, flag.Args()...)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
	}
	os.Exit(status)
}
