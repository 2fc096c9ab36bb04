package testenv

import (
	"errors"
	"strings"
	"testing"
)

// Wants ends the test if err does not wrap want, and fails it if err lacks one of the texts.
func Wants(t testing.TB, err, want error, texts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want one that wraps %q", err, want)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
}
