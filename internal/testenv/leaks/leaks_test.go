package leaks_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/socketplane/socketplane/internal/testenv/leaks"
)

// TestFind: a goroutine that ends soon is none that is left. goleak, which waits for less, tells that it was there.
func TestFind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	end := make(chan struct{})
	go func() { <-end }()
	if goleak.Find(before) == nil {
		t.Fatal("a goroutine that waits is not found, so this test proves nothing")
	}
	time.AfterFunc(time.Second, func() { close(end) })
	if err := leaks.Find(before); err != nil {
		t.Error(err)
	}
}
