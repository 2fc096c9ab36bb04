package lab

import (
	"os"
	"testing"
	"time"
)

// TestAge: what the kernel tells of this process's start is in the past, and not far.
func TestAge(t *testing.T) {
	first := identify(os.Getpid())
	const tick = 10 * time.Millisecond
	if age := first.age(); age < -tick || age > time.Hour {
		t.Errorf("this process is %v old", age)
	}
	if age := identify(1).age(); age+tick < first.age() {
		t.Errorf("the first process is %v old, this one %v", age, first.age())
	}
}
