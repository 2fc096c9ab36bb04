package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Sources are where values come from. A nil func has none.
type Sources struct {
	// Flag returns a flag's value, and whether it was given on the command line (not its default).
	Flag func(name string) (string, bool)
	// Env is shaped like [os.LookupEnv]. An empty variable counts as not set, as Docker and Consul have it.
	Env func(name string) (string, bool)
}

// Load merges flags over the environment over the defaults, completes and validates the result. With names only these
// flags' settings are read: a wrong variable for the agent must not stop the command that asks it how it does.
// The error joins everything that is wrong; each part is an [*Error].
func Load(src Sources, names ...string) (Config, error) {
	c := Defaults()
	var errs []error
	from := map[string]string{}
	for _, s := range Settings() {
		if len(names) > 0 && !slices.Contains(names, s.Flag) {
			continue
		}
		value, where, ok := s.lookup(src)
		if !ok {
			continue
		}
		from[s.key()] = where
		if err := s.set(&c, value); err != nil {
			errs = append(errs, s.wrong(value, where, err))
		}
	}
	if err := c.Complete(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Validate(); err != nil {
		errs = append(errs, located(err, from))
	}
	return c, errors.Join(errs...)
}

// Error is one setting's wrong value.
type Error struct {
	// Flag is the flag's name without dashes, empty if it has none.
	Flag string
	// Env is our environment variable.
	Env string
	// Value is the value as it was given; "***" for a secret.
	Value string
	// From is the flag or variable that gave the value; empty if that is not known.
	From string
	// Allowed says what is.
	Allowed string
}

// Error names the value, where it came from, what is allowed, and where to set it.
func (e *Error) Error() string {
	names := e.Env
	if e.Flag != "" {
		names = "--" + e.Flag + " or " + e.Env
	}
	if e.From == "" {
		return fmt.Sprintf("%s: %q is not %s", names, e.Value, e.Allowed)
	}
	return fmt.Sprintf("%s: %q is not %s: set %s", e.From, e.Value, e.Allowed, names)
}

// lookup returns the value that wins and the name of the flag or variable that gave it.
func (s Setting) lookup(src Sources) (value, where string, ok bool) {
	if s.Flag != "" && src.Flag != nil {
		if v, ok := src.Flag(s.Flag); ok {
			return v, "--" + s.Flag, true
		}
	}
	if src.Env == nil {
		return "", "", false
	}
	for _, name := range s.Env {
		if v, ok := src.Env(name); ok && strings.TrimSpace(v) != "" {
			return v, name, true
		}
	}
	return "", "", false
}

func (s Setting) key() string { return s.Env[0] }

func (s Setting) wrong(value, where string, allowed error) *Error {
	if s.secret {
		value = masked
	}
	return &Error{Flag: s.Flag, Env: s.key(), Value: value, From: where, Allowed: allowed.Error()}
}

// located adds to the errors of Validate where the values came from, which Validate cannot know.
func located(err error, from map[string]string) error {
	var parts []error
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		parts = j.Unwrap()
	}
	for _, part := range parts {
		if e := (*Error)(nil); errors.As(part, &e) {
			e.From = from[e.Env]
		}
	}
	return err
}
