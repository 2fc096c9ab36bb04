package proxy_test

import (
	"bufio"
	"net"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/internal/proxy"
)

const lateBy = 300 * time.Millisecond

// server answers each line with its name, and tells of it.
type server struct {
	net.Listener
	heard chan string
}

func newServer(t *testing.T, name string) *server {
	t.Helper()
	s := &server{Listener: listen(t), heard: make(chan string, 10)}
	t.Cleanup(func() { _ = s.Close() })
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					s.heard <- lines.Text()
					_, _ = c.Write([]byte(name + "\n")) // the client may be gone
				}
			}()
		}
	}()
	return s
}

func (s *server) dial() (net.Conn, error) { return net.Dial("tcp", s.Addr().String()) }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// say sends a line and waits for the answer; there is none, or none in time, if it is empty.
func say(t *testing.T, c net.Conn, line string, patience time.Duration) string {
	t.Helper()
	_, _ = c.Write([]byte(line + "\n")) // who is cut off hears nothing
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	answer, _ := bufio.NewReader(c).ReadString('\n')
	return answer
}

func TestModes(t *testing.T) {
	for name, test := range map[string]struct {
		mode          proxy.Mode
		answer, heard bool // answer: within half of lateBy
	}{
		"pass": {proxy.Pass, true, true}, "mute": {proxy.Mute, false, true},
		"late": {proxy.Late, false, true}, "closed": {proxy.Closed, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, "a")
			p := proxy.New(t, listen(t), s.dial, lateBy)
			p.Set(test.mode)
			c, err := net.Dial("tcp", p.Addr())
			if err != nil {
				t.Fatal(err)
			}
			patience := lateBy / 2
			if test.answer {
				patience = 10 * time.Second
			}
			if got := say(t, c, "hello", patience); (got == "a\n") != test.answer {
				t.Errorf("the answer is %q", got)
			}
			_ = c.Close() // it has given up
			limit := 10 * time.Second
			if !test.heard {
				limit = 2 * lateBy
			}
			select {
			case got := <-s.heard:
				if !test.heard || got != "hello" {
					t.Errorf("the server heard %q", got)
				}
			case <-time.After(limit):
				if test.heard {
					t.Error("the server heard nothing")
				}
			}
		})
	}
}

// TestCut: connections end, and the next ones go where they are sent by then.
func TestCut(t *testing.T) {
	a, b := newServer(t, "a"), newServer(t, "b")
	p := proxy.New(t, listen(t), a.dial, lateBy)
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := say(t, c, "hello", 10*time.Second); got != "a\n" {
		t.Fatalf("the answer is %q", got)
	}
	p.To(b.dial)
	if got := say(t, c, "hello", 10*time.Second); got != "a\n" {
		t.Errorf("a connection that was there answers %q", got)
	}
	p.Cut()
	if got := say(t, c, "hello", 10*time.Second); got != "" {
		t.Errorf("a connection that was cut answers %q", got)
	}
	again, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := say(t, again, "hello", 10*time.Second); got != "b\n" {
		t.Errorf("a new connection answers %q", got)
	}
}
