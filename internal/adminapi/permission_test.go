package adminapi

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
)

// TestPermission asks for the sentence alone: root, as which tests run, is never refused.
func TestPermission(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EPERM} {
		err := NewClient("/a.sock").unreachable(fmt.Errorf("dial: %w", errno))
		want := "only root may ask the agent (permission denied on /a.sock): run this command as root, for example with sudo"
		if err.Error() != want || !errors.Is(err, ErrUnreachable) || !errors.Is(err, errno) {
			t.Errorf("%v: got %v", errno, err)
		}
	}
}
