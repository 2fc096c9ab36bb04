package store

import (
	"fmt"
	"io"
	"log/slog"
)

const hidden = "***"

// Secret is a value of a record that must not reach logs, errors or answers: every printed form, also JSON, is "***".
// Records that hold one are written and read by functions of their own, which carry the value. The
// zero Secret is empty.
//
// The value sits behind a pointer: fmt calls no methods on unexported fields of a struct, and then prints an address.
type Secret struct{ value *string }

// NewSecret wraps value; an empty one gives the zero Secret.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: &value}
}

// Reveal returns the value.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// String implements fmt.Stringer.
func (Secret) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return hidden }

// Format implements fmt.Formatter: %x would otherwise look into the struct.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText implements encoding.TextMarshaler, which JSON uses too.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
