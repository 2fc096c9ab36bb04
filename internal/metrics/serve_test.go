package metrics

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestScraperThatStops: whoever asks and then does not read the answer holds up its handler, and with that the agent's restart, for a
// limited time.
func TestScraperThatStops(t *testing.T) {
	ended := make(chan error, 1)
	large := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for range 64 {
			if _, err := w.Write(chunk); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	})
	srv := httptest.NewServer(writeWithin(100*time.Millisecond, large))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /metrics HTTP/1.1\r\nHost: agent\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("64 MiB were written to somebody who does not read")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the handler waits for somebody who does not read")
	}
}

// deadlined remembers until when it may be written to.
type deadlined struct {
	*httptest.ResponseRecorder
	until *time.Time
}

func (d deadlined) SetWriteDeadline(at time.Time) error {
	*d.until = at
	return nil
}

// TestMetricsDeadlines: what holds the agent has a limit; a profile, which holds nothing, lasts as long as it was asked to.
func TestMetricsDeadlines(t *testing.T) {
	h := Answers{
		Gather: func() (prometheus.Gatherer, func()) { return New().Gatherer(nil), func() {} },
		Ready:  func(context.Context) error { return nil }, Pprof: true,
	}.handler()
	for path, limit := range map[string]time.Duration{
		"/metrics": metricsLimit, "/healthz": metricsLimit, "/readyz": metricsLimit, "/debug/pprof/cmdline": 0, "/debug/pprof/": 0,
	} {
		begin := time.Now()
		until := begin.Add(-time.Hour) // of a former request on the connection
		h.ServeHTTP(deadlined{httptest.NewRecorder(), &until}, httptest.NewRequest("GET", path, nil))
		if limit == 0 && !until.IsZero() || limit > 0 && (until.Before(begin.Add(limit)) || until.After(time.Now().Add(limit))) {
			t.Errorf("%s may be answered until %v, begun at %v, with a limit of %v", path, until, begin, limit)
		}
	}
}
