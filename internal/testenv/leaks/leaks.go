// Package leaks owns the tests' demand that no goroutine is left. It gives those that are ending the time that they take on a busy machine:
// what stays, stays longer.
//
// It may import go.uber.org/goleak, and must know nothing of the packages under test.
package leaks

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines may take to end. goleak itself waits less than half a second.
const patience = 20 * time.Second

// Main is TestMain for packages that demand it of all their tests together.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := Find(); err != nil {
			fmt.Fprintf(os.Stderr, "after all tests: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Find is goleak.Find with more patience.
func Find(options ...goleak.Option) (err error) {
	for began := time.Now(); time.Since(began) < patience; {
		if err = goleak.Find(options...); err == nil {
			return nil
		}
	}
	return err
}
