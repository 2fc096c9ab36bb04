package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/netopt"
)

func newNetworkCreate(d Deps) *cobra.Command {
	var r adminapi.NetworkRequest
	var ranges, gateways, aux, labels, options []string
	var quiet bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME [SUBNET...]",
		Short: "Create a network on all hosts",
		Long: "Create a network on all hosts, and wait until they have it. Without a subnet, one that is free is chosen.\n" +
			"Containers use it by its name, with 'docker run --network NAME' or 'socketplane run -n NAME'.",
		Example: "  socketplane network create web\n" +
			"  socketplane network create web 10.2.0.0/16\n" +
			"  socketplane network create --internal --ip-range 10.3.1.0/24 db 10.3.0.0/16 fd00:3::/64",
		Args: someArgs(1, -1, "the network's name"),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&r.Internal, "internal", false, "no way out of the network")
	f.BoolVar(&r.IPv6, "ipv6", false, "choose an IPv6 subnet too, if none is given")
	f.StringArrayVar(&ranges, "ip-range", nil, "choose addresses from this part of a subnet")
	f.StringArrayVar(&gateways, "gateway", nil, "gateway of a subnet (default the first address)")
	f.StringArrayVar(&aux, "aux-address", nil, "NAME=ADDRESS that no container gets")
	flags := bindOptions(f)
	f.StringArrayVarP(&options, "opt", "o", nil, "KEY=VALUE as of 'docker network create -o'")
	// It fails only for a flag that does not exist, and this one was made a line above.
	_ = cmd.RegisterFlagCompletionFunc("opt", cobra.FixedCompletions(networkOptions(), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	f.StringArrayVar(&labels, "label", nil, "NAME=VALUE to keep with the network")
	bindQuiet(cmd, &quiet, "print nothing")
	bindWait(cmd, &wait)
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r.Name = args[0]
		err := fill(&r, args[1:], ranges, gateways, aux, labels)
		if err == nil {
			r.Options, err = pairs(options, "--opt")
		}
		if err == nil {
			r.Options, err = flags.options(r.Options)
		}
		if err != nil {
			return &usageError{err}
		}
		c, err := ask(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		made, err := c.CreateNetwork(ctx, r)
		if err != nil {
			return err
		}
		err = settle(cmd.Context(), d, c, wait, quiet, func(n *adminapi.NetworkDetail) (bool, string) { return everywhere(n) }, made.ID)
		if err != nil || quiet {
			return err
		}
		return networkDone(cmd, d, ask, format, made.ID)
	}
	return cmd
}

// networkDone tells of the network that a command has changed: its name, or as it is now.
func networkDone(cmd *cobra.Command, d Deps, ask asker, f *format, id string) error {
	n, err := network(cmd, ask, id)
	if err != nil {
		return err
	}
	n.Hosts = orEmpty(n.Hosts)
	shown := struct {
		Schema int `json:"schema"`
		adminapi.NetworkDetail
	}{adminapi.Schema, n}
	return f.write(d.Stdout, shown, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, plain(title(n)))
		return err
	})
}

// optionFlag is the flag of an option that has one of its own.
type optionFlag struct {
	row   netopt.Row[netopt.Network]
	value string
}

func (o *optionFlag) String() string { return o.value }

// Type is how help names its values.
func (o *optionFlag) Type() string {
	if _, err := strconv.Atoi(o.row.Samples[0]); err == nil {
		return "int"
	}
	return "string"
}

// Set refuses what the agent would refuse.
func (o *optionFlag) Set(value string) error {
	if err := o.row.Check(value); err != nil {
		return fmt.Errorf("it %w", err)
	}
	o.value = value
	return nil
}

type optionFlags []*optionFlag

// bindOptions adds the flags of options.
func bindOptions(f *pflag.FlagSet) (all optionFlags) {
	for _, row := range netopt.Networks() {
		if row.Flag != "" {
			o := &optionFlag{row: row}
			f.Var(o, row.Flag, row.Help)
			all = append(all, o)
		}
	}
	return all
}

// options adds those that flags have given to those of --opt.
func (all optionFlags) options(given map[string]string) (map[string]string, error) {
	for _, o := range all {
		if o.value == "" {
			continue
		}
		if other, both := given[o.row.Key]; both && other != o.value {
			return nil, fmt.Errorf("--%s %s contradicts -o %s=%s: leave one of them out", o.row.Flag, o.value, o.row.Key, other)
		}
		if given == nil {
			given = map[string]string{}
		}
		given[o.row.Key] = o.value
	}
	return given, nil
}

// networkOptions are the options that do something, as a shell completes them.
func networkOptions() []cobra.Completion {
	var all []cobra.Completion
	for _, row := range netopt.Networks() {
		if row.Does() && row.Key != netopt.KeyName { // the name is an argument here
			all = append(all, cobra.CompletionWithDesc(row.Key+"=", row.Help))
		}
	}
	return all
}

// fill reads the arguments of create.
func fill(r *adminapi.NetworkRequest, subnets, ranges, gateways, aux, labels []string) (err error) {
	if r.Subnets, err = parseAll(subnets, "subnet", netip.ParsePrefix); err != nil {
		return err
	}
	if r.Ranges, err = parseAll(ranges, "range", netip.ParsePrefix); err != nil {
		return err
	}
	if r.Gateways, err = parseAll(gateways, "gateway", netip.ParseAddr); err != nil {
		return err
	}
	if r.Aux, err = pairs(aux, "--aux-address"); err != nil {
		return err
	}
	r.Labels, err = pairs(labels, "--label")
	return err
}

func parseAll[T any](texts []string, what string, parse func(string) (T, error)) ([]T, error) {
	var all []T
	for _, text := range texts {
		v, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a %s", text, what)
		}
		all = append(all, v)
	}
	return all, nil
}

func pairs(texts []string, flag string) (map[string]string, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	all := map[string]string{}
	for _, text := range texts {
		k, v, _ := strings.Cut(text, "=")
		if k == "" {
			return nil, fmt.Errorf("%s %q is not NAME=VALUE", flag, text)
		}
		all[k] = v
	}
	return all, nil
}

// everywhere says whether all hosts that are up have the network, and if not, which have not.
func everywhere(n *adminapi.NetworkDetail) (bool, string) {
	if n == nil {
		return false, "it was removed meanwhile"
	}
	var without []string
	for _, h := range n.Hosts {
		if h.Alive && h.State == "absent" {
			without = append(without, h.Name)
		}
	}
	if len(without) == 0 {
		return true, ""
	}
	text := "not yet on " + strings.Join(without, ", ")
	if n.Trouble != "" {
		text += "; here: " + n.Trouble
	}
	return false, text
}
