package config

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
)

// masked is what a Secret shows in every printed form.
const masked = "***"

// Secret holds a value that must not reach logs, errors or answers. Every printed form (all verbs of fmt, JSON, text,
// slog) is "***"; only [Secret.Reveal] gives the value. The zero Secret is empty and also prints as "***", so
// that output does not tell whether one is set. It is safe for concurrent use.
//
// The value sits behind a pointer: fmt does not call methods on unexported fields of a caller's struct,
// and then prints an address instead of the value.
type Secret struct{ value *string }

// NewSecret wraps value.
func NewSecret(value string) Secret { return Secret{value: &value} }

// Reveal returns the value, "" for the zero Secret.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsSet reports whether there is a value that is not empty.
func (s Secret) IsSet() bool { return s.Reveal() != "" }

// Secrets returns the values of all secrets that are set, so that a text can be searched for them.
func (c Config) Secrets() []string {
	var all []string
	fields := reflect.ValueOf(c)
	for i := range fields.NumField() {
		if s, ok := fields.Field(i).Interface().(Secret); ok && s.IsSet() {
			all = append(all, s.Reveal())
		}
	}
	return all
}

// String implements [fmt.Stringer].
func (Secret) String() string { return masked }

// GoString implements [fmt.GoStringer].
func (Secret) GoString() string { return masked }

// Format implements [fmt.Formatter]: %d and %x would otherwise look into the struct.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, masked) }

// MarshalText implements [encoding.TextMarshaler], which JSON uses too, also for keys of maps.
func (Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(masked) }
