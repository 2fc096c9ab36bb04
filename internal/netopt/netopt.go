// Package netopt owns the options that users give to a network (-o, --ipam-opt) and to a container's endpoint on it
// (driver-opt): a table with one row for each option that is known, ours and those of Docker's other drivers.
//
// A row is all there is of an option: its key, which values are accepted, what they set, the rule by which several hosts' values go together, its flag and its help.
// Whatever takes options ranges over the rows: the driver, address management, internal/mirror for copies, internal/operator for requests, the command line for flags and
// completion, docs/options.md. A new option is a new row, and a field of what it sets.
//
// An option is accepted, or refused with the cause and the cure. An option of another driver is accepted only with the values that ask for what
// SocketPlane does anyway. What asks for isolation that would not be there is never ignored. docs/options.md shows the table.
//
// It imports the standard library only. It does no I/O, and knows neither Docker's requests nor the store.
package netopt

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Merge says what follows when a second host creates a network that the cluster has, and what its copies get. docs/options.md shows its text.
type Merge string

// The rules of merging.
const (
	// Same options are those of the whole network: copies get them. Another host gives the same or leaves it out.
	Same Merge = "gives the same or leaves it out"
	// Each host has its own value; copies get that of the network's first host.
	Each Merge = "may give another; copies have the first host's"
	// Implied options can differ on no host: one value only is accepted, or the network's subnets say it, which are the same on all hosts. Copies get them.
	Implied Merge = "can give nothing else"
	// Here says something of this one command only: no copy gets it.
	Here Merge = "gives its own; copies have none"
)

// Copied says whether copies of a network get the option.
func (m Merge) Copied() bool { return m != Here }

// agree says whether a host can ask for a value, "" for none, of a network that was made with another, "" for none.
func (m Merge) agree(made, asked string) bool { return m != Same || asked == "" || asked == made }

// Row is one option.
type Row[T any] struct {
	Key string
	// Values says which are accepted.
	Values string
	// Help says what it does, or why other values are refused.
	Help string
	// Samples are some of the values that are accepted, for examples and tests; none where no value is.
	Samples []string
	Merge   Merge
	// Flag is the command line's own flag for it, "" for none.
	Flag string
	// Since is the API version of the first Docker Engine that does what the option asks, "" for all.
	Since string

	set func(into *T, value string) error
	// get is what was set, as a value of the option, or "". It is nil where nothing is kept of it, and must not be nil with the rule Same.
	get func(from T) string
	// fits says why what was set contradicts the families of the network's subnets; nil where the option has nothing to do with them.
	fits func(from T, v4, v6 bool) error
}

// Check says why a value is refused, nil if it is accepted by itself: other options and the network's subnets may contradict it.
func (r Row[T]) Check(value string) error {
	var into T
	return r.set(&into, value)
}

// parse reads options by the table. flag is how the user gave them.
func parse[T any](flag string, rows []Row[T], options map[string]string, into *T) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		row, known := find(rows, key)
		if !known {
			return fmt.Errorf("unknown option %s %.100s: SocketPlane knows %s; leave it out", flag, key, own(rows))
		}
		if err := row.set(into, options[key]); err != nil {
			return fmt.Errorf("%s %s=%.100q %w", flag, key, options[key], err)
		}
	}
	return nil
}

// agree says which option keeps what a host asks for from going with what was made before, by the rules of the rows; nil if none does.
func agree[T any](flag string, rows []Row[T], made, asked T) error {
	for _, r := range rows {
		if r.get == nil || r.Merge.agree(r.get(made), r.get(asked)) {
			continue
		}
		as := fmt.Sprintf("without %s %s, not with", flag, r.Key)
		if value := r.get(made); value != "" {
			as = fmt.Sprintf("with %s %s=%s, not", flag, r.Key, value)
		}
		return fmt.Errorf("made %s %s: leave it out here, or give the same", as, r.get(asked))
	}
	return nil
}

func find[T any](rows []Row[T], key string) (Row[T], bool) {
	i := slices.IndexFunc(rows, func(r Row[T]) bool { return r.Key == key })
	if i < 0 {
		return Row[T]{}, false
	}
	return rows[i], true
}

// own lists the options that do something here.
func own[T any](rows []Row[T]) string {
	var keys []string
	for _, r := range rows {
		if r.Does() {
			keys = append(keys, r.Key)
		}
	}
	return strings.Join(keys, ", ")
}

// Does says whether the option does something here: one of another driver asks for what SocketPlane does anyway.
func (r Row[T]) Does() bool { return !strings.HasPrefix(r.Values, only) && r.Values != none }
