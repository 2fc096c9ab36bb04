// Package netopt owns the options that users give to a network (-o, --ipam-opt) and to a container's endpoint on it
// (driver-opt): a table with one row for each option that is known, ours and those of Docker's other drivers.
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

// Merge says what follows when a second host creates a network that the cluster has, and what its copies get.
type Merge string

// The rules of merging.
const (
	// Same options are those of the whole network: copies get them. Another host gives the same or leaves it out.
	Same Merge = "the same on all hosts, or left out"
	// Here says something of this one command only: no copy gets it.
	Here Merge = "of this command only"
)

// Row is one option.
type Row[T any] struct {
	Key string
	// Values says which are accepted.
	Values string
	// Help says what it does, or why other values are refused.
	Help  string
	Merge Merge
	// Since is the API version of the first Docker Engine that does what the option asks, "" for all.
	Since string

	set func(into *T, value string) error
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
