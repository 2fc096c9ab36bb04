package plugin

import (
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/socketplane/socketplane/test/lab"
)

// silent takes connections on /run/silent.sock of a host, and never says a word on them. It notes whether the plugin listened when it came: a plugin that
// waits for something before it serves Docker does not, however soon it gives up.
type silent struct {
	l  net.Listener
	mu sync.Mutex
	// come counts connections, deaf those for which the plugin did not listen to Docker yet.
	come, deaf int
	conns      []net.Conn
}

// beSilent begins; it ends with the test.
func beSilent(t *testing.T, h *lab.Host) *silent {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(h.Dir, "run/silent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &silent{l: l}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			s.take(conn, h.Listening(lab.PluginSocket))
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		done.Wait()
		s.reset()
	})
	return s
}

func (s *silent) take(conn net.Conn, listens bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, conn) // open, so that the plugin waits
	s.come++
	if !listens {
		s.deaf++
	}
}

// reset forgets what was before, and closes connections of processes that have ended.
func (s *silent) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.come, s.deaf, s.conns = 0, 0, nil
}

// check demands that the plugin listened to Docker whenever it came here.
func (s *silent) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Logf("it came to the silent socket %d times", s.come)
	if s.deaf > 0 {
		t.Errorf("%d of %d times the plugin came to the silent part before it listened to Docker", s.deaf, s.come)
	}
}

// came says whether the plugin has come.
func (s *silent) came() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.come == 0 {
		return errors.New("it never did")
	}
	return nil
}
