package adminapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// deadlined remembers until when it may be written to.
type deadlined struct {
	*httptest.ResponseRecorder
	until *time.Time
}

func (d deadlined) SetWriteDeadline(at time.Time) error {
	*d.until = at
	return nil
}

// TestWriteDeadlines: a client that does not read its answer holds the agent for a limited time, which the longest answer fits in.
func TestWriteDeadlines(t *testing.T) {
	h := timed(http.NewServeMux())
	for path, limit := range map[string]time.Duration{pathInfo: answerTimeout, pathDoctor: doctorTimeout, pathEndpoints: listTimeout, pathSupport: supportTimeout} {
		limit += writeTimeout
		begin := time.Now()
		var until time.Time
		h.ServeHTTP(deadlined{httptest.NewRecorder(), &until}, httptest.NewRequest("GET", path, nil))
		if until.Before(begin.Add(limit)) || until.After(time.Now().Add(limit)) {
			t.Errorf("%s may be answered until %v, begun at %v, with a limit of %v", path, until, begin, limit)
		}
	}
}
