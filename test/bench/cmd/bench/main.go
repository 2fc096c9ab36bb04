// Bench runs the benchmarks and writes their page, docs/benchmarks.md.
//
// It owns its command line only; the rest is test/bench.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/test/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	opts := bench.Options{Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	out := fs.String("o", "", "write the page to this file (default standard output)")
	onlyScale := fs.Bool("scale", false, "measure large clusters only, and write their section of the page -o anew")
	limit := fs.Duration("for", time.Hour, "give up after this time")
	fs.IntVar(&opts.Rounds, "rounds", 0, "how often each figure of traffic is taken (default 5)")
	fs.DurationVar(&opts.Throughput, "throughput", 0, "length of each measurement of throughput (default 2s)")
	fs.DurationVar(&opts.Rate, "rate", 0, "length of each measurement of the request-response rate (default 1s)")
	fs.IntVar(&opts.Calls, "calls", 0, "endpoints made one after the other (default 150)")
	fs.IntVar(&opts.Reach, "reach", 0, "how often the time to the first reply is taken (default 20)")
	fs.IntVar(&opts.Endpoints, "endpoints", 0, "endpoints when memory is read (default 1000)")
	fs.StringVar(&opts.Agent, "agent", "", "socketplane binary (default: built from the checkout)")
	only := fs.Bool("addresses", false, "measure addresses only, and write their section of the page anew")
	onlyPlugin := fs.Bool("plugin", false, "measure the managed plugin only, and write its section of the page -o anew")
	onlyCluster := fs.Bool("cluster", false, "measure the cluster that hosts form only, and write its section of the page -o anew")
	if err := fs.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	if *only {
		return addresses(ctx, opts, *out)
	}
	if *onlyPlugin {
		figures, err := bench.MeasurePlugin(ctx, opts)
		if err != nil {
			return err
		}
		return bench.RewritePage(*out, figures.Replace)
	}
	if *onlyCluster {
		figures, err := bench.MeasureCluster(ctx, opts)
		if err != nil {
			return err
		}
		return bench.RewritePage(*out, figures.Replace)
	}
	if *onlyScale {
		figures, err := bench.MeasureScale(ctx, opts)
		if err != nil {
			return err
		}
		return bench.RewritePage(*out, figures.Replace)
	}
	report, err := bench.Run(ctx, opts)
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := report.Write(&page); err != nil {
		return err
	}
	if *out == "" {
		_, err := page.WriteTo(os.Stdout)
		return err
	}
	if err := os.WriteFile(*out, page.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// addresses measures addresses only.
func addresses(ctx context.Context, opts bench.Options, out string) error {
	figures, err := bench.MeasureAddresses(ctx, opts)
	if err != nil {
		return err
	}
	var old []byte
	if out != "" {
		if old, err = os.ReadFile(out); err != nil {
			return fmt.Errorf("read the page: %w", err)
		}
	}
	page, err := figures.Replace(string(old))
	if err != nil {
		return err
	}
	if out == "" {
		_, err := fmt.Print(page)
		return err
	}
	if err := os.WriteFile(out, []byte(page), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
