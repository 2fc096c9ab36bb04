package netopt

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// How the table names the values of an option of another driver.
const (
	only = "only "
	none = "none"
)

// Bounds of an MTU in bytes: IPv4's smallest that every host must reassemble (RFC 791), IPv6's smallest (RFC 8200), and
// the largest packet.
const (
	MinMTU     = 576
	MinMTUIPv6 = 1280
	MaxMTU     = 65535
)

// samples are the values that are accepted, where Values names them.
func samples(values string) []string {
	if value, is := strings.CutPrefix(values, only); is {
		return []string{value}
	}
	return nil
}

// maxName is the longest name of a link in bytes: the kernel's IFNAMSIZ less the final zero.
const maxName = 15

// nameForm is what Docker takes for a network's name.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

func setName(n *Network, value string) error {
	if !nameForm.MatchString(value) {
		return errors.New("is not a network's name: use letters, digits, dots, dashes and underscores")
	}
	n.Name = value
	return nil
}

func setMTU(n *Network, value string) error {
	mtu, err := strconv.Atoi(value)
	if err != nil || mtu < MinMTU || mtu > MaxMTU {
		return fmt.Errorf("is not a number from %d to %d", MinMTU, MaxMTU)
	}
	if n.MTU != 0 && n.MTU != mtu {
		return fmt.Errorf("contradicts %d, which another option gives: leave one of them out", n.MTU)
	}
	n.MTU = mtu
	return nil
}

func getMTU(n Network) string {
	if n.MTU == 0 {
		return ""
	}
	return strconv.Itoa(n.MTU)
}

func setPrefix(n *Network, value string) error {
	// Docker adds a number; four digits are more than any container has links.
	if err := linkName(value, maxName-4); err != nil {
		return err
	}
	n.IfPrefix = value
	return nil
}

func setIfName(e *Endpoint, value string) error {
	if err := linkName(value, maxName); err != nil {
		return err
	}
	e.IfName = value
	return nil
}

// linkName refuses what the kernel does not take for a link's name (dev_valid_name), and what it takes and treats in a special way:
// a percent sign makes a pattern, lo is in each namespace already, and all and default are other things below /proc/sys/net.
func linkName(name string, most int) error {
	switch {
	case name == "":
		return errors.New("is empty: give a name such as web0")
	case len(name) > most:
		return fmt.Errorf("has %d bytes: an interface's name has at most %d here", len(name), most)
	case name == "." || name == ".." || name == "lo" || name == "all" || name == "default":
		return errors.New("is reserved by the kernel: choose another name for the interface")
	}
	for _, r := range name {
		if r <= ' ' || r > '~' || strings.ContainsRune(`/:%"'\`, r) {
			return fmt.Errorf("has the character %q, which an interface's name can't have: use letters, digits, dots, dashes and underscores", r)
		}
	}
	return nil
}

// flag is an option whose value must be want, as SocketPlane does just that. otherwise says what it does not do, with the cure.
func flag[T any](want bool, otherwise string) func(*T, string) error {
	return func(_ *T, value string) error {
		got, err := strconv.ParseBool(strings.TrimSpace(value))
		switch {
		case err != nil:
			return errors.New("is neither true nor false")
		case got != want:
			return errors.New("is refused: " + otherwise)
		}
		return nil
	}
}

// oneOf is an option that must have one of these values.
func oneOf[T any](otherwise string, accepted ...string) func(*T, string) error {
	return func(_ *T, value string) error {
		for _, a := range accepted {
			if strings.TrimSpace(value) == a {
				return nil
			}
		}
		return errors.New("is refused: " + otherwise)
	}
}

// engines is an option that Docker itself reads, for networks of any driver.
func engines[T any](*T, string) error { return nil }
